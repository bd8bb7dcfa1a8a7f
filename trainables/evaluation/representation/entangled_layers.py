"""Suite `entanglement`: entanglement of the classes at each layer of a trained model, and by epoch of its training.

The soft nearest neighbour loss of a layer's activations is taken at its exact minimising temperature, so it does not
depend on the layer's scale. It is 0 if every nearest neighbour is of the image's own class, and chance if distances
say nothing. It does depend on the number of images and on their classes: compare values of one set of images only.
Shapes: N images, D features of a layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trainables.attacks import evaluating
from trainables.evaluation.core import figures
from trainables.evaluation.core.prediction import balanced_subset, batches, left_out
from trainables.evaluation.core.results import EvaluationBudget, Progress, Result, Subject, Table
from trainables.models.loading import load_model
from trainables.seeding import generator
from trainables.snnl import Distance, TemperatureMinimum, chance_level, minimise_temperature, streaming_losses
from trainables.snnl.distances import block_distances, offsets, place
from trainables.snnl.sample import Sample, rounding_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from plotly.graph_objects import Figure
    from torch import Tensor

    from trainables.data import Split
    from trainables.models import TappedClassifier

__all__ = [
    "EntangledLayers",
    "EntanglementByEpoch",
    "LayerEntanglement",
    "entangled_layers",
    "entanglement_by_epoch",
    "suite",
]

# Each epoch costs as much as the finished model, and all of them are measured on the same images.
EPOCH_IMAGES = 512
_MEDIAN_ANCHORS = 512


@dataclass(frozen=True, slots=True)
class LayerEntanglement:
    """Entanglement at one tap.

    minimum: the loss at its minimising temperature, with its edge, chance level and number of anchors.
    median_distance: between two of the images, from 512 of them to all.
    at_median: the loss at the temperature of that distance, which also sees clusters that are far apart.
    """

    tap: str
    minimum: TemperatureMinimum
    median_distance: float
    at_median: float

    @property
    def of_chance(self) -> float:
        """Minimum as a fraction of the chance level, in [0, 1]."""
        return self.minimum.value / self.minimum.chance


@dataclass(frozen=True, slots=True)
class EntangledLayers:
    """Entanglement at the taps of one model, from the input on."""

    layers: tuple[LayerEntanglement, ...]
    distance: Distance
    limits: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    def metrics(self) -> Mapping[str, float]:
        """Return the minimum of each tap, its share of chance, and its temperature if it is finite."""
        minima = {layer.tap: layer.minimum for layer in self.layers}
        return {
            **{f"entanglement/{tap}_test": minimum.value for tap, minimum in minima.items()},
            **{f"entanglement/{layer.tap}_of_chance": layer.of_chance for layer in self.layers},
            **{
                f"temperature/{tap}_test": minimum.temperature
                for tap, minimum in minima.items()
                if minimum.edge != "T->inf"
            },
            "test/entanglement_chance": self.layers[0].minimum.chance,
        }

    def table(self) -> Table:
        """Return a row for each tap; an infinite temperature is left empty, and the edge says so."""
        columns = ("tap", *_MINIMUM, "temperature / median distance", "median distance", "loss at median, nats")
        return Table(columns, tuple(self._row(layer) for layer in self.layers))

    def figure(self) -> Figure:
        """Plot two bars for each tap, and the chance level."""
        taps = [layer.tap for layer in self.layers]
        plot = figures.figure(
            f"Entanglement by layer, {self.layers[0].minimum.num_anchors:,} images",
            x="layer, from the input on",
            y="soft nearest neighbour loss, nats",
            barmode="group",
        )
        go = figures.graph_objects()
        minima = [layer.minimum for layer in self.layers]
        plot.add_trace(
            go.Bar(
                x=taps,
                y=[minimum.value for minimum in minima],
                text=[
                    f"{minimum.value:.2f}{'' if minimum.edge == 'interior' else f' ({minimum.edge})'}"
                    for minimum in minima
                ],
                textposition="outside",
                name="minimum over T",
            )
        )
        plot.add_trace(go.Bar(x=taps, y=[layer.at_median for layer in self.layers], name="at T = median distance"))
        chance = [minimum.chance for minimum in minima]
        plot.add_trace(go.Scatter(x=taps, y=chance, mode="lines", name="chance", line={"dash": "dash"}))
        return plot.update_yaxes(range=[0, 1.12 * max(*chance, *(layer.at_median for layer in self.layers))])

    def _row(self, layer: LayerEntanglement) -> tuple[str | int | float | None, ...]:
        minimum, median = layer.minimum, layer.median_distance
        relative = minimum.temperature / median if minimum.edge != "T->inf" and median > 0 else None
        return (layer.tap, *_cells(minimum), relative, median, layer.at_median)


@dataclass(frozen=True, slots=True)
class EntanglementByEpoch:
    """Minima of each tap after some epochs, on the same images throughout."""

    epochs: Mapping[int, Mapping[str, TemperatureMinimum]]
    limits: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    def metrics(self) -> Mapping[str, float]:
        """Return no metric: the end of the curve is a metric of the finished model."""
        return {}

    def table(self) -> Table:
        """Return a row for each epoch and tap."""
        rows = (
            (epoch, tap, *_cells(minimum)) for epoch, minima in self.epochs.items() for tap, minimum in minima.items()
        )
        return Table(("epoch", "tap", *_MINIMUM), tuple(rows))

    def figure(self) -> Figure:
        """Plot a curve for each tap, and the chance level; on a logarithmic axis, unless a value is 0."""
        epochs = list(self.epochs)
        last = self.epochs[epochs[-1]]
        images = next(iter(last.values())).num_anchors
        title = f"Entanglement during training, {images:,} images"
        plot = figures.figure(title, x="epoch", y="loss at its minimising temperature, nats")
        go = figures.graph_objects()
        for tap in last:
            values = [minima[tap].value for minima in self.epochs.values()]
            plot.add_trace(go.Scatter(x=epochs, y=values, mode="lines+markers", name=tap))
        chance = [next(iter(minima.values())).chance for minima in self.epochs.values()]
        plot.add_trace(go.Scatter(x=epochs, y=chance, mode="lines", name="chance", line={"dash": "dash"}))
        positive = all(minimum.value > 0 for minima in self.epochs.values() for minimum in minima.values())
        return plot.update_yaxes(type="log" if positive else "linear").update_xaxes(tickformat="d")


def entangled_layers(
    model: TappedClassifier,
    images: Split,
    *,
    distance: Distance = "sqeuclidean",
    seed: int = 0,
    limits: tuple[str, ...] = (),
) -> EntangledLayers:
    """Measure the loss at every tap, in eval mode; memory holds the activations of one tap at a time.

    `seed` samples the 512 images that the median distance is measured from, if there are more.

    Raises:
        ValueError: images of fewer than two classes, or without a class of two images.
    """
    _require_company(images)
    layers = []
    for tap, features_ND in _activations(model, images):
        median = _median_distance(features_ND, distance, seed=seed)
        minimum = minimise_temperature(features_ND, images.labels_N, distance)
        at_median = _loss_at(features_ND, images.labels_N, median, distance) if median > 0 else minimum.chance
        layers.append(LayerEntanglement(tap, minimum, median_distance=median, at_median=at_median))
    return EntangledLayers(tuple(layers), distance, limits)


def entanglement_by_epoch(
    models: Iterator[tuple[int, TappedClassifier]],
    images: Split,
    *,
    distance: Distance = "sqeuclidean",
    limits: tuple[str, ...] = (),
) -> EntanglementByEpoch:
    """Measure the minima at every tap of a model's previous states, loaded one at a time.

    Raises:
        ValueError: as `entangled_layers`; no state.
    """
    _require_company(images)
    epochs = {
        epoch: {
            tap: minimise_temperature(features_ND, images.labels_N, distance)
            for tap, features_ND in _activations(model, images)
        }
        for epoch, model in models
    }
    if not epochs:
        raise ValueError("models: must hold at least one epoch, got none; train with checkpoints")
    return EntanglementByEpoch(dict(sorted(epochs.items())), limits)


def suite(subject: Subject, budget: EvaluationBudget, progress: Progress, /) -> Mapping[str, Result]:
    """Measure the layers of the model and, if the subject has checkpoints, their course by epoch."""
    steps = 1 + len(subject.checkpoints)
    progress("entanglement by layer", 0.0)
    images, limits = _subset(subject.test, len(subject.test) if budget.images is None else budget.images)
    results: dict[str, Result] = {
        "entanglement_by_layer": entangled_layers(
            subject.model, images, distance=subject.distance, seed=subject.seed, limits=limits
        )
    }

    def states() -> Iterator[tuple[int, TappedClassifier]]:
        for done, (epoch, folder) in enumerate(sorted(subject.checkpoints.items()), start=1):
            progress(f"entanglement after epoch {epoch}", done / steps)
            yield epoch, load_model(folder, device=images.labels_N.device)

    if subject.checkpoints:
        few, few_limits = _subset(subject.test, min(EPOCH_IMAGES, len(images)))
        results["entanglement_by_epoch"] = entanglement_by_epoch(
            states(), few, distance=subject.distance, limits=few_limits
        )
    progress("entanglement", 1.0)
    return results


_MINIMUM = ("loss, nats", "of chance", "chance, nats", "images", "temperature", "edge")


def _cells(minimum: TemperatureMinimum) -> tuple[str | int | float | None, ...]:
    temperature = None if minimum.edge == "T->inf" else minimum.temperature
    return (
        minimum.value,
        minimum.value / minimum.chance,
        minimum.chance,
        minimum.num_anchors,
        temperature,
        minimum.edge,
    )


def _subset(test: Split, size: int) -> tuple[Split, tuple[str, ...]]:
    """Return a subset that is always balanced, as the loss depends on the number of images of each class."""
    subset = balanced_subset(test, size=size)
    return subset, left_out(subset, test)


@torch.no_grad()
def _activations(model: TappedClassifier, images: Split) -> Iterator[tuple[str, Tensor]]:
    """Yield each tap's activations, (N, D), from a separate pass."""
    for tap in model.taps:
        with evaluating(model), torch.autocast(images.labels_N.device.type, enabled=False):
            passes = [model.features(x, taps=(tap,)).taps[tap].flatten(1) for x, _ in batches(images, size=256)]
        yield tap, torch.cat(passes)


def _median_distance(features_ND: Tensor, distance: Distance, *, seed: int) -> float:
    """Return the median distance from randomly sampled images: equal strides would meet the same classes repeatedly.

    Pairs that coincide are left out; 0 where all do.
    """
    points, size = place(features_ND, distance), len(features_ND)
    sampled_A = torch.randperm(size, generator=generator(seed, "median distance"))[:_MEDIAN_ANCHORS]
    anchors_A = sampled_A.to(features_ND.device)
    distances_AN = block_distances(points, offsets(points), rows=anchors_A, columns=slice(0, size))
    median = float(Sample(anchors_A, distances_AN, rounding_of(points)).median())
    return median if math.isfinite(median) else 0.0


def _loss_at(features_ND: Tensor, labels_N: Tensor, temperature: float, distance: Distance) -> float:
    losses_N, valid_N = streaming_losses(features_ND, labels_N, temperature, distance=distance)
    return float(losses_N[valid_N].mean())


def _require_company(images: Split) -> None:
    if not chance_level(images.labels_N) > 0:
        counts = images.labels_N.bincount()
        raise ValueError(
            "images: must be of two classes or more, one of them with two images, "
            f"got {counts[counts > 0].tolist()} of a class; take more images"
        )
