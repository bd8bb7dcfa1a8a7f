"""Difference of logits ratio: a loss that a model cannot flatten by scaling its logits.

Croce and Hein, ICML 2020. z_(1) >= z_(2) >= ... are an image's logits, sorted. Shapes: B images, K classes.
"""

from torch import Tensor

__all__ = ["check_classes", "dlr", "dlr_targeted", "likeliest_wrong", "margin"]

_TINY = 1e-12


def dlr(logits_BK: Tensor, y_B: Tensor) -> Tensor:
    """Return -(z_y - max_{i != y} z_i) / (z_(1) - z_(3) + 1e-12), (B,): positive where the image is misclassified.

    Raises:
        ValueError: fewer than three classes.

    >>> import torch
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

    >>> import torch
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

    >>> import torch
    >>> margin(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
    tensor([1.])
    """
    return _of(logits_BK, y_B) - _without(logits_BK, y_B).amax(1)


def likeliest_wrong(logits_BK: Tensor, y_B: Tensor, *, number: int) -> Tensor:
    """Return the classes other than y of largest logits, likeliest first, (B, number), or (B, K - 1) if K is smaller.

    >>> import torch
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

    >>> import torch
    >>> check_classes(torch.zeros(1, 2), name="dlr", least=3)
    Traceback (most recent call last):
    ValueError: dlr: needs at least 3 classes, got 2; use the cross-entropy
    """
    if logits_BK.shape[1] < least:
        raise ValueError(f"{name}: needs at least {least} classes, got {logits_BK.shape[1]}; use the cross-entropy")
