"""Protocols of an evaluation: the result of an analysis, and the suite that runs analyses.

An *analysis* is a pure function of a model and images. Its result is a frozen value with numbers to track (`metrics`),
a table of all numbers (`table`) and a plot (`figure`). A *suite* runs the analyses of one subject within a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

    from plotly.graph_objects import Figure

    from trainables.attacks import Norm
    from trainables.data import Split
    from trainables.models import TappedClassifier
    from trainables.snnl import Distance

__all__ = ["REFUSED", "Cell", "EvaluationBudget", "Progress", "Result", "Subject", "Suite", "Table", "no_progress"]

Cell: TypeAlias = str | int | float | None

REFUSED: Final = "refused"
"""Cell of a table in the place of a number whose claim is refused."""

Progress: TypeAlias = Callable[[str, float], None]
"""Progress callback: takes the current step, and the fraction that is done, in [0, 1]."""


def no_progress(step: str, fraction: float, /) -> None:
    """Ignore the progress."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns; a column's name ends in its unit, where it has one.

    Raises:
        ValueError: a row is not as long as there are columns.

    >>> Table(("attack", "accuracy"), (("none", 0.99), ("fgsm", 0.41))).rows[1]
    ('fgsm', 0.41)
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"rows: must have {len(self.columns)} cells ({', '.join(self.columns)}), got {row}")


class Result(Protocol):
    """Result of an analysis."""

    @property
    def limits(self) -> tuple[str, ...]:
        """Parts measured on less than all images, or with less than the full effort, a line each."""

    @property
    def refusals(self) -> tuple[str, ...]:
        """Reasons that refuse the claim of these numbers; the numbers are then in no metric."""

    def metrics(self) -> Mapping[str, float]:
        """Return finite numbers under their tracked names, such as `robust/pgd-20@0.1`."""

    def table(self) -> Table:
        """Return a table of everything that was measured."""

    def figure(self) -> Figure:
        """Plot the numbers: axes with units, and a legend if there are several series."""


@dataclass(frozen=True, slots=True)
class EvaluationBudget:
    """Effort that a suite may spend; `Result.limits` lists every limit that takes effect.

    images: number of test images, class-balanced; None for all.
    restart_images: number of them that meet an attack with restarts, after they withstood all other attacks.
    distortion_images: number of images with a minimal distortion by L-BFGS.
    attack_images: number of images that meet the adaptive attack on the nearest neighbours.
    aa_lite: run the ensemble AA-lite too.
    autoattack: run AutoAttack's standard ensemble too.
    """

    images: int | None = None
    restart_images: int = 200
    distortion_images: int = 32
    attack_images: int = 100
    aa_lite: bool = False
    autoattack: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A trained model, and the images of its evaluation.

    train, val: images it was trained and selected on; nearest neighbours come from `train`, calibration from `val`.
    test: images it has never seen.
    epsilon, norm: the radius of the sweep's attacks, in pixel units.
    outliers: images of other kinds, by name.
    checkpoints: folders of previous epochs of the same trial, by epoch.
    seed: seed of every random choice.
    """

    model: TappedClassifier
    train: Split
    val: Split
    test: Split
    epsilon: float
    norm: Norm = "linf"
    distance: Distance = "sqeuclidean"
    outliers: Mapping[str, Split] = field(default_factory=dict)
    checkpoints: Mapping[int, Path] = field(default_factory=dict)
    seed: int = 0


class Suite(Protocol):
    """Analyses of one kind, by name."""

    def __call__(self, subject: Subject, budget: EvaluationBudget, progress: Progress, /) -> Mapping[str, Result]:
        """Run all analyses."""
