"""Class composition of a batch: points per class, and the loss of features without information.

Shapes: B points.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Company", "batch_composition", "chance_level", "company"]


class Company(NamedTuple):
    """Class counts of each anchor (B,).

    `others_B` counts the other points of its class. `valid_B` is True if it has any: then it has a loss.
    `counted_B` is True if, in addition, points of other classes exist; otherwise the loss is 0.
    """

    others_B: Tensor
    valid_B: Tensor
    counted_B: Tensor


def company(labels_B: Tensor) -> Company:
    """Count points by sorting, without a matrix of pairs and without a wait for the device.

    >>> company(torch.tensor([4, 7, 4, 9, 4])).others_B.tolist()
    [2, 0, 2, 0, 2]
    """
    ordered_B = labels_B.sort().values
    upto_B = torch.searchsorted(ordered_B, labels_B, right=True)
    others_B = upto_B - torch.searchsorted(ordered_B, labels_B) - 1
    valid_B = others_B > 0
    return Company(others_B, valid_B, valid_B & (others_B < len(labels_B) - 1))


def batch_composition(labels_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return the chance level of these labels, and the number of anchors alone in their class: 0-d, float32.

    The chance level is the loss at infinite temperature, which a minimised loss cannot exceed.
    Report it with every value: it depends on the batch's size and classes. Nothing waits for the device.

    >>> chance, singletons = batch_composition(torch.tensor([0, 0, 1, 1, 2]))
    >>> f"{chance:.4f} {singletons:.0f}"  # log(4 / 1)
    '1.3863 1'
    """
    classes = company(labels_B)
    return _chance(classes).float(), (~classes.valid_B).sum().float()


def chance_level(labels_B: Tensor) -> float:
    """Return the loss at infinite temperature: mean over valid anchors of log((B - 1) / (n_y - 1)).

    >>> f"{chance_level(torch.tensor([0, 0, 1, 1])):.6f}"  # log(3 / 1)
    '1.098612'
    """
    return float(_chance(company(labels_B)))


def _chance(classes: Company) -> Tensor:
    surprise_B = ((len(classes.others_B) - 1) / classes.others_B.clamp_min(1).double()).log()
    return surprise_B.where(classes.valid_B, 0).sum() / classes.valid_B.sum().clamp_min(1)
