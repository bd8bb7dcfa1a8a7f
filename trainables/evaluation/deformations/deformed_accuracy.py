"""Suite `deformations`: accuracy on rotated, sheared and zoomed test images.

Verma et al., "Manifold Mixup", 2019, Tables 4 and 9. Each image has one number u in U(-1, 1) for rotation and one for
shear, from the seed alone: its angle is u times the largest. So every model, and every largest angle, meets the same
samples, and results can be compared in pairs. Zoom is deterministic.
Shapes: N images, B of a batch, C channels, H by W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch

from trainables.evaluation.core.evaluation_attack import still_right, withstands
from trainables.evaluation.core.figures import graph_objects, panels
from trainables.evaluation.core.intervals import Proportion
from trainables.evaluation.core.prediction import logits, within
from trainables.evaluation.core.results import Table, no_progress
from trainables.evaluation.deformations.families import FAMILIES, PRIMARY, VARIANTS, Variant, deform, unit_draws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from plotly.graph_objects import Figure
    from torch import Tensor, nn

    from trainables.data import Split
    from trainables.evaluation.core.results import Cell, EvaluationBudget, Progress, Result, Subject

__all__ = ["Deformations", "DeformedAccuracy", "deformations", "suite"]

BATCH_SIZE = 512
PANELS: Final = ("rotation", "shear", "zoom_in", "zoom_out")


@dataclass(frozen=True, slots=True)
class DeformedAccuracy:
    """Share of images classified correctly under one deformation."""

    family: str
    amount: float
    variant: Variant
    right: Proportion

    @property
    def name(self) -> str:
        """Name of the deformation, as in `PAPER`.

        >>> DeformedAccuracy("shear", 0.5, PRIMARY, Proportion(1, 2)).name
        'shear@0.5'
        """
        return f"{self.family}@{self.amount:g}"


@dataclass(frozen=True, slots=True)
class Deformations:
    """Accuracy on the undeformed images, and under each deformation with the samples of `seed`."""

    undeformed: Proportion
    measured: tuple[DeformedAccuracy, ...]
    seed: int
    limits: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    def metrics(self) -> Mapping[str, float]:
        """Return the accuracy of the primary variant, under names such as `deformation/rotation@20`."""
        return {
            f"deformation/{row.name}": row.right.value
            for row in self.measured
            if row.variant == PRIMARY and row.family in PANELS
        }

    def table(self) -> Table:
        """Return rows of the undeformed images, then of all variants."""
        columns = ("deformation", "amount", "amount is", "interpolation", "fill", "images")
        shares = ("accuracy", "low, 95 %", "high, 95 %")
        return Table(
            (*columns, *shares),
            (
                ("none", None, None, None, None, *_cells(self.undeformed)),
                *(
                    (row.family, row.amount, FAMILIES[row.family].unit, *row.variant, *_cells(row.right))
                    for row in self.measured
                ),
            ),
        )

    def figure(self) -> Figure:
        """Plot a panel for each family: accuracy over its amount, with 95 % intervals of the primary variant."""
        plot = panels("Accuracy on deformed images", tuple(family.replace("_", " ") for family in PANELS))
        go = graph_objects()
        for place, family in enumerate(PANELS):
            at = {"row": place // 2 + 1, "col": place % 2 + 1}
            for curve in self._curves(family, go, legend=family == "shear"):
                plot.add_trace(curve, **at)
            plot.update_xaxes(title=FAMILIES[family].unit, tickvals=FAMILIES[family].amounts, **at)
            plot.update_yaxes(title="accuracy", range=[0, 1.05], **at)
        plot.update_layout(legend={"orientation": "h", "y": -0.12}, margin={"b": 110})
        return plot

    def _curves(self, family: str, go: Any, *, legend: bool) -> Iterator[Any]:
        amounts, value = FAMILIES[family].amounts, self.undeformed.value
        name = "not deformed"
        yield go.Scatter(
            x=[amounts[0], amounts[-1]],
            y=[value, value],
            mode="lines",
            line={"dash": "dash", "color": "grey"},
            name=name,
            legendgroup=name,
            showlegend=legend,
        )
        for variant, colour in zip(VARIANTS, ("#1f77b4", "#d95f02", "#7570b3"), strict=True):
            yield self._curve(family, variant, go, name=str(variant), colour=colour, legend=legend)
        if family == "shear":
            name = f"shear by the tangent, {PRIMARY}"
            yield self._curve("tangent_shear", PRIMARY, go, name=name, colour="#1b9e77", legend=legend)

    def _curve(self, family: str, variant: Variant, go: Any, *, name: str, colour: str, legend: bool) -> Any:
        points = [row for row in self.measured if row.family == family and row.variant == variant]
        return go.Scatter(
            x=[row.amount for row in points],
            y=[row.right.value for row in points],
            error_y={
                "array": [row.right.high - row.right.value for row in points],
                "arrayminus": [row.right.value - row.right.low for row in points],
                "visible": variant == PRIMARY,
            },
            mode="lines+markers",
            line={"color": colour},
            name=name,
            legendgroup=name,
            showlegend=legend,
        )


def suite(subject: Subject, budget: EvaluationBudget, progress: Progress, /) -> Mapping[str, Result]:
    """Measure accuracy on deformed test images; the fill 'mean' is that of the training images."""
    mean_C = torch.tensor(subject.train.pixel_statistics()[0])
    result = deformations(
        subject.model, subject.test, mean_C=mean_C, images=budget.images, seed=subject.seed, progress=progress
    )
    return {"deformations": result}


def deformations(
    model: nn.Module,
    test: Split,
    *,
    mean_C: Tensor,
    images: int | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Deformations:
    """Classify `test`, or `images` of them, under each family, amount and variant; `mean_C` is in [0, 1].

    The pixels are deformed in [0, 1], before the model normalises them.
    """
    test, limits = within(test, images)
    cases = [
        (name, amount, variant)
        for name, family in FAMILIES.items()
        for variant in family.variants
        for amount in family.amounts
    ]
    measured = []
    for done, (name, amount, variant) in enumerate(cases):
        progress(f"{name}@{amount:g}, {variant}", done / len(cases))
        deformed = partial(
            deform,
            family=FAMILIES[name],
            amount=amount,
            fill=mean_C if variant.fill == "mean" else 0.0,
            interpolation=variant.interpolation,
        )
        unit_N = unit_draws(len(test), family=FAMILIES[name], seed=seed)
        measured.append(DeformedAccuracy(name, amount, variant, _right(model, test, unit_N, deformed=deformed)))
    progress("deformations", 1.0)
    undeformed = int((logits(model, test).argmax(1) == test.labels_N).sum())
    return Deformations(Proportion(undeformed, len(test)), tuple(measured), seed=seed, limits=limits)


def _right(
    model: nn.Module, split: Split, unit_N: Tensor, *, deformed: Callable[[Tensor, Tensor], Tensor]
) -> Proportion:
    unit_N = unit_N.to(split.labels_N.device)

    def attack(x: Tensor, y_B: Tensor, index_B: Tensor) -> Tensor:
        return still_right(model, deformed(x, unit_N[index_B]), y_B)

    return Proportion(int(withstands(split, attack, batch_size=BATCH_SIZE).sum()), len(split))


def _cells(right: Proportion) -> tuple[Cell, ...]:
    return right.trials, right.value, right.low, right.high
