"""Control of the soft nearest neighbour loss: distances between class means, its limit at a high temperature."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from trainables.regularizers.protocol import Batch, Memory, Needs, Term
from trainables.snnl import Distance
from trainables.snnl.controls import class_mean, soft_class_mean

__all__ = ["REGULARIZER", "ClassMean"]


@dataclass(frozen=True, slots=True)
class ClassMean:
    """Sum over layers of `snnl.controls.class_mean`."""

    distance: Distance = "sqeuclidean"

    needs = Needs(layers="hidden", soft_labels=True)
    space: ClassVar = {
        "weight": {"symlog": [-1.0, 1.0], "gap": 1e-3},
        "distance": {"choice": ["sqeuclidean", "cosine"]},
    }

    def term(self, batch: Batch, _: Memory) -> Term:
        """Return the sum; it remembers nothing."""
        parts = [
            soft_class_mean(features, batch.targets[tap], distance=self.distance)
            if batch.mixed
            else class_mean(features, batch.labels, distance=self.distance)
            for tap, features in batch.taps.items()
        ]
        return Term(torch.stack(parts).sum())


REGULARIZER = ClassMean
