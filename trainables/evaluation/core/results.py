"""What an analysis hands back, and what a suite is made of.

An *analysis* is a pure function of a model and images; its result is a frozen value that says its
numbers (`metrics`), shows them all (`table`) and draws them (`figure`). A *suite* runs the analyses of
one subject within a budget.
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
    from trainables.models import StagedClassifier
    from trainables.snnl import Distance

__all__ = ["REFUSED", "Cell", "EvaluationBudget", "Progress", "Result", "Subject", "Suite", "Table", "no_progress"]

Cell: TypeAlias = str | int | float | None

REFUSED: Final = "refused"
"""Cell of a table in the place of a number whose claim is refused."""

Progress: TypeAlias = Callable[[str, float], None]
"""Told what is being done, and the fraction of it that is done, in [0, 1]."""


def no_progress(what: str, fraction: float, /) -> None:
    """Progress that nobody wants to hear of."""


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
    """What an analysis found."""

    @property
    def limits(self) -> tuple[str, ...]:
        """What was measured on less than all images, or with less than the full effort, a line each."""

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why a claim that these numbers would make is refused; the numbers are then in no metric."""

    def metrics(self) -> Mapping[str, float]:
        """Finite numbers under the names they are tracked by, such as `robust/pgd-20@0.1`."""

    def table(self) -> Table:
        """All that was measured."""

    def figure(self) -> Figure:
        """The same as a picture: axes with units, a legend where there are several things."""


@dataclass(frozen=True, slots=True)
class EvaluationBudget:
    """How much effort a suite may spend; every limit that bites is told in `Result.limits`.

    images: how many test images, class-balanced; None for all.
    restart_images: how many of them, that survived everything else, meet an attack with restarts.
    distortion_images: how many get a minimal distortion by L-BFGS.
    attack_images: how many meet the adaptive attack on the nearest neighbours.
    aa_lite: run the strongest ensemble too.
    """

    images: int | None = None
    restart_images: int = 200
    distortion_images: int = 32
    attack_images: int = 100
    aa_lite: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A trained model, and the images it is judged by.

    train, val: what it was trained and selected on; nearest neighbours come from `train`, calibration from `val`.
    test: what it never saw.
    epsilon, norm: the radius of the sweep's attacks, in pixel units.
    outliers: images of other kinds, by name.
    checkpoints: folders of earlier epochs of the same trial, by epoch.
    seed: of every random choice.
    """

    model: StagedClassifier
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
    """The analyses of one kind, by name."""

    def __call__(self, subject: Subject, budget: EvaluationBudget, progress: Progress, /) -> Mapping[str, Result]:
        """Run them all."""
