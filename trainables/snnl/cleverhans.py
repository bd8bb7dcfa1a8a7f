"""Loss as the authors first released it, for reproduction only; all other modules have the exact form.

    f = exp(-d / T) - I,   p_ij = f_ij / (e + sum_k f_ik),   loss = mean_i -log(e + sum_{y_j = y_i} p_ij),   e = 1e-5

Its errors are kept on purpose: an anchor alone in its class adds the constant -log(e) = 11.5129, which is also the
greatest value and is reached, with no gradient, as soon as all of a row's distances exceed about 11.5 T.
Subtracting the identity removes an anchor from its own neighbours only where d_ii is exactly 0, as it is
here; in the release d_ii is rounding noise, which in float32 competes with the sums of a low temperature.

Shapes: B points, D features.
"""

import math

import torch
from torch import Tensor

from trainables.errors import short_repr
from trainables.snnl.distances import Distance, full_precision, require_labels, widened
from trainables.snnl.loss import require_temperature

__all__ = ["SATURATION", "cleverhans_loss", "cleverhans_temperature_step"]

_EPSILON = 1e-5
_SQUARED_LENGTH_FLOOR = 1e-12
SATURATION = -math.log(_EPSILON)


def cleverhans_loss(
    features_BD: Tensor, labels_B: Tensor, temperature: float | Tensor, *, distance: Distance = "sqeuclidean"
) -> Tensor:
    """Compute the released form of the loss, 0-d: never above `SATURATION`, 11.5129.

    Raises:
        ValueError: a temperature <= 0, labels that are not one integer per point, unknown distance.

    >>> x, y = torch.tensor([[0.0], [50.0], [1.0], [51.0]]), torch.tensor([0, 0, 1, 1])
    >>> f"{cleverhans_loss(x, y, 0.1):.4f}"  # the exact loss is 24990
    '11.5129'
    """
    require_temperature(temperature)
    require_labels(features_BD, labels_B)
    distances_BB = _distances(widened(features_BD), distance)
    identity_BB = torch.eye(len(labels_B), dtype=distances_BB.dtype, device=distances_BB.device)
    kernel_BB = torch.exp(-distances_BB * (1 - identity_BB) / temperature) - identity_BB
    picked_BB = kernel_BB / (_EPSILON + kernel_BB.sum(1, keepdim=True))
    same_BB = (labels_B[:, None] == labels_B).to(picked_BB.dtype)
    return -(_EPSILON + (picked_BB * same_BB).sum(1)).log().mean()


def cleverhans_temperature_step(
    features_BD: Tensor,
    labels_B: Tensor,
    scale: Tensor,
    *,
    base: float = 100.0,
    rate: float = 0.1,
    distance: Distance = "sqeuclidean",
) -> Tensor:
    """Return the t of T = base / t after one gradient step down the released loss; it may become negative.

    Raises:
        ValueError: as `cleverhans_loss`.

    >>> x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1])
    >>> f"{cleverhans_temperature_step(x, y, torch.tensor(1.0)):.6f}"
    '1.001773'
    """
    scale = scale.detach().requires_grad_()
    with torch.enable_grad():
        loss = cleverhans_loss(features_BD.detach(), labels_B, base / scale, distance=distance)
        (slope,) = torch.autograd.grad(loss, scale)
    return scale.detach() - rate * slope


def _distances(x_BD: Tensor, distance: Distance) -> Tensor:
    """Return distances as released: neither centred nor kept above 0."""
    squares_B = x_BD.square().sum(1)
    with full_precision(x_BD.device):
        if distance == "cosine":
            unit_BD = x_BD * squares_B.clamp_min(_SQUARED_LENGTH_FLOOR).rsqrt()[:, None]
            return 1 - unit_BD @ unit_BD.T
        if distance != "sqeuclidean":
            raise ValueError(f"distance: must be 'sqeuclidean' or 'cosine', got {short_repr(distance)}")
        return squares_B[:, None] + squares_B - 2 * x_BD @ x_BD.T
