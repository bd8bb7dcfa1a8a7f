"""Suite `units`: comparison of the units of a layer with random directions of its space.

After Szegedy et al. (ICLR 2014, section 3): the images that a unit ranks first, next to those that a random direction
ranks first. They inspected the pictures; here the share of the most frequent class among the top K, the purity, is
compared too.
Shapes: N images, D units, R directions, K top images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from trainables.evaluation.core.figures import graph_objects, panels
from trainables.evaluation.core.prediction import within
from trainables.evaluation.core.results import Cell, EvaluationBudget, Progress, Result, Subject, Table, no_progress
from trainables.evaluation.representation.directions import (
    Treatment,
    chance_tail,
    class_counts,
    gaussian,
    label_entropy,
    non_negative,
    purity,
    rotated,
    tied,
    top_k,
    treated,
)
from trainables.evaluation.representation.group_comparison import Comparison, compare, holm
from trainables.evaluation.representation.layers import read_layers
from trainables.evaluation.representation.top_images import top_images
from trainables.seeding import generator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from plotly.graph_objects import Figure

    from trainables.evaluation.representation.layers import LayerUnits

__all__ = ["TopPurity", "UnitComparison", "UnitPurity", "suite", "unit_purity"]

TOPS: Final = (8, 16)
TREATMENTS: Final[tuple[Treatment, ...]] = ("raw", "standardised")
CONTROLS: Final = ("random", "rotated", "non-negative")
RANDOM_DIRECTIONS: Final = 1000
_COLOURS: Final = {
    "units": "#1f77b4",
    "random": "#d95f02",
    "rotated": "#e6ab02",
    "non-negative": "#66a61e",
    "chance": "black",
}
_LEVEL = 0.05
_EXPLORATORY = (
    "p values take the directions of one network as independent: before a claim, compare networks of five seeds"
)


@dataclass(frozen=True, slots=True, eq=False)
class TopPurity:
    """Purity of the top images of a group of directions.

    entropy: mean label entropy, in nats. above_chance: the share of directions that are purer than 95% of random
    samples of equally many images. tied: the share for which the order of the images, not the score, decides the last
    of the top images (for example if a unit is active for fewer images than that).
    """

    purity_R: Tensor
    entropy: float
    above_chance: float
    tied: float


@dataclass(frozen=True, slots=True, eq=False)
class UnitComparison:
    """Comparison of the units of a layer with one kind of other directions.

    chance: the expected purity of randomly sampled images. test: on the purities; p_holm: its p value,
    corrected for the number of layers.
    """

    tap: str
    treatment: Treatment
    top: int
    control: str
    dead: int
    chance: float
    units: TopPurity
    others: TopPurity
    test: Comparison
    p_holm: float


@dataclass(frozen=True, slots=True, eq=False)
class UnitPurity:
    """Comparisons of all layers; metrics are of raw features, the top 8 and Gaussian directions, as in the paper."""

    comparisons: tuple[UnitComparison, ...]
    limits: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    def metrics(self) -> Mapping[str, float]:
        """Return `units/<tap>_purity_basis`, `units/<tap>_purity_random` and, corrected by Holm, `units/<tap>_p`."""
        named: dict[str, float] = {}
        for row in self._of("raw", TOPS[0], CONTROLS[0]):
            named[f"units/{row.tap}_purity_basis"] = float(row.units.purity_R.mean())
            named[f"units/{row.tap}_purity_random"] = float(row.others.purity_R.mean())
            named[f"units/{row.tap}_p"] = row.p_holm
        return named

    def table(self) -> Table:
        """Return a row for each layer, treatment of the features, K, and kind of other directions."""
        groups = ("purity", "label entropy, nats", "share above chance", "share tied at the cut")
        columns = ("layer", "features", "top images", "compared with", "live units", "dead units", "purity by chance")
        test = ("difference of purity", "p", "p, Holm over layers", "Cliff's delta", "delta, 2.5%", "delta, 97.5%")
        names = tuple(f"{name} of {group}" for group in ("units", "others") for name in groups)
        return Table((*columns, *names, *test), tuple(_cells(row) for row in self.comparisons))

    def figure(self) -> Figure:
        """Plot the mean purity of the top 8 by layer: units, the other directions, and chance."""
        names = tuple(f"{name} features" for name in TREATMENTS)
        plot = panels(f"Purity of the top {TOPS[0]} images", names, height=520)
        go = graph_objects()
        for column, treatment in enumerate(TREATMENTS, start=1):
            for name, heights in self._heights(treatment).items():
                shared = {"x": list(heights), "y": list(heights.values()), "name": name, "legendgroup": name}
                marker = {"color": _COLOURS[name], "symbol": "line-ew-open", "size": 60}
                trace = (
                    go.Scatter(**shared, mode="markers", marker=marker)
                    if name == "chance"
                    else go.Bar(**shared, marker_color=_COLOURS[name])
                )
                plot.add_trace(trace.update(showlegend=column == 1), row=1, col=column)
        plot.update_xaxes(title_text="layer")
        plot.update_yaxes(title_text="mean share of the most frequent class", range=[0, 1])
        return plot

    def _of(self, treatment: str, top: int, control: str) -> list[UnitComparison]:
        key = (treatment, top, control)
        return [row for row in self.comparisons if (row.treatment, row.top, row.control) == key]

    def _heights(self, treatment: Treatment) -> dict[str, dict[str, float]]:
        """Return mean purities by name of the group, then by layer."""
        first = self._of(treatment, TOPS[0], CONTROLS[0])
        heights = {"units": {row.tap: float(row.units.purity_R.mean()) for row in first}}
        for control in CONTROLS:
            rows = self._of(treatment, TOPS[0], control)
            heights[control] = {row.tap: float(row.others.purity_R.mean()) for row in rows}
        return {**heights, "chance": {row.tap: row.chance for row in first}}


def _cells(row: UnitComparison) -> tuple[Cell, ...]:
    def group(of: TopPurity) -> tuple[float, ...]:
        return float(of.purity_R.mean()), of.entropy, of.above_chance, of.tied

    test = row.test
    return (
        *(row.tap, row.treatment, row.top, row.control, len(row.units.purity_R), row.dead, row.chance),
        *group(row.units),
        *group(row.others),
        *(test.difference, test.p, row.p_holm, test.cliffs_delta, test.low, test.high),
    )


def unit_purity(
    layers: Sequence[LayerUnits],
    labels_N: Tensor,
    *,
    directions: int = RANDOM_DIRECTIONS,
    draws: int = 10_000,
    seed: int = 0,
    progress: Progress = no_progress,
) -> UnitPurity:
    """Compare the units of each layer with random, rotated and non-negative directions, at K = 8 and 16.

    'random' directions are even on the sphere, 'rotated' ones are orthonormal like the units, and 'non-negative' ones
    have no negative coordinate, as rectified features. Centred features rank as raw ones, so they have no rows.
    A layer without a live unit is refused.

    Raises:
        ValueError: fewer images than K, or a feature that is not finite.
    """
    alive = [layer for layer in layers if len(layer.units_D)]
    rows: list[UnitComparison] = []
    for done, layer in enumerate(alive):
        progress(f"units of {layer.tap}", done / len(alive))
        for treatment in TREATMENTS:
            rows += _compared(layer, labels_N.cpu(), treatment, directions=directions, draws=draws, seed=seed)
    dead = [layer for layer in layers if not len(layer.units_D)]
    return UnitPurity(
        comparisons=_corrected(rows),
        limits=(*(line for layer in layers for line in layer.limits), _EXPLORATORY),
        refusals=tuple(f"{layer.tap}: none of {layer.sampled} units varies over the images" for layer in dead),
    )


def _compared(
    layer: LayerUnits, labels_N: Tensor, treatment: Treatment, *, directions: int, draws: int, seed: int
) -> list[UnitComparison]:
    features_DN = treated(layer.features_ND, treatment).T.contiguous()
    tails = {top: chance_tail(labels_N.bincount().tolist(), top) for top in TOPS}
    units = {top: _top_purity(features_DN, labels_N, tails[top]) for top in TOPS}
    rows = []
    for control in CONTROLS:
        scores_RN = _directions(control, layer, count=directions, seed=seed) @ features_DN
        for top in TOPS:
            others = _top_purity(scores_RN, labels_N, tails[top])
            test = compare(units[top].purity_R, others.purity_R, seed=seed, draws=draws)
            chance = sum(tails[top][1:]) / top
            rows.append(
                UnitComparison(layer.tap, treatment, top, control, layer.dead, chance, units[top], others, test, test.p)
            )
    return rows


def _directions(control: str, layer: LayerUnits, *, count: int, seed: int) -> Tensor:
    stream, size = generator(seed, f"{control} directions of {layer.tap}"), len(layer.units_D)
    if control == "rotated":
        return rotated(size, size, generator=stream)
    return (gaussian if control == "random" else non_negative)(count, size, generator=stream)


def _top_purity(scores_RN: Tensor, labels_N: Tensor, tail: Sequence[float]) -> TopPurity:
    """Measure the purity of the top K images; `tail` is that of `chance_tail` for K."""
    top = len(tail) - 1
    counts_RC = class_counts(top_k(scores_RN, top), labels_N, num_classes=int(labels_N.max()) + 1)
    return TopPurity(
        purity_R=purity(counts_RC),
        entropy=float(label_entropy(counts_RC).mean()),
        above_chance=float((torch.tensor(tail)[counts_RC.amax(1)] <= _LEVEL).double().mean()),
        tied=float(tied(scores_RN, top).double().mean()),
    )


def _corrected(rows: Sequence[UnitComparison]) -> tuple[UnitComparison, ...]:
    """Correct the p values of the same comparison over the layers."""
    families: dict[tuple[str, int, str], list[int]] = {}
    for index, row in enumerate(rows):
        families.setdefault((row.treatment, row.top, row.control), []).append(index)
    corrected = {
        index: p
        for indices in families.values()
        for index, p in zip(indices, holm([rows[i].test.p for i in indices]), strict=True)
    }
    return tuple(replace(row, p_holm=corrected[index]) for index, row in enumerate(rows))


def suite(subject: Subject, budget: EvaluationBudget, progress: Progress, /) -> Mapping[str, Result]:
    """Compare all hidden layers, and make a sheet of top images for each."""
    split, limits = within(subject.test, budget.images)
    progress("activations", 0.0)
    layers = read_layers(subject.model, split, seed=subject.seed)
    result = unit_purity(
        layers,
        split.labels_N,
        seed=subject.seed,
        progress=lambda step, fraction: progress(step, 0.1 + 0.8 * fraction),
    )
    alive = [layer for layer in layers if len(layer.units_D)]
    sheets = {f"top_images_{layer.tap}": top_images(layer, split, top=TOPS[0], seed=subject.seed) for layer in alive}
    progress("top images", 1.0)
    return {
        "units": replace(result, limits=(*limits, *result.limits)),
        **{name: replace(sheet, limits=(*limits, *sheet.limits)) for name, sheet in sheets.items()},
    }
