"""Control penalties for the loss: its effect beyond them comes from neighbours.

    class_mean      mean_i( mean_{j in P_i} d_ij - mean_{k != i} d_ik ) / median d
    activation_l2   mean_i ||x_i||^2

P_i are the other points of anchor i's class. The first is the loss minus its chance level, to first order in
1 / T and at T = median d: SNNL at another high temperature and weight w is this penalty at weight w median(d) / T.
With squared distances and balanced classes it depends on class means and total spread alone, so it cannot detect
a class that surrounds another one. Both have the sign of the loss: a positive weight separates classes
(or shrinks activations), a negative one entangles them (or grows activations, without a bound).
Shapes: B points, D features, K classes.
"""

import torch
from torch import Tensor

from trainables.snnl.distances import (
    Distance,
    differentiable_distances,
    full_precision,
    place,
    require_labels,
    require_pair,
    require_rows,
    widened,
)
from trainables.snnl.sample import all_rows

__all__ = ["activation_l2", "class_mean", "soft_class_mean"]


def class_mean(features_BD: Tensor, labels_B: Tensor, *, distance: Distance = "sqeuclidean") -> Tensor:
    """Return the mean distance to the own class minus that to all points, in medians of the distance: 0-d.

    Chance is 0, and a negative value means separated classes. Anchors alone in their class are left out;
    no gradient flows through the median, which is that of pairs that do not coincide. Where all points coincide
    the penalty is 0, with no gradient.

    Raises:
        ValueError: labels that are not one integer per point, fewer than two points, an unknown distance.

    >>> x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1])
    >>> class_mean(x, y)  # (1 - 5 + 1 - 2.5) / 2 / 4
    tensor(-0.6875)
    """
    require_labels(features_BD, labels_B)
    return _class_mean(features_BD, (labels_B[:, None] == labels_B).to(widened(features_BD).dtype), distance)


def soft_class_mean(features_BD: Tensor, targets_BK: Tensor, *, distance: Distance = "sqeuclidean") -> Tensor:
    """Return `class_mean` for soft targets: two points share a class as far as their targets agree, as after mixup.

    Raises:
        ValueError: as `class_mean`.

    >>> soft_class_mean(torch.tensor([[0.0], [1.0], [3.0]]), torch.eye(2)[[0, 0, 1]])
    tensor(-0.6875)
    """
    with full_precision(features_BD.device):
        targets_BK = targets_BK.detach().to(widened(features_BD).dtype)
        return _class_mean(features_BD, targets_BK @ targets_BK.T, distance)


def activation_l2(features_BD: Tensor) -> Tensor:
    """Return the mean squared length of the features: 0-d, in their own unit squared.

    >>> activation_l2(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    tensor(13.)
    """
    require_rows(features_BD)
    with full_precision(features_BD.device):
        return widened(features_BD).square().sum(1).mean()


def _class_mean(features_BD: Tensor, own_BB: Tensor, distance: Distance) -> Tensor:
    require_rows(features_BD)
    require_pair(features_BD)
    distances_BB = differentiable_distances(features_BD, distance)
    median = all_rows(distances_BB.detach(), place(features_BD.detach(), distance)).median()
    with full_precision(features_BD.device):
        return (_weights(own_BB) * distances_BB).sum() / median


def _weights(own_BB: Tensor) -> Tensor:
    """Return the weight of each distance in mean_i( mean over P_i - mean over all k != i ); 0 in a row without P_i."""
    others_BB = torch.ones_like(own_BB).fill_diagonal_(0)
    company_BB = own_BB * others_BB
    company_B = company_BB.sum(1, keepdim=True)
    valid_B = company_B > 0
    rows_BB = company_BB / company_B.where(valid_B, 1) - others_BB / (len(own_BB) - 1)
    return rows_BB * valid_B / valid_B.sum().clamp_min(1)
