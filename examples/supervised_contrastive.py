"""Supervised contrastive loss (Khosla et al., NeurIPS 2020, arXiv 2004.11362), equation 2, as a regularizer.

    L = mean_i  -1 / |P(i)|  sum_{p in P(i)}  log( exp(z_i . z_p / tau) / sum_{a != i} exp(z_i . z_a / tau) )

z_i is the activation of image i, divided by its length (the paper's projection head is left out, and so are its two
augmented views: the batch has one view of each image). P(i) are the other images of i's class, and tau is the
temperature. An image that is alone in its class has no P(i), and is left out of the mean (the paper has a sum).

Ravel has this loss by the name `supervised_contrastive`. This file shows how a regularizer of your own is written.

    trial:
      regularizers.contrast.use: "supervised_contrastive:SupervisedContrastive"
      regularizers.contrast.weight: 0.1
      regularizers.contrast.temperature: 0.1

Shapes: B images, D features.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from trainables.regularizers.protocol import Batch, Memory, Needs, Term


class SupervisedContrastive:
    """Pulls images of a class together on the sphere, and pushes those of other classes away; summed over its layers.

    It reports the images that have no other of their class. Set `classes_per_batch` if there are many of them.
    """

    needs = Needs(layers="penultimate")
    space: ClassVar[Mapping[str, Any]] = {
        "weight": {"float": [1e-3, 1.0], "log": True},
        "temperature": {"float": [0.05, 1.0], "log": True},
    }

    def __init__(self, temperature: float = 0.1) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature: must be > 0, got {temperature}")
        self.temperature = temperature

    def term(self, batch: Batch, _: Memory) -> Term:
        """Return the loss, and the number of images that are alone."""
        losses = [self._loss(features.flatten(1), batch.labels) for features in batch.taps.values()]
        alone = (batch.labels[:, None] == batch.labels).sum(1) == 1
        return Term(torch.stack(losses).sum(), metrics={"alone": alone.sum()})

    def _loss(self, features_BD: Tensor, labels_B: Tensor) -> Tensor:
        z_BD = functional.normalize(features_BD)
        itself_BB = torch.eye(len(z_BD), dtype=torch.bool, device=z_BD.device)
        positive_BB = (labels_B[:, None] == labels_B) & ~itself_BB
        logits_BB = (z_BD @ z_BD.T / self.temperature).masked_fill(itself_BB, float("-inf"))
        log_p_BB = logits_BB.log_softmax(1).masked_fill(~positive_BB, 0)
        positives_B = positive_BB.sum(1)
        return -(log_p_BB.sum(1) / positives_B.clamp_min(1)).sum() / (positives_B > 0).sum().clamp_min(1)
