"""Entanglement of the classes at each tap."""

from collections.abc import Sequence

import torch

from trainables.attacks import evaluating
from trainables.data import Split
from trainables.evaluation.core.prediction import batches
from trainables.models import TappedClassifier
from trainables.snnl import Distance, TemperatureMinimum, minimise_temperature

__all__ = ["entanglement"]


@torch.no_grad()
def entanglement(
    model: TappedClassifier, split: Split, *, taps: Sequence[str] | None = None, distance: Distance = "sqeuclidean"
) -> dict[str, TemperatureMinimum]:
    """Return the soft nearest neighbour loss of each tap at its minimising temperature, in eval mode.

    `taps` are by default those of the group 'all'.

    Values depend on the number of images and on their classes: compare them on one split only.
    """
    chosen = model.taps if taps is None else taps
    with evaluating(model):
        passes = [model.features(x, taps=chosen).taps for x, _ in batches(split)]
    return {
        tap: minimise_temperature(torch.cat([read[tap] for read in passes]), split.labels_N, distance) for tap in chosen
    }
