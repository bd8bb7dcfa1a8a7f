"""Argument checks of the attacks. They wait for the device, so training, which needs none, skips them."""

import torch
from torch import Tensor

__all__ = ["check_epsilon", "check_finite", "check_images", "check_labels", "check_step_size", "check_steps"]


def check_epsilon(epsilon: float, *, norm: str) -> None:
    """Raise ValueError unless epsilon is a radius of this norm in pixel units.

    >>> check_epsilon(-1.0, norm="l2")
    Traceback (most recent call last):
    ValueError: epsilon: must be finite and >= 0, got -1.0
    >>> check_epsilon(8, norm="linf")
    Traceback (most recent call last):
    ValueError: epsilon: must be <= 1 under linf, as pixels are in [0, 1], got 8; divide a radius of 8-bit pixels by 255
    """
    if not 0 <= epsilon < float("inf"):
        raise ValueError(f"epsilon: must be finite and >= 0, got {epsilon}")
    if norm == "linf" and epsilon > 1:
        raise ValueError(
            f"epsilon: must be <= 1 under linf, as pixels are in [0, 1], got {epsilon}; "
            "divide a radius of 8-bit pixels by 255"
        )


def check_steps(**counts: int) -> None:
    """Raise ValueError unless all of these counts are at least 1.

    >>> check_steps(steps=3, restarts=0)
    Traceback (most recent call last):
    ValueError: restarts: must be >= 1, got 0
    """
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}: must be >= 1, got {count}")


def check_step_size(step_size: float, *, name: str = "step_size") -> None:
    """Raise ValueError unless the step is positive and finite.

    >>> check_step_size(0.0)
    Traceback (most recent call last):
    ValueError: step_size: must be finite and > 0, got 0.0
    """
    if not 0 < step_size < float("inf"):
        raise ValueError(f"{name}: must be finite and > 0, got {step_size}")


def check_images(x: Tensor) -> None:
    """Raise ValueError unless x is a batch (B, ...) of floating point pixels in [0, 1].

    >>> check_images(torch.zeros(1, 2, dtype=torch.uint8))
    Traceback (most recent call last):
    ValueError: x: must be floating point in [0, 1], got torch.uint8; divide uint8 images by 255
    """
    if not x.is_floating_point():
        raise ValueError(f"x: must be floating point in [0, 1], got {x.dtype}; divide uint8 images by 255")
    if x.dim() < 2:  # the norm of a perturbation is taken over all axes but the first
        raise ValueError(f"x: must be a batch (B, ...) of at least two axes, got shape {tuple(x.shape)}")
    if not bool(((x >= 0) & (x <= 1)).all()):
        raise ValueError(
            f"x: must be in [0, 1], got values from {float(x.min())} to {float(x.max())}; "
            "attack pixels, and normalise inside the model"
        )


def check_labels(y_B: Tensor, *, x: Tensor) -> None:
    """Raise ValueError unless y holds one hard label per image.

    >>> check_labels(torch.tensor([0, 1]), x=torch.zeros(3, 2))
    Traceback (most recent call last):
    ValueError: y: must be (3,) int64, one label per image, got (2,) torch.int64; attacks take hard labels
    """
    if y_B.shape != x.shape[:1] or y_B.dtype != torch.int64:
        raise ValueError(
            f"y: must be ({len(x)},) int64, one label per image, got {tuple(y_B.shape)} {y_B.dtype}; "
            "attacks take hard labels"
        )


def check_finite(x_adversarial: Tensor) -> Tensor:
    """Return the attacked images; raise ValueError if a gradient that is not finite has spoiled them.

    >>> check_finite(torch.tensor([float("nan")]))
    Traceback (most recent call last):
    ValueError: model: its loss has a gradient that is not finite, so the attack met no images; look for 0/0 or \
overflow in the model
    """
    if not bool(x_adversarial.isfinite().all()):
        raise ValueError(
            "model: its loss has a gradient that is not finite, so the attack met no images; "
            "look for 0/0 or overflow in the model"
        )
    return x_adversarial
