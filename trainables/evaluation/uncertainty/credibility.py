"""Credibility of deep nearest neighbours on test images and outliers. Shapes: N images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainables.evaluation.core.figures import graph_objects, panels
from trainables.evaluation.core.results import Table
from trainables.evaluation.uncertainty.detection import some_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plotly.graph_objects import Figure
    from torch import Tensor

    from trainables.data import Split
    from trainables.evaluation.core.results import Cell
    from trainables.evaluation.uncertainty.dknn import DeepNearestNeighbors

__all__ = ["Credibility", "CredibilityBin", "credibility", "reliability_bins", "share_of"]

NUM_BINS: Final = 10


@dataclass(frozen=True, slots=True)
class CredibilityBin:
    """Test images with a credibility in [low, low + 0.1), 1 being in the last bin; accuracy is None of no image."""

    low: float
    images: int
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Credibility:
    """Accuracy of the neighbours and of the network, and mean credibility of test images and outliers."""

    accuracy: float
    network_accuracy: float
    mean: float
    confidence: float
    bins: tuple[CredibilityBin, ...]
    outliers: Mapping[str, float]
    limits: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    def metrics(self) -> Mapping[str, float]:
        """Return `dknn/accuracy`, `dknn/credibility`, and the credibility of each set of outliers."""
        return {
            "dknn/accuracy": self.accuracy,
            "dknn/network_accuracy": self.network_accuracy,
            "dknn/credibility": self.mean,
            "dknn/confidence": self.confidence,
            **{f"dknn/credibility_{name}": mean for name, mean in self.outliers.items()},
        }

    def table(self) -> Table:
        """Return rows of the test images, each bin of them, and each set of outliers."""
        rows: list[tuple[Cell, ...]] = [
            ("test", sum(bin_.images for bin_ in self.bins), self.mean, self.accuracy),
            *((f"test, {_span(bin_)}", bin_.images, None, bin_.accuracy) for bin_ in self.bins),
            *((name, None, mean, None) for name, mean in self.outliers.items()),
        ]
        return Table(("images of", "images", "mean credibility", "accuracy"), tuple(rows))

    def figure(self) -> Figure:
        """Plot accuracy over credibility, with the images in each bin, and the mean credibility of each set."""
        names = ("reliability on the test images", "mean credibility")
        plot, go = panels("Credibility of deep nearest neighbours", names), graph_objects()
        full = [bin_ for bin_ in self.bins if bin_.accuracy is not None]
        middles = [bin_.low + 0.5 / NUM_BINS for bin_ in full]
        heights, counts = [bin_.accuracy for bin_ in full], [f"{bin_.images:,}" for bin_ in full]
        bars = go.Bar(x=middles, y=heights, width=0.9 / NUM_BINS, text=counts, textposition="outside")
        plot.add_trace(bars.update(cliponaxis=False, textangle=0), row=1, col=1)
        plot.update_xaxes(title="credibility (10 bins)", range=[0, 1], row=1, col=1)
        plot.update_yaxes(title="accuracy (above: images)", range=[0, 1.12], row=1, col=1)
        means = {"test": self.mean, **self.outliers}
        labels = [f"{mean:.3f}" for mean in means.values()]
        plot.add_trace(go.Bar(x=list(means), y=list(means.values()), text=labels, textposition="outside"), row=1, col=2)
        plot.update_xaxes(title="images of", row=1, col=2)
        plot.update_yaxes(title="mean credibility", range=[0, 1.12], row=1, col=2)
        plot.update_layout(showlegend=False)
        return plot


def credibility(
    detector: DeepNearestNeighbors,
    test: Split,
    *,
    outliers: Mapping[str, Split],
    seed: int = 0,
    limits: tuple[str, ...] = (),
) -> Credibility:
    """Measure credibility of test images, and of equally many of each set of outliers; `limits` are those of `test`."""
    result = detector.predict(test)
    means: dict[str, float] = {}
    for name, whole in outliers.items():
        split, notes = some_of(whole, name=name, at_most=len(test), seed=seed)
        means[name] = float(detector.predict(split).credibility_N.mean())
        limits += notes
    right_N = result.prediction_N == test.labels_N
    return Credibility(
        accuracy=share_of(right_N),
        network_accuracy=share_of(result.predicted_by_network == test.labels_N),
        mean=float(result.credibility_N.mean()),
        confidence=float(result.confidence_N.mean()),
        bins=reliability_bins(result.credibility_N, right_N),
        outliers=means,
        limits=(*detector.limits, *limits),
    )


def reliability_bins(credibility_N: Tensor, right_N: Tensor) -> tuple[CredibilityBin, ...]:
    """Group the images into ten bins of equal width, each closed below; the last one is also closed above.

    >>> import torch
    >>> bins = reliability_bins(torch.tensor([0.05, 0.1, 1.0]), torch.tensor([False, True, True]))
    >>> [(bin_.images, bin_.accuracy) for bin_ in bins if bin_.images]
    [(1, 0.0), (1, 1.0), (1, 1.0)]
    """
    # Rounded first: a credibility of 3/10 can be slightly below 0.3 after the product.
    place_N = (credibility_N.double() * NUM_BINS + 1e-6).floor().long().clamp_max(NUM_BINS - 1)
    return tuple(
        CredibilityBin(place / NUM_BINS, int(inside.sum()), share_of(right_N[inside]) if bool(inside.any()) else None)
        for place, inside in ((place, place_N == place) for place in range(NUM_BINS))
    )


def share_of(true_N: Tensor) -> float:
    """Return the share of flags that are set."""
    return float(true_N.double().mean())


def _span(bin_: CredibilityBin) -> str:
    return f"credibility {bin_.low:.1f} to {bin_.low + 1 / NUM_BINS:.1f}"
