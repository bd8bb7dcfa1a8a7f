"""Centre loss (Wen et al., ECCV 2016), as a regularizer with a memory.

    L = 1/2 mean_i || x_i - c_{y_i} ||^2                            equation 2, as a mean over the batch
    c_j <- c_j - alpha * sum_{i: y_i = j} (c_j - x_i) / (1 + n_j)   equation 4 and algorithm 1

x_i is the activation of image i, c_j the centre of class j, n_j the number of its images in the batch. The centres are
no parameters: they move by their own rule, after the loss was computed, at the rate alpha. They are the memory of the
regularizer, saved in each checkpoint, and begin at 0. The paper's lambda is the weight.

    trial:
      regularizers.center.use: "center_loss:CenterLoss"
      regularizers.center.weight: 0.01
      regularizers.center.rate: 0.5

Shapes: B images, D features, K classes.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from trainables.regularizers.protocol import Batch, Memory, Needs, Term


class CenterLoss:
    """Draws activations to the centre of their class, at each of its layers; reports how far apart the centres are."""

    needs = Needs(layers="penultimate")
    space: ClassVar[Mapping[str, Any]] = {
        "weight": {"float": [1e-4, 0.1], "log": True},
        "rate": {"float": [0.1, 0.9]},
    }

    def __init__(self, num_classes: int, rate: float = 0.5) -> None:
        if not 0 < rate <= 1:
            raise ValueError(f"rate: must be in (0, 1], got {rate}")
        self.num_classes, self.rate = num_classes, rate

    def term(self, batch: Batch, memory: Memory) -> Term:
        """Return the loss before the centres move, and the moved centres."""
        losses, moved = list[Tensor](), dict[str, Tensor]()
        for tap, features in batch.taps.items():
            x_BD = features.flatten(1)
            centers_KD = memory[tap] if tap in memory else x_BD.new_zeros(self.num_classes, x_BD.shape[1])
            losses.append((x_BD - centers_KD[batch.labels]).square().sum(1).mean() / 2)
            moved[tap] = self._moved(centers_KD, x_BD.detach(), batch.labels)
        spread = torch.stack([centers_KD.std(0, correction=0).mean() for centers_KD in moved.values()]).mean()
        return Term(torch.stack(losses).sum(), metrics={"spread": spread}, memory=moved)

    def _moved(self, centers_KD: Tensor, x_BD: Tensor, labels_B: Tensor) -> Tensor:
        count_K = torch.bincount(labels_B, minlength=self.num_classes).to(x_BD.dtype)
        sum_KD = torch.zeros_like(centers_KD).index_add(0, labels_B, x_BD)
        step_KD = (count_K[:, None] * centers_KD - sum_KD) / (1 + count_K[:, None])
        return centers_KD - self.rate * step_KD
