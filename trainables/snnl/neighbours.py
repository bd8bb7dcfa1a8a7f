"""Loss of each anchor by its definition, with gradients by autograd.

It is the reference for tests of the faster forms. Shapes: B points, D features; `beta` = 1 / T.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from trainables.snnl.composition import company
from trainables.snnl.distances import Distance, differentiable_distances, require_labels

__all__ = ["anchor_losses", "losses_of_distances"]


def anchor_losses(
    features_BD: Tensor, labels_B: Tensor, beta: float | Tensor, *, distance: Distance
) -> tuple[Tensor, Tensor]:
    """Return the loss of each anchor (B,), 0 for those alone in their class, and a flag of the rest (B,).

    Raises:
        ValueError: labels that are not one integer per point, or an unknown distance.

    >>> import torch
    >>> x, y = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64), torch.tensor([0, 0, 1])
    >>> losses_B, valid_B = anchor_losses(x, y, 1.0, distance="sqeuclidean")
    >>> [f"{loss:.6f}" for loss in losses_B], valid_B.tolist()  # log(1 + e^-8), log(1 + e^-3)
    (['0.000335', '0.048587', '0.000000'], [True, True, False])
    """
    require_labels(features_BD, labels_B)
    return losses_of_distances(differentiable_distances(features_BD, distance), labels_B, beta)


def losses_of_distances(distances_BB: Tensor, labels_B: Tensor, beta: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return `anchor_losses` from all distances."""
    classes = company(labels_B)
    scores_BB = -distances_BB * beta
    same_BB = labels_B[:, None] == labels_B
    itself_BB = torch.eye(len(labels_B), dtype=torch.bool, device=labels_B.device)
    own_B = scores_BB.masked_fill(~same_BB | itself_BB, -math.inf).logsumexp(1)
    rest_B = scores_BB.masked_fill(same_BB, -math.inf).logsumexp(1)
    log_odds_B = rest_B.where(classes.counted_B, 0) - own_B.where(classes.counted_B, 0)
    return functional.softplus(log_odds_B).where(classes.counted_B, 0), classes.valid_B
