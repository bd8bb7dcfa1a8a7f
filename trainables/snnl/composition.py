"""What a batch's labels alone decide: who has company, and the loss of features that say nothing.

Shapes: B points.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Company", "batch_composition", "chance_level", "company"]


class Company(NamedTuple):
    """Who counts, each (B,): how many others share the class, who has any, and who is confusable too.

    An anchor with company has a loss; one that has nobody of another class has the loss 0.
    """

    others_B: Tensor
    valid_B: Tensor
    counted_B: Tensor


def company(labels_B: Tensor) -> Company:
    """Count by sorting: no matrix of pairs, and no wait for the device.

    >>> company(torch.tensor([4, 7, 4, 9, 4])).others_B.tolist()
    [2, 0, 2, 0, 2]
    """
    ordered_B = labels_B.sort().values
    upto_B = torch.searchsorted(ordered_B, labels_B, right=True)
    others_B = upto_B - torch.searchsorted(ordered_B, labels_B) - 1
    valid_B = others_B > 0
    return Company(others_B, valid_B, valid_B & (others_B < len(labels_B) - 1))


def batch_composition(labels_B: Tensor) -> tuple[Tensor, Tensor]:
    """Chance level of these labels, and how many anchors are alone in their class: 0-d, float32.

    The chance level is the loss at infinite temperature, and what a minimised loss cannot exceed.
    Report it beside every value: it moves with the batch's size and classes. Nothing waits for the device.

    >>> chance, singletons = batch_composition(torch.tensor([0, 0, 1, 1, 2]))
    >>> f"{chance:.4f} {singletons:.0f}"  # log(4 / 1)
    '1.3863 1'
    """
    who = company(labels_B)
    return _chance(who).float(), (~who.valid_B).sum().float()


def chance_level(labels_B: Tensor) -> float:
    """The loss at infinite temperature: mean over valid anchors of log((B - 1) / (n_y - 1)).

    >>> f"{chance_level(torch.tensor([0, 0, 1, 1])):.6f}"  # log(3 / 1)
    '1.098612'
    """
    return float(_chance(company(labels_B)))


def _chance(who: Company) -> Tensor:
    surprise_B = ((len(who.others_B) - 1) / who.others_B.clamp_min(1).double()).log()
    return surprise_B.where(who.valid_B, 0).sum() / who.valid_B.sum().clamp_min(1)
