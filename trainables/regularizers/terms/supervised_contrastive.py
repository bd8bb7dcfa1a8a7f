"""Supervised contrastive loss (Khosla et al., NeurIPS 2020, arXiv 2004.11362), equation 2, the "out" form.

    L = mean_i  -1 / |P(i)|  sum_{p in P(i)}  log( exp(z_i . z_p / tau) / sum_{a != i} exp(z_i . z_a / tau) )

z_i is the activation of image i, divided by its length; P(i) are the other images of i's class. The paper trains an
encoder with it alone, on a projection head, with two augmented views of each image. Here it is a term beside the
cross-entropy, on the layers of the classifier, with one view. The mean is over images that have a P(i).

    trial:
      regularizers.contrast.use: supervised_contrastive
      regularizers.contrast.weight: 0.1
      regularizers.contrast.layers: penultimate

Shapes: B images, D features, K classes.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from trainables.regularizers.protocol import Batch, Memory, Needs, Term
from trainables.snnl.distances import differentiable_distances, full_precision, require_pair, require_rows

__all__ = ["REGULARIZER", "SupervisedContrastive", "contrast"]


@dataclass(frozen=True, slots=True)
class SupervisedContrastive:
    """Sum over layers of `contrast`; `temperature` is the paper's tau.

    It reports the images that are alone in their class: set `classes_per_batch` if there are many of them. On mixed
    activations two images share a class as far as their targets agree.
    """

    temperature: Annotated[float, Field(gt=0)] = 0.1

    needs = Needs(layers="penultimate", soft_labels=True)
    space: ClassVar = {
        "weight": {"float": [1e-3, 1.0], "log": True},
        "temperature": {"float": [0.05, 1.0], "log": True},
    }

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature: must be > 0, got {self.temperature}")

    def term(self, batch: Batch, _: Memory) -> Term:
        """Return the sum, and the number of images without another of their class; it remembers nothing."""
        one_hot_BK = functional.one_hot(batch.labels, batch.logits.shape[1])
        parts, alone = list[Tensor](), list[Tensor]()
        for tap, features in batch.taps.items():
            targets_BK = batch.targets[tap] if batch.mixed else one_hot_BK
            company_BB = company(targets_BK, dtype=features.dtype)
            parts.append(contrast(features, company_BB, temperature=self.temperature))
            alone.append((company_BB.sum(1) == 0).sum())
        return Term(torch.stack(parts).sum(), metrics={"alone": torch.stack(alone).amax()})


def company(targets_BK: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return how far two images share a class, (B, B), from one-hot or soft targets; 0 of an image with itself.

    >>> company(torch.tensor([[1, 0], [1, 0], [0, 1]])).tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    with full_precision(targets_BK.device):
        targets_BK = targets_BK.detach().to(dtype)
        return (targets_BK @ targets_BK.T).fill_diagonal_(0)


def contrast(features_BX: Tensor, company_BB: Tensor, *, temperature: float) -> Tensor:
    """Return the loss of one layer in nats, 0-d; 0 with no gradient where no image has company.

    Args:
        features_BX: activations, with any axes after the first. A row of zeros has no direction: its product with
            every other row is 0, with no gradient.
        company_BB: weight of each positive pair, 0 for others; equation 2 has 1.
        temperature: tau.

    Raises:
        ValueError: fewer than two rows.

    >>> x, y = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.eye(2)[[0, 0, 1]]
    >>> f"{contrast(x, company(y), temperature=1.0):.4f}"  # log(1 + exp(-1))
    '0.3133'
    """
    require_rows(features_BX)
    require_pair(features_BX)
    itself_BB = torch.eye(len(features_BX), dtype=torch.bool, device=features_BX.device)
    cosine_BB = 1 - differentiable_distances(features_BX, "cosine")
    log_p_BB = (cosine_BB / temperature).masked_fill(itself_BB, float("-inf")).log_softmax(1).masked_fill(itself_BB, 0)
    company_B = company_BB.sum(1)
    losses_B = -(company_BB * log_p_BB).sum(1) / company_B.where(company_B > 0, 1)
    return losses_B.sum() / (company_B > 0).sum().clamp_min(1)


REGULARIZER = SupervisedContrastive
