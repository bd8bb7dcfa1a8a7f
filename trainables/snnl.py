"""Soft nearest neighbour loss (Frosst, Papernot and Hinton, ICML 2019).

For a batch of B points x with labels y and temperature T (equation 1 of the paper),

    l_i = -log( sum_{j != i, y_j = y_i} exp(-d_ij / T) / sum_{k != i} exp(-d_ik / T) )

is the surprise of drawing one of its own class when anchor i picks a neighbour with probability
proportional to exp(-d_ik / T); the loss is the mean over anchors. Low means separated classes, high
means entangled ones. Four decisions, with no epsilon in the loss:

- l_i is computed as softplus(LSE over other classes - LSE over its own), exact where it is nearly 0
  and free of underflow (the 1e-5 of the first released code saturates at 11.5 and stops the gradient);
- an anchor that is alone in its class has no l_i: it is left out of the mean, and out of its divisor;
- features are centred before distances are taken: the loss does not change, its rounding error does;
- the temperature that eliminates T (equation 2) always *minimises* the loss, whatever the sign of
  its weight in the objective: maximising at a free temperature has no bound.

Shapes: B points, D features.
"""

from typing import Literal

from torch import Tensor

from trainables.neighbours import Distance, Neighbours, median_distance, neighbours
from trainables.temperature import (
    TemperatureMinimum,
    chance_level,
    minimise_temperature,
    minimising_beta,
)

__all__ = [
    "Distance",
    "TemperatureMinimum",
    "TemperatureMode",
    "chance_level",
    "minimise_temperature",
    "per_anchor_losses",
    "soft_nearest_neighbor_loss",
    "training_loss",
]

TemperatureMode = Literal["minimised", "relative", "absolute"]


def soft_nearest_neighbor_loss(
    features_BD: Tensor,
    labels_B: Tensor,
    temperature: float | Tensor,
    distance: Distance = "sqeuclidean",
) -> Tensor:
    """Mean loss over the anchors that share their class with another point: a 0-d tensor.

    Features of more than two dimensions are flattened; float64 stays float64, half precision is
    raised to float32. With no valid anchor the loss is 0 with zero gradient.

    Raises:
        ValueError: a temperature <= 0, labels that are not one integer per point, unknown distance.

    >>> import torch
    >>> x, y = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64), torch.tensor([0, 0, 1])
    >>> f"{soft_nearest_neighbor_loss(x, y, 1.0):.6f}"
    '0.024461'
    """
    _check_temperature(temperature)
    return neighbours(features_BD, labels_B, distance=distance).loss(1 / temperature)


def per_anchor_losses(
    features_BD: Tensor, labels_B: Tensor, temperature: float | Tensor, *, distance: Distance = "sqeuclidean"
) -> tuple[Tensor, Tensor]:
    """Loss of each anchor (B,), and which anchors are valid (B,); the loss of the others is 0.

    Raises:
        ValueError: as `soft_nearest_neighbor_loss`.
    """
    _check_temperature(temperature)
    batch = neighbours(features_BD, labels_B, distance=distance)
    return batch.losses(1 / temperature), batch.valid_B


def training_loss(
    features_BD: Tensor,
    labels_B: Tensor,
    *,
    mode: TemperatureMode,
    temperature: float = 1.0,
    distance: Distance = "sqeuclidean",
) -> Tensor:
    """The loss at the temperature that `mode` chooses for this batch; no gradient flows through it.

    `minimised`: the minimising temperature of this batch, clamped to its data scale; `temperature`
    is unused. `relative`: `temperature` times the median pairwise distance. `absolute`: as it is.

    Raises:
        ValueError: as `soft_nearest_neighbor_loss`; an unknown mode; fewer than two points.

    >>> import torch
    >>> x, y = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64), torch.tensor([0, 0, 1])
    >>> f"{training_loss(x, y, mode='relative', temperature=0.25):.6f}"  # the median distance is 4
    '0.024461'
    """
    _check_temperature(temperature)
    batch = neighbours(features_BD, labels_B, distance=distance)
    return batch.loss(_training_beta(batch, mode=mode, temperature=temperature))


def _training_beta(batch: Neighbours, *, mode: TemperatureMode, temperature: float) -> float | Tensor:
    match mode:
        case "minimised":
            return minimising_beta(batch)
        case "relative":
            return 1 / (temperature * median_distance(batch.distances_BB))
        case "absolute":
            return 1 / temperature
        case _:
            raise ValueError(f"mode: must be 'minimised', 'relative' or 'absolute', got {mode!r}")


def _check_temperature(temperature: float | Tensor) -> None:
    # A tensor is not looked at: the host would wait for the device.
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"temperature: must be > 0, got {temperature}")
