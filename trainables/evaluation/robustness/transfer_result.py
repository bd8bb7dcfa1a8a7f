"""Result of `transfer`: errors of every model on the images that were made for every model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple

from trainables.evaluation.core import figures
from trainables.evaluation.core.intervals import wilson
from trainables.evaluation.core.results import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from plotly.graph_objects import Figure

__all__ = ["KINDS", "SIZES", "Among", "Kind", "Matrix", "Rate", "Size", "Transfer", "TransferCondition", "mean"]

Kind = Literal["attack", "gaussian", "sign"]
Size = Literal["own", "common"]
Among = Literal["all", "right", "fooling"]
KINDS: tuple[Kind, ...] = ("attack", "gaussian", "sign")
SIZES: tuple[Size, ...] = ("own", "common")


class TransferCondition(NamedTuple):
    """Condition of an error: the kind of perturbation, its size, and the images that count.

    among: 'right' are images that all models classify correctly before the attack; 'fooling' those of them that fool
    their source as they were made, also for its noises.
    """

    kind: Kind = "attack"
    size: Size = "own"
    among: Among = "all"


@dataclass(frozen=True, slots=True)
class Rate:
    """Number of images that were classified wrongly, and number of all images.

    >>> rate = Rate(1, 10)
    >>> rate.error, [f"{limit:.4f}" for limit in rate.interval]
    (0.1, ['0.0179', '0.4042'])
    """

    wrong: int
    images: int

    @property
    def error(self) -> float:
        """Fraction of wrong images; NaN of no images."""
        return self.wrong / self.images if self.images else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % score interval of the error; all of [0, 1] for no images."""
        return wilson(self.wrong, self.images)


Matrix = dict[str, dict[str, Rate]]


