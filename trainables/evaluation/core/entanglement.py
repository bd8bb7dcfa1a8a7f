"""Entanglement of the classes at each tap."""

import torch

from trainables.attacks import evaluating
from trainables.data import Split
from trainables.evaluation.core.prediction import batches
from trainables.models import StagedClassifier
from trainables.snnl import Distance, TemperatureMinimum, minimise_temperature

__all__ = ["entanglement"]


@torch.no_grad()
def entanglement(
    model: StagedClassifier, split: Split, *, distance: Distance = "sqeuclidean"
) -> dict[str, TemperatureMinimum]:
    """Return the soft nearest neighbour loss of each tap at its minimising temperature, in eval mode.

    Values depend on the number of images and on their classes: compare them on one split only.
    """
    with evaluating(model):
        passes = [model.features(x, taps=model.taps).taps for x, _ in batches(split)]
    return {
        tap: minimise_temperature(torch.cat([taps[tap] for taps in passes]), split.labels_N, distance)
        for tap in model.taps
    }
