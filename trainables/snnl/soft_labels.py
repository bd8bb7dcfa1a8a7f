"""Loss where each point belongs to several classes, as after mixup.

With targets t and w_ij = <t_i, t_j>, the probability that i and j are of one class,

    l_i = -log( sum_{j != i} w_ij exp(-d_ij / T) / sum_{j != i} exp(-d_ij / T) ),

which is the loss of equation 1 where the targets are one-hot. It uses autograd over a few matrices of pairs.

Shapes: B points, D features, K classes, A anchors.
"""

import math

import torch
from torch import Tensor

from trainables.snnl.distances import Distance, differentiable_distances, place, require_pair, require_rows
from trainables.snnl.loss import require_inverse, require_temperature
from trainables.snnl.sample import all_rows
from trainables.snnl.training import LearnedTemperature, TemperatureMode, TrainingTerm, choose_beta, require_mode

__all__ = ["soft_composition", "soft_label_loss", "soft_training_term"]


def soft_label_loss(
    features_BD: Tensor,
    targets_BK: Tensor,
    temperature: float | Tensor,
    *,
    distance: Distance = "sqeuclidean",
) -> Tensor:
    """Return the mean loss over the anchors that share a class with another point: 0-d, and 0 without such anchors.

    Raises:
        ValueError: a temperature <= 0, targets that are not one row per point, unknown distance.

    >>> x = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
    >>> one_hot = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> f"{soft_label_loss(x, one_hot, 1.0):.6f}"
    '0.024461'
    """
    require_temperature(temperature)
    _require_targets(features_BD, targets_BK)
    require_inverse(temperature, features_BD)
    distances_BB = differentiable_distances(features_BD, distance)
    return _loss(distances_BB, _company(targets_BK, distances_BB), 1 / temperature)


def soft_training_term(
    features_BD: Tensor,
    targets_BK: Tensor,
    *,
    mode: TemperatureMode,
    temperature: float = 1.0,
    distance: Distance = "sqeuclidean",
    learned: LearnedTemperature | None = None,
) -> TrainingTerm:
    """Compute the soft-label loss at the temperature that `mode` chooses, as `training_term` does.

    Raises:
        ValueError: as `training_term` and `soft_label_loss`.

    >>> x = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
    >>> one_hot = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> f"{soft_training_term(x, one_hot, mode='relative', temperature=0.25).loss:.6f}"
    '0.024461'
    """
    require_mode(mode, temperature=temperature, learned=learned)
    _require_targets(features_BD, targets_BK)
    require_inverse(temperature, features_BD)
    if mode != "absolute":
        require_pair(features_BD)
    distances_BB = differentiable_distances(features_BD, distance)
    own_BB = _company(targets_BK, distances_BB)
    sample = all_rows(distances_BB.detach(), place(features_BD.detach(), distance))
    beta, learned = choose_beta(sample, own_BB.__getitem__, mode=mode, temperature=temperature, learned=learned)
    loss = _loss(distances_BB, own_BB, beta)
    if mode == "minimised":
        # An infinite temperature is a valid choice, too.
        loss = torch.minimum(loss, _chance(own_BB))
    return TrainingTerm(loss, learned)


def soft_composition(targets_BK: Tensor) -> tuple[Tensor, Tensor]:
    """Return the chance level of these targets, and the number of anchors that share no class: 0-d, float32.

    Equal to `batch_composition` where the targets are one-hot.

    >>> chance, singletons = soft_composition(torch.eye(3)[[0, 0, 1, 1, 2]])
    >>> f"{chance:.4f} {singletons:.0f}"  # log(4 / 1)
    '1.3863 1'
    """
    own_BB = _company(targets_BK, targets_BK)
    return _chance(own_BB).float(), (own_BB <= 0).all(1).sum().float()


def _chance(own_BB: Tensor) -> Tensor:
    """Return the loss at infinite temperature, where all neighbours are equally likely."""
    return _loss(torch.zeros_like(own_BB), own_BB, 0.0)


def _company(targets_BK: Tensor, distances_BB: Tensor) -> Tensor:
    """Return the w_ij, in the precision of the distances; 0 for a point and itself."""
    weights_BK = targets_BK.detach().to(distances_BB.dtype)
    with torch.autocast(targets_BK.device.type, enabled=False):
        return (weights_BK @ weights_BK.T).fill_diagonal_(0)


def _loss(distances_BB: Tensor, own_BB: Tensor, beta: float | Tensor) -> Tensor:
    itself_BB = torch.eye(len(own_BB), dtype=torch.bool, device=own_BB.device)
    valid_B = (own_BB > 0).any(1)
    scores_BB = (-distances_BB * beta).masked_fill(itself_BB, -math.inf)
    # log(0) is -inf with no gradient, as the weights are data.
    own_B = (scores_BB + own_BB.log()).masked_fill(own_BB <= 0, -math.inf).logsumexp(1).where(valid_B, 0)
    return (scores_BB.logsumexp(1).where(valid_B, 0) - own_B).sum() / valid_B.sum().clamp_min(1)


def _require_targets(features_BD: Tensor, targets_BK: Tensor) -> None:
    require_rows(features_BD)
    if targets_BK.dim() != 2 or len(targets_BK) != len(features_BD):
        raise ValueError(
            f"targets: must be one row of class shares per point, got shape {tuple(targets_BK.shape)} "
            f"for features of shape {tuple(features_BD.shape)}"
        )
