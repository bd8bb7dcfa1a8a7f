"""Loss at a fixed temperature.

Shapes: B points, D features.
"""

import torch
from torch import Tensor

from trainables.snnl.distances import Distance, pairwise_distances, place, require_labels, widened_dtype
from trainables.snnl.functions import BLOCK, MATRIX_LIMIT, BlockLoss, MatrixLoss
from trainables.snnl.neighbours import anchor_losses

__all__ = ["per_anchor_losses", "require_inverse", "require_temperature", "soft_nearest_neighbor_loss"]


def soft_nearest_neighbor_loss(
    features_BD: Tensor,
    labels_B: Tensor,
    temperature: float | Tensor,
    distance: Distance = "sqeuclidean",
) -> Tensor:
    """Return the mean loss over the anchors that share their class with another point: a 0-d tensor.

    Differentiable in features and temperature, any number of times; a second derivative takes autograd through several
    matrices of pairs, at every size. Features of more than two dimensions are flattened;
    float64 stays float64, half precision becomes float32. With no valid anchor the loss is 0 with
    zero gradient. Beyond 1,024 points no matrix of pairs is kept: its blocks are recomputed for the
    gradient.

    Raises:
        ValueError: a temperature <= 0, or without an inverse in the precision of the features; no points; features
            that are complex or not one row per point; labels that are not one integer per point, unknown distance.

    >>> import torch
    >>> x, y = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64), torch.tensor([0, 0, 1])
    >>> f"{soft_nearest_neighbor_loss(x, y, 1.0):.6f}"
    '0.024461'
    """
    require_temperature(temperature)
    require_labels(features_BD, labels_B)
    require_inverse(temperature, features_BD)
    points = place(features_BD, distance)
    # Fill on the device rather than copy to it, so that the host need not wait.
    temperature = temperature if isinstance(temperature, Tensor) else points.x_BD.new_full((), temperature)
    beta = 1 / temperature.to(points.x_BD)
    if len(labels_B) > MATRIX_LIMIT:
        return BlockLoss.of(points, labels_B, beta, block=BLOCK)
    return MatrixLoss.of(points, labels_B, beta, distances_BB=pairwise_distances(points))


def per_anchor_losses(
    features_BD: Tensor, labels_B: Tensor, temperature: float | Tensor, *, distance: Distance = "sqeuclidean"
) -> tuple[Tensor, Tensor]:
    """Return the loss of each anchor (B,), and its validity (B,); the loss of an invalid anchor is 0.

    The losses are differentiable, by several matrices of pairs. For whole data sets, use `streaming_losses`.

    Raises:
        ValueError: as `soft_nearest_neighbor_loss`.

    >>> import torch
    >>> x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1])
    >>> per_anchor_losses(x, y, 1.0)[1].tolist()
    [True, True, False]
    """
    require_temperature(temperature)
    require_labels(features_BD, labels_B)
    require_inverse(temperature, features_BD)
    return anchor_losses(features_BD, labels_B, 1 / temperature, distance=distance)


def require_temperature(temperature: float | Tensor) -> None:
    """Reject a temperature that is not positive.

    Raises:
        ValueError: it is not. A tensor is not checked, because the host would wait for the device.
    """
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"temperature: must be > 0, got {temperature}")


def require_inverse(temperature: float | Tensor, features_BD: Tensor) -> None:
    """Reject a temperature whose inverse overflows in the precision of these features.

    Raises:
        ValueError: it does. A tensor is not checked, because the host would wait for the device.
    """
    if isinstance(temperature, Tensor):
        return
    dtype = widened_dtype(features_BD)
    smallest = torch.finfo(dtype).tiny
    if temperature < smallest:
        name = str(dtype).removeprefix("torch.")
        raise ValueError(
            f"temperature: must be >= {smallest:.3g} for features in {name}, as 1 / T overflows below, "
            f"got {temperature}; scale the features up, and T with their square"
        )