@dataclass(frozen=True, slots=True)
class Transfer:
    """Error matrices by condition, source and target.

    clean: errors on the images before the attack, by target.
    sizes: root mean square of the perturbation over pixels, its mean over images, by kind, size and source.
    refused: sources whose attack failed on themselves; they are in no metric.
    """

    attack: str
    epsilon: float | None
    clean: Mapping[str, Rate]
    errors: Mapping[TransferCondition, Mapping[str, Mapping[str, Rate]]]
    sizes: Mapping[tuple[Kind, Size], Mapping[str, float]]
    groups: Mapping[str, str]
    limits: tuple[str, ...]
    refused: Mapping[str, str]

    @property
    def err(self) -> Mapping[str, Mapping[str, Rate]]:
        """Plain matrix: `err[source][target]` on all images that were attacked."""
        return self.errors[TransferCondition()]

    @property
    def refusals(self) -> tuple[str, ...]:
        """Reasons of failed attacks, a line for each source."""
        return tuple(self.refused.values())

    def by_group(
        self,
        condition: TransferCondition = TransferCondition(among="right"),  # noqa: B008 - a constant
    ) -> Mapping[tuple[str, str], Mapping[tuple[str, str], float]]:
        """Return the errors of pairs of different models, source and target, for each pair of their groups."""
        names, errors = dict.fromkeys(self.groups.values()), self.errors[condition]
        return {
            groups: {(source, target): errors[source][target].error for source, target in self._pairs(*groups)}
            for groups in product(names, names)
        }

    def metrics(self) -> Mapping[str, float]:
        """Return means over sources and targets, on images that all models classify correctly."""
        name = f"transfer/{self.attack}" + ("" if self.epsilon is None else f"@{self.epsilon:g}")
        right, all_pairs = TransferCondition(among="right"), self._pairs()
        within = [pair for pair in all_pairs if self._group(pair[0]) == self._group(pair[1])]
        values = {
            "own": self._mean(right, [(source, source) for source in self._sources()]),
            "across": self._mean(right, all_pairs),
            "across_common_rms": self._mean(right._replace(size="common"), all_pairs),
            "gaussian": self._mean(right._replace(kind="gaussian"), all_pairs),
            "sign": self._mean(right._replace(kind="sign"), all_pairs),
            "rms": mean(self.sizes["attack", "own"][source] for source in self._sources()),
        }
        if self.groups:
            values["within_groups"] = self._mean(right, within)
            values["between_groups"] = self._mean(right, [pair for pair in all_pairs if pair not in within])
        return {f"{name}_{key}": value for key, value in values.items() if math.isfinite(value)}

    def table(self) -> Table:
        """Return a row for each condition, source and target, and for each target on the clean images."""
        columns = ("perturbation", "size", "among", "made for", "judged by", "error", "low", "high", "images", "rms")
        clean = [("none", "none", "all", None, name, *_cells(rate), 0.0) for name, rate in self.clean.items()]
        rows = [
            (*condition, source, target, *_cells(rate), _number(self.sizes[condition.kind, condition.size][source]))
            for condition, matrix in self.errors.items()
            for source, row in matrix.items()
            for target, rate in row.items()
        ]
        return Table(columns, (*clean, *rows))

    def figure(self) -> Figure:
        """Plot two heat maps on images that all models classify correctly: sizes as made, and one common size."""
        common = mean(self.sizes["attack", "common"].values())
        titles = ("perturbations as they were made", f"all of one size, rms {common:.3f}")
        title = f"Transfer of {self.attack}: errors in %, on images that all classify correctly"
        plot = figures.panels(title, titles, width=1040)
        go, targets = figures.graph_objects(), [self._label(name) for name in self.clean]
        for column, size in enumerate(SIZES, start=1):
            labels = [f"{self._label(name)}, rms {self.sizes['attack', 'own'][name]:.3f}" for name in self.clean]
            rows = [self.errors[TransferCondition("attack", size, "right")][name] for name in self.clean]
            rows += [_pooled(self.errors[TransferCondition(kind, size, "right")]) for kind in KINDS[1:]]
            percent = [[100 * row[name].error for name in self.clean] for row in rows]
            heat = go.Heatmap(
                z=percent,
                x=targets,
                y=[*labels, "Gaussian noise of their size", "random signs of their size"],
                texttemplate="%{z:.0f}",
                colorscale="Blues",
                zmin=0,
                zmax=100,
                showscale=False,
            )
            plot.add_trace(heat, row=1, col=column)
            plot.update_xaxes(title_text="judged by", row=1, col=column)
        plot.update_yaxes(autorange="reversed", automargin=True)
        plot.update_yaxes(showticklabels=False, row=1, col=2)
        return plot.update_yaxes(title_text="made for", row=1, col=1).update_layout(height=220 + 46 * len(rows))

    def _sources(self) -> list[str]:
        return [name for name in self.clean if name not in self.refused]

    def _group(self, name: str) -> str | None:
        return self.groups.get(name)

    def _label(self, name: str) -> str:
        return f"{self.groups[name]}: {name}" if self.groups else name

    def _pairs(self, source_group: str | None = None, target_group: str | None = None) -> list[tuple[str, str]]:
        return [
            (source, target)
            for source, target in product(self._sources(), self.clean)
            if source != target
            and source_group in {None, self._group(source)}
            and target_group in {None, self._group(target)}
        ]

    def _mean(self, condition: TransferCondition, pairs: Iterable[tuple[str, str]]) -> float:
        return mean(self.errors[condition][source][target].error for source, target in pairs)


def _pooled(matrix: Mapping[str, Mapping[str, Rate]]) -> dict[str, Rate]:
    """Return each target's rate over the images of all sources."""
    rows = list(matrix.values())
    return {name: Rate(sum(row[name].wrong for row in rows), sum(row[name].images for row in rows)) for name in rows[0]}


def mean(values: Iterable[float]) -> float:
    """Return the mean of the finite values; NaN if none is finite."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cells(rate: Rate) -> tuple[float | None, float, float, int]:
    return (_number(rate.error), *rate.interval, rate.images)
