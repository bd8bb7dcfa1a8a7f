"""Accuracy on rotated, sheared and zoomed test images (Verma et al., "Manifold Mixup", 2019, Tables 4 and 9).

Each image has one number u in U(-1, 1) for rotation and one for shear, from the seed alone: its angle is
u times the largest. So every model, and every largest angle, meets the same draws, and results can be
compared in pairs. Zoom has no chance in it. Shapes: N images, B of a batch, C channels, H by W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import torch

from trainables.data.deformation import (
    Interpolation,
    rotation_matrices,
    shear_matrices,
    tangent_shear_matrices,
    warp,
    zoom_matrices,
)
from trainables.evaluation.core.evaluation_attack import still_right, withstands
from trainables.evaluation.core.figures import graph_objects, panels
from trainables.evaluation.core.intervals import Proportion
from trainables.evaluation.core.prediction import logits, within
from trainables.evaluation.core.results import Table, no_progress
from trainables.seeding import generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from plotly.graph_objects import Figure
    from torch import Tensor, nn

    from trainables.data import Split
    from trainables.evaluation.core.results import Cell, EvaluationBudget, Progress, Result, Subject

__all__ = [
    "FAMILIES",
    "PAPER",
    "PRIMARY",
    "DeformationFamily",
    "Deformations",
    "DeformedAccuracy",
    "Variant",
    "deform",
    "deformations",
    "suite",
    "unit_draws",
]

BATCH_SIZE = 512


class Variant(NamedTuple):
    """How pixels are read, and what is shown where the image has none: black, or the training images' mean."""

    interpolation: Interpolation
    fill: Literal["black", "mean"]

    def __str__(self) -> str:
        return f"{self.interpolation} on {self.fill}"


PRIMARY: Final = Variant("bilinear", "black")
VARIANTS: Final = (PRIMARY, Variant("bilinear", "mean"), Variant("nearest", "mean"))
"""The last is like the reference code, but for its centre, which is a pixel off."""


class DeformationFamily(NamedTuple):
    """One kind of deformation: what its amounts are, and the matrices of the draws u under an amount."""

    draws: str
    unit: str
    amounts: tuple[float, ...]
    matrices: Callable[[Tensor, float], Tensor]
    variants: tuple[Variant, ...] = VARIANTS


def _turned(u_B: Tensor, degrees: float) -> Tensor:
    return rotation_matrices((u_B * degrees).deg2rad())


def _sheared(u_B: Tensor, radians: float) -> Tensor:
    return shear_matrices(u_B * radians)


def _tangent_sheared(u_B: Tensor, radians: float) -> Tensor:
    return tangent_shear_matrices(u_B * radians)


def _zoomed(u_B: Tensor, factor: float) -> Tensor:
    return zoom_matrices(torch.full_like(u_B, factor))


_SIDE = "side of the box shown / side of the image"

FAMILIES: Final[Mapping[str, DeformationFamily]] = MappingProxyType(
    {
        "rotation": DeformationFamily("rotation", "largest angle, degrees", (20, 40, 60, 80), _turned),
        "shear": DeformationFamily("shear", "largest angle, radians", (0.5, 1, 2, 2.5, 3), _sheared),
        "tangent_shear": DeformationFamily("shear", "largest angle, radians", (0.5, 1), _tangent_sheared, (PRIMARY,)),
        "zoom_in": DeformationFamily("zoom", _SIDE, (0.2, 0.4, 0.6, 0.8), _zoomed),
        "zoom_out": DeformationFamily("zoom", _SIDE, (1.2, 1.4, 1.6, 1.8), _zoomed),
    }
)
"""The paper's grids. Its shear mirrors an image beyond a right angle; torchvision's shear, by the tangent, is a check
below that, and no metric."""

PANELS: Final = ("rotation", "shear", "zoom_in", "zoom_out")

