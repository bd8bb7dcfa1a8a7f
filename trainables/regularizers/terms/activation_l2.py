"""Control of the soft nearest neighbour loss: the mean squared length of activations, which needs no classes."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from trainables.regularizers.protocol import Batch, Memory, Needs, Term
from trainables.snnl.controls import activation_l2

__all__ = ["REGULARIZER", "ActivationL2"]


@dataclass(frozen=True, slots=True)
class ActivationL2:
    """Sum over layers of `snnl.controls.activation_l2`."""

    needs = Needs(layers="hidden", soft_labels=True)
    space: ClassVar = {"weight": {"float": [1e-6, 1e-2], "log": True}}

    def term(self, batch: Batch, _: Memory) -> Term:
        """Return the sum; it remembers nothing."""
        return Term(torch.stack([activation_l2(features) for features in batch.taps.values()]).sum())


REGULARIZER = ActivationL2
