"""Accuracy over the radius of the ball, under PGD-20. Shapes: N images, C channels, H by W pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from trainables.evaluation.core import figures
from trainables.evaluation.core.evaluation_attack import unattacked, withstands
from trainables.evaluation.core.intervals import wilson
from trainables.evaluation.core.results import REFUSED, Cell, Progress, Table, no_progress
from trainables.evaluation.robustness.gradient_ascent import ascent, start_noise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plotly.graph_objects import Figure
    from torch import nn

    from trainables.attacks import Norm
    from trainables.data import Split

__all__ = ["AccuracyCurve", "accuracy_curve"]

_MULTIPLES: Final = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
_NEAR_ZERO: Final = 0.01
_STEPS: Final = 20


@dataclass(frozen=True, slots=True)
class AccuracyCurve:
    """Number of images, of `num_images`, that withstand PGD-20 in balls of growing radii.

    An image that a smaller ball has broken counts as broken in the larger balls, which hold it. So the curve falls,
    and is on or below the accuracy of attacks at one radius alone.

    Raises:
        ValueError: radii that do not grow, counts that do, or unequal lengths.

    >>> AccuracyCurve("linf", 10, (0.0, 0.1), (9, 4)).metrics()
    {'robust/curve@0': 0.9, 'robust/curve@0.1': 0.4}
    """

    norm: Norm
    num_images: int
    epsilons: tuple[float, ...]
    robust: tuple[int, ...]
    refusals: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        grow = all(low < high for low, high in pairwise(self.epsilons))
        fall = all(more >= fewer for more, fewer in pairwise(self.robust))
        if not (grow and fall and len(self.epsilons) == len(self.robust)):
            raise ValueError(f"curve: radii must grow and counts must not, got {self.epsilons} and {self.robust}")

    def metrics(self) -> Mapping[str, float]:
        """Return the accuracy at each radius, unless it is refused."""
        if self.refusals:
            return {}
        points = zip(self.epsilons, self.robust, strict=True)
        return {f"robust/curve@{epsilon:g}": count / self.num_images for epsilon, count in points}

    def table(self) -> Table:
        """Return a row for each radius; accuracy in a ball that is more than a point is refused with the claim."""
        rows: list[tuple[Cell, ...]] = []
        for epsilon, count in zip(self.epsilons, self.robust, strict=True):
            numbers = (count / self.num_images, *wilson(count, self.num_images))
            shown = (REFUSED,) * 3 if self.refusals and epsilon > 0 else numbers
            rows.append((epsilon, *shown, self.num_images))
        return Table(("epsilon (pixels)", "accuracy", "95 % from", "95 % to", "images"), tuple(rows))

    def figure(self) -> Figure:
        """Plot the accuracy over the radius, within its 95 % interval."""
        plot = figures.figure(
            figures.titled("Accuracy under PGD-20", self.refusals),
            x=f"epsilon, radius of the {self.norm} ball in pixel units of [0, 1]",
            y="accuracy",
            yaxis_range=[0, 1.02],
        )
        if self.refusals:
            return plot
        accuracy = [count / self.num_images for count in self.robust]
        ends = [wilson(count, self.num_images) for count in self.robust]
        scatter = figures.graph_objects().Scatter
        plot.add_trace(
            scatter(
                x=[*self.epsilons, *self.epsilons[::-1]],
                y=[high for _, high in ends] + [low for low, _ in ends][::-1],
                fill="toself",
                mode="lines",
                line={"width": 0},
                opacity=0.3,
                name="95 % interval",
            )
        )
        plot.add_trace(scatter(x=self.epsilons, y=accuracy, mode="lines+markers", name="still correct"))
        return plot


def accuracy_curve(
    model: nn.Module,
    split: Split,
    *,
    epsilon: float,
    norm: Norm = "linf",
    seed: int = 0,
    refusals: tuple[str, ...] = (),
    progress: Progress = no_progress,
) -> AccuracyCurve:
    """Attack by PGD-20 at multiples of epsilon, from 0 until at most 1 % withstand it or the ball is the box.

    Each image starts from the same noise at every radius, in proportion to it.
    """
    whole = 1.0 if norm == "linf" else math.sqrt(split.images_NCHW[0].numel())
    noise_NCHW = start_noise(split, norm=norm, seed=seed, purpose="pgd-20")
    radii = [*(radius for multiple in _MULTIPLES if (radius := round(multiple * epsilon, 12)) < whole), whole]
    holds_N, robust = withstands(split, unattacked(model)), list[int]()
    for radius in radii:
        progress(f"accuracy at epsilon {radius:g}", 1 - float(holds_N.double().mean()))
        if radius > 0:
            attack = ascent(model, epsilon=radius, norm=norm, steps=_STEPS, noise_NCHW=noise_NCHW)
            holds_N = withstands(split, attack, among_N=holds_N)
        robust.append(int(holds_N.sum()))
        if robust[-1] <= _NEAR_ZERO * len(split):
            break
    progress("accuracy over epsilon", 1.0)
    return AccuracyCurve(norm, len(split), tuple(radii[: len(robust)]), tuple(robust), refusals)
