"""Suite `stability`: the product bound of a classifier's layers, next to the slope that images meet.

The bound holds for every image, and is usually orders of magnitude larger than any measured slope. The local constant
of an image, the norm of the Jacobian at it, is a lower bound of the global one.
Shapes: N images, B of a batch, K classes, D pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from trainables.attacks import evaluating
from trainables.attacks.margins import margin
from trainables.evaluation.core.figures import graph_objects, panels
from trainables.evaluation.core.prediction import batches, logits, within
from trainables.evaluation.core.results import REFUSED, Cell, Table
from trainables.evaluation.stability.lipschitz import Constant, UnknownConstant, constants
from trainables.models.tapped import LOGITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from plotly.graph_objects import Figure
    from torch import Tensor, nn

    from trainables.attacks import Norm
    from trainables.data import Split
    from trainables.evaluation.core.results import EvaluationBudget, Progress, Result, Subject
    from trainables.models import TappedClassifier

__all__ = ["Stability", "certified_radii", "euclidean_radius", "local_constants", "stability", "suite"]

LOCAL_IMAGES = 100
_BATCH = 32
_NEVER_STRETCHING = frozenset({"ReLU", "tanh", "flatten", "identity", "dropout"})


@dataclass(frozen=True, slots=True)
class Stability:
    """Bounds by stage, local constants by image, and the radii that the bound certifies.

    local_N: norm of the Jacobian from pixels to logits at each of some images.
    radii_N: Euclidean radius in which no change of each image alters its label; 0 if the label is wrong.
    epsilon: the Euclidean radius that holds the ball of the sweep's attacks.
    unbounded: the reason why the network has no bound of this kind, and `stages` and `radii_N` are empty; else None.
    """

    stages: tuple[Constant, ...]
    local_N: tuple[float, ...]
    radii_N: tuple[float, ...]
    epsilon: float
    limits: tuple[str, ...] = ()
    unbounded: str | None = None

    @property
    def bound(self) -> float:
        """Product over all stages; infinite if it exceeds float64, or is not known."""
        return math.inf if self.unbounded else math.prod(stage.bound for stage in self.stages)

    @property
    def log10_bound(self) -> float:
        """Order of magnitude of the bound, also if the product exceeds float64; -inf for 0."""
        return math.inf if self.unbounded else sum(stage.log10_bound for stage in self.stages)

    @property
    def refusals(self) -> tuple[str, ...]:
        """The reason why there is no bound, or numbers that are not finite, a line each."""
        if self.unbounded:
            return (f"stability/bound: {self.unbounded}",)
        unusable = [name for name, value in self._numbers().items() if not math.isfinite(value)]
        return tuple(f"{name}: must be finite to be tracked, got {self._numbers()[name]}" for name in unusable)

    def metrics(self) -> Mapping[str, float]:
        """Return the bound, each stage's share of it, the local constants, and the fraction of images certified.

        Without a bound, return the local constants alone.
        """
        return {name: value for name, value in self._numbers().items() if math.isfinite(value)}

    def table(self) -> Table:
        """Return a row for each layer, and for each stage the product up to its end."""
        columns = (
            "stage",
            "layer",
            "kind",
            "input shape",
            "bound",
            "guarantee",
            "estimate from below",
            "residual of the estimate",
            "reshaped kernel (spectral normalisation)",
            "log10 of the product so far",
        )
        return Table(columns, tuple(self._rows()))

    def figure(self) -> Figure:
        """Plot the layers with estimates from below (left), and the product by stage with local constants (right)."""
        plot = panels("How much a change of the image can grow", ("layer by layer", "from the image on"), width=1180)
        plot.update_layout(
            height=660, margin_t=150, margin_b=190, legend={"orientation": "h", "y": 1.1, "yanchor": "bottom"}
        )
        go = graph_objects()
        layers = [leaf for stage in self.stages for leaf in stage if leaf.kind not in _NEVER_STRETCHING]
        names = [leaf.name for leaf in layers]
        plot.add_bar(x=names, y=[leaf.bound for leaf in layers], name="upper bound of the layer", row=1, col=1)
        lower = {"mode": "markers", "marker": {"symbol": "diamond", "color": "black"}}
        plot.add_trace(
            go.Scatter(x=names, y=[leaf.lower for leaf in layers], name="estimate from below", **lower), row=1, col=1
        )
        taps = [stage.name for stage in self.stages] or [LOGITS]
        so_far = [_power_of_ten(log) for log in accumulate(stage.log10_bound for stage in self.stages)]
        plot.add_trace(go.Scatter(x=taps, y=so_far, name="product of the bounds", mode="lines+markers"), row=1, col=2)
        plot.add_trace(
            go.Box(x=[taps[-1]] * len(self.local_N), y=self.local_N, name="norm of the Jacobian, by image"),
            row=1,
            col=2,
        )
        plot.update_xaxes(title="layer", tickangle=-60, tickfont_size=10, dtick=1, row=1, col=1)
        plot.update_xaxes(title="up to the end of", row=1, col=2)
        plot.update_yaxes(title="change out / change in (L2, log)", type="log", exponentformat="power")
        return plot

    def _numbers(self) -> dict[str, float]:
        local_N = torch.tensor(self.local_N, dtype=torch.float64)
        local = {"stability/local_max": float(local_N.max()), "stability/local_median": float(local_N.median())}
        if self.unbounded:
            return local
        radii_N = torch.tensor(self.radii_N, dtype=torch.float64)
        return {
            "stability/bound": self.bound,
            "stability/log10_bound": self.log10_bound,
            **{f"stability/{stage.name}_norm": stage.bound for stage in self.stages},
            **local,
            "stability/certified_radius_median": float(radii_N.median()),
            "stability/certified_fraction": float(((radii_N > 0) & (radii_N >= self.epsilon)).double().mean()),
        }

    def _rows(self) -> Iterator[tuple[Cell, ...]]:
        if self.unbounded:
            yield ("all", "whole network", "own forward", None, REFUSED, None, None, None, None, None)
        so_far = 0.0
        for stage in self.stages:
            so_far += stage.log10_bound
            for layer in _with_blocks(stage):
                yield (stage.name, *_cells(layer), None)
            yield (stage.name, "all of the stage", *_cells(stage)[1:], so_far)


def suite(subject: Subject, budget: EvaluationBudget, progress: Progress, /) -> Mapping[str, Result]:
    """Measure bounds of the model, and local constants at test images."""
    progress("stability", 0.0)
    result = stability(
        subject.model,
        subject.test,
        epsilon=subject.epsilon,
        norm=subject.norm,
        images=budget.images,
        seed=subject.seed,
    )
    progress("stability", 1.0)
    return {"stability": result}


def stability(
    model: TappedClassifier,
    test: Split,
    *,
    epsilon: float,
    norm: Norm = "linf",
    images: int | None = None,
    seed: int = 0,
) -> Stability:
    """Bound every layer of `model`, and measure it at `images` of the test images; local constants at 100 at most.

    A network with a module whose constant is not known has no bound, and the result says why.

    Raises:
        ValueError: weights that are not finite.
    """
    test, limits = within(test, images)
    few, few_limits = within(test, LOCAL_IMAGES, name="local constants")
    channels, height, width = test.images_NCHW.shape[1:]
    local_N = tuple(local_constants(model, few).tolist())
    radius = euclidean_radius(epsilon, norm, pixels=channels * height * width)
    try:
        stages = constants(model, (channels, height, width), seed=seed)
    except UnknownConstant as error:
        return Stability((), local_N, (), radius, limits=few_limits, unbounded=str(error))
    bound = math.prod(stage.bound for stage in stages)
    radii_N = tuple(certified_radii(logits(model, test), test.labels_N, bound=bound).tolist())
    return Stability(stages, local_N, radii_N, radius, limits=(*limits, *few_limits))


def local_constants(model: nn.Module, split: Split) -> Tensor:
    """Return the largest singular value of the Jacobian from pixels to logits at each image, shape (N,) float64.

    It is exact, from all K rows: that takes K backward passes, no more than power iteration.

    >>> from trainables.data import Split
    >>> layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2))
    >>> _ = layers[1].weight.data.copy_(torch.tensor([[3.0, 0.0], [4.0, 0.0]]))
    >>> images = Split(torch.zeros(1, 1, 1, 2, dtype=torch.uint8), torch.tensor([0]))
    >>> [f"{value:.6f}" for value in local_constants(layers, images).tolist()]
    ['5.000000']
    """
    norms = []
    with evaluating(model), torch.enable_grad(), torch.autocast(split.labels_N.device.type, enabled=False):
        for x, _ in batches(split, size=_BATCH):
            x.requires_grad_()
            sums_K = model(x).sum(0)
            rows = [torch.autograd.grad(logit, x, retain_graph=True)[0].flatten(1).double() for logit in sums_K]
            jacobian_BKD = torch.stack(rows, 1)
            squares_BK = torch.linalg.eigvalsh(jacobian_BKD @ jacobian_BKD.mT)
            norms.append(squares_BK[:, -1].clamp_min(0).sqrt().cpu())
    return torch.cat(norms)


def certified_radii(logits_NK: Tensor, labels_N: Tensor, *, bound: float) -> Tensor:
    """Return margin / (sqrt(2) bound), shape (N,) float64, and 0 if the margin is negative.

    No shorter change of the image alters the label: a difference of two logits changes by at most sqrt(2) times the
    change of the logits (Tsuzuku et al., NeurIPS 2018).

    >>> radii = certified_radii(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]), bound=2**0.5)
    >>> [f"{radius:.3f}" for radius in radii.tolist()]
    ['1.000', '0.000']
    """
    margins_N = margin(logits_NK.double(), labels_N).clamp_min(0).cpu()
    return margins_N / (math.sqrt(2) * bound) if bound else torch.where(margins_N > 0, math.inf, 0.0)


def euclidean_radius(epsilon: float, norm: Norm, *, pixels: int) -> float:
    """Return the radius of the smallest Euclidean ball around the ball of `norm`.

    >>> euclidean_radius(0.1, "linf", pixels=100), euclidean_radius(0.1, "l2", pixels=100)
    (1.0, 0.1)
    """
    return epsilon * math.sqrt(pixels) if norm == "linf" else epsilon


def _with_blocks(constant: Constant) -> Iterator[Constant]:
    """Yield the layers, and each residual block after its layers."""
    for part in constant.parts:
        yield from _with_blocks(part)
        if part.parts:
            yield part
    if not constant.parts:
        yield constant


def _cells(layer: Constant) -> tuple[Cell, ...]:
    shape = " x ".join(map(str, layer.shape))
    guarantee = "exact" if layer.exact else "safe"
    return layer.name, layer.kind, shape, layer.bound, guarantee, layer.lower, layer.residual, layer.reshaped


def _power_of_ten(exponent: float) -> float | None:
    """Return the power, or None if it exceeds float64."""
    return 10**exponent if abs(exponent) < 300 else None
