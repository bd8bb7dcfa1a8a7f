"""Losses of an attack that a model cannot flatten by scaling its logits.

The cross-entropy log(1 + exp(m)) with m = log sum_{i != y} exp(z_i) - z_y has the gradient sigmoid(m) grad m. Where
the model is sure, sigmoid(m) rounds to 0 and the gradient vanishes, although its direction is still that of grad m. So
below the resolution of the logits' dtype m itself is climbed.
DLR: Croce and Hein, ICML 2020. z_(1) >= z_(2) >= ... are an image's logits, sorted. Shapes: B images, K classes.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "attack_cross_entropy",
    "check_classes",
    "dlr",
    "dlr_targeted",
    "likeliest_wrong",
    "log_odds_wrong",
    "margin",
    "without_gradient",
]

_TINY = 1e-12


def attack_cross_entropy(logits_BK: Tensor, y_B: Tensor) -> Tensor:
    """Return the cross-entropy (B,), or m where it is below the resolution of the dtype: it rises with m in both.

    Elsewhere it is torch's cross-entropy, bit for bit, with its gradient.

    >>> sure = torch.tensor([[200.0, 0.0, -1.0]], requires_grad=True)
    >>> attack_cross_entropy(sure, torch.tensor([0])).backward()
    >>> sure.grad
    tensor([[-1.0000,  0.7311,  0.2689]])
    """
    loss_B = functional.cross_entropy(logits_BK, y_B, reduction="none")
    if logits_BK.shape[1] < 2:
        return loss_B
    with torch.no_grad():
        log_odds_B = log_odds_wrong(logits_BK, y_B)
        sure_B = (log_odds_B < math.log(torch.finfo(logits_BK.dtype).eps)) & log_odds_B.isfinite()
    # Zeros in the place of the other rows, whose gradient could be NaN and NaN times zero is NaN.
    return log_odds_wrong(logits_BK.where(sure_B[:, None], 0), y_B).where(sure_B, loss_B)


def log_odds_wrong(logits_BK: Tensor, y_B: Tensor) -> Tensor:
    """Return log((1 - p_y) / p_y) of the softmax's p, (B,), without the rounding of p_y near 1.

    >>> [f"{value:.3f}" for value in log_odds_wrong(torch.tensor([[90.0, 0.0, 0.0]]), torch.tensor([0])).tolist()]
    ['-89.307']
    """
    rest_BK = _without(logits_BK, y_B)
    # Subtract first: a large common bias would round the sum over the classes away.
    top_B = rest_BK.detach().amax(1)
    return (rest_BK - top_B[:, None]).logsumexp(1) + (top_B - _of(logits_BK, y_B))


def without_gradient(gradient: Tensor) -> Tensor:
    """Return the images (B,) whose gradient is exactly zero: no attack along it moves them.

    >>> without_gradient(torch.tensor([[0.0, 0.0], [0.0, 1e-30]]))
    tensor([ True, False])
    """
    return (gradient.flatten(1) == 0).all(1)


def dlr(logits_BK: Tensor, y_B: Tensor) -> Tensor:
    """Return -(z_y - max_{i != y} z_i) / (z_(1) - z_(3) + 1e-12), (B,): positive where the image is misclassified.

    Raises:
        ValueError: fewer than three classes.

    >>> [f"{value:.3f}" for value in dlr(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0])).tolist()]
    ['-0.500']
    """
    check_classes(logits_BK, name="dlr", least=3)
    sorted_BK = logits_BK.sort(1, descending=True).values
    return -margin(logits_BK, y_B) / (sorted_BK[:, 0] - sorted_BK[:, 2] + _TINY)


def dlr_targeted(logits_BK: Tensor, y_B: Tensor, target_B: Tensor) -> Tensor:
    """Return -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2 + 1e-12), shape (B,): positive where t outdoes y.

    Raises:
        ValueError: fewer than four classes.

    >>> logits = torch.tensor([[4.0, 3.0, 2.0, 0.0]])
    >>> [f"{value:.3f}" for value in dlr_targeted(logits, torch.tensor([0]), torch.tensor([1])).tolist()]
    ['-0.333']
    """
    check_classes(logits_BK, name="dlr_targeted", least=4)
    sorted_BK = logits_BK.sort(1, descending=True).values
    lead_B = _of(logits_BK, y_B) - _of(logits_BK, target_B)
    return -lead_B / (sorted_BK[:, 0] - (sorted_BK[:, 2] + sorted_BK[:, 3]) / 2 + _TINY)


def margin(logits_BK: Tensor, y_B: Tensor) -> Tensor:
    """Return z_y - max_{i != y} z_i, shape (B,): negative where the image is misclassified.

    >>> margin(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
    tensor([1.])
    """
    return _of(logits_BK, y_B) - _without(logits_BK, y_B).amax(1)


def likeliest_wrong(logits_BK: Tensor, y_B: Tensor, *, number: int) -> Tensor:
    """Return the classes other than y of largest logits, likeliest first, (B, number), or (B, K - 1) if K is smaller.

    >>> likeliest_wrong(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]), number=9)
    tensor([[2, 1]])
    """
    order_BK: Tensor = _without(logits_BK, y_B).sort(dim=1, descending=True, stable=True).indices
    return order_BK[:, : min(number, logits_BK.shape[1] - 1)]


def _of(logits_BK: Tensor, y_B: Tensor) -> Tensor:
    return logits_BK.gather(1, y_B[:, None])[:, 0]


def _without(logits_BK: Tensor, y_B: Tensor) -> Tensor:
    return logits_BK.scatter(1, y_B[:, None], float("-inf"))


def check_classes(logits_BK: Tensor, *, name: str, least: int) -> None:
    """Raise ValueError if a loss or attack of this name needs more classes.

    >>> check_classes(torch.zeros(1, 2), name="dlr", least=3)
    Traceback (most recent call last):
    ValueError: dlr: needs at least 3 classes, got 2; use the cross-entropy
    """
    if logits_BK.shape[1] < least:
        raise ValueError(f"{name}: needs at least {least} classes, got {logits_BK.shape[1]}; use the cross-entropy")