_METHODS = ("none", "input mixup, alpha 1", "input mixup, alpha 2", "manifold mixup, alpha 2")
_TABLES_4_AND_9 = {
    "rotation@20": (52.96, 55.55, 56.48, 60.08),
    "rotation@40": (33.82, 37.73, 36.78, 42.13),
    "rotation@60": (26.77, 28.47, 27.53, 33.78),
    "rotation@80": (24.19, 26.72, 25.34, 29.95),
    "shear@0.5": (55.92, 58.16, 60.01, 62.85),
    "shear@1": (35.66, 39.34, 39.7, 44.27),
    "shear@2": (19.57, 22.94, 22.8, 24.69),
    "shear@2.5": (17.55, 21.66, 21.22, 23.56),
    "shear@3": (22.38, 25.53, 25.27, 28.02),
    "zoom_in@0.2": (2.43, 1.9, 2.45, 2.03),
    "zoom_in@0.4": (4.97, 4.47, 5.23, 4.17),
    "zoom_in@0.6": (12.68, 13.75, 13.12, 11.49),
    "zoom_in@0.8": (47.95, 52.18, 50.47, 52.70),
    "zoom_out@1.2": (43.18, 60.02, 61.62, 63.59),
    "zoom_out@1.4": (19.34, 41.81, 42.02, 45.29),
    "zoom_out@1.6": (11.12, 25.48, 25.85, 27.02),
    "zoom_out@1.8": (7.98, 18.11, 18.02, 15.68),
}
PAPER: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        deformation: MappingProxyType(dict(zip(_METHODS, percent, strict=True)))
        for deformation, percent in _TABLES_4_AND_9.items()
    }
)
"""The paper's accuracies in percent, by deformation and by training method: PreActResNet34 on CIFAR-100."""


@dataclass(frozen=True, slots=True)
class DeformedAccuracy:
    """How many images are classified rightly under one deformation."""

    family: str
    amount: float
    variant: Variant
    right: Proportion

    @property
    def name(self) -> str:
        """As in `PAPER`.

        >>> DeformedAccuracy("shear", 0.5, PRIMARY, Proportion(1, 2)).name
        'shear@0.5'
        """
        return f"{self.family}@{self.amount:g}"


@dataclass(frozen=True, slots=True)
class Deformations:
    """Accuracy as the images are, and under each deformation with the draws of `seed`."""

    undeformed: Proportion
    measured: tuple[DeformedAccuracy, ...]
    seed: int
    limits: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    def metrics(self) -> Mapping[str, float]:
        """Accuracy of the primary variant, under names such as `deformation/rotation@20`."""
        return {
            f"deformation/{row.name}": row.right.value
            for row in self.measured
            if row.variant == PRIMARY and row.family in PANELS
        }

    def table(self) -> Table:
        """All variants, after the images as they are."""
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
        """One panel for each kind: accuracy over its amount, with 95 % intervals of the primary variant."""
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
    """Accuracy on deformed test images; the fill 'mean' is that of the training images."""
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

    What is deformed are pixels in [0, 1], before the model normalises them.
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
    as_they_are = int((logits(model, test).argmax(1) == test.labels_N).sum())
    return Deformations(Proportion(as_they_are, len(test)), tuple(measured), seed=seed, limits=limits)


def unit_draws(num_images: int, *, family: DeformationFamily, seed: int) -> Tensor:
    """U(-1, 1) for each image, float64, on the host: the same whatever the device, the model and the amount.

    >>> unit_N = unit_draws(1000, family=FAMILIES["rotation"], seed=0)
    >>> bool((unit_N.abs() < 1).all()), torch.equal(unit_N, unit_draws(1000, family=FAMILIES["shear"], seed=0))
    (True, False)
    """
    stream = generator(seed, f"deformation/{family.draws}")
    return 2 * torch.rand(num_images, generator=stream, dtype=torch.float64) - 1


def deform(
    x_BCHW: Tensor,
    unit_B: Tensor,
    *,
    family: DeformationFamily,
    amount: float,
    fill: float | Tensor = 0.0,
    interpolation: Interpolation = "bilinear",
) -> Tensor:
    """Deform each image by its draw of one amount; `fill` is one value, or one for each channel (C,).

    Raises:
        ValueError: as `trainables.data.deformation.warp`.

    >>> x_BCHW = torch.tensor([[0.0, 1.0], [0.0, 0.0]]).reshape(1, 1, 2, 2)
    >>> deform(x_BCHW, torch.ones(1), family=FAMILIES["rotation"], amount=90, interpolation="nearest").tolist()
    [[[[0.0, 0.0], [0.0, 1.0]]]]
    """
    return warp(x_BCHW, family.matrices(unit_B, amount), fill=fill, interpolation=interpolation)


def _right(
    model: nn.Module, split: Split, unit_N: Tensor, *, deformed: Callable[[Tensor, Tensor], Tensor]
) -> Proportion:
    unit_N = unit_N.to(split.labels_N.device)

    def attack(x: Tensor, y_B: Tensor, index_B: Tensor) -> Tensor:
        return still_right(model, deformed(x, unit_N[index_B]), y_B)

    return Proportion(int(withstands(split, attack, batch_size=BATCH_SIZE).sum()), len(split))


def _cells(right: Proportion) -> tuple[Cell, ...]:
    return right.trials, right.value, right.low, right.high
