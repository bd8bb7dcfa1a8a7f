"""Balls that bound perturbations, intersected with the box [0, 1], and noise to start from.

Norms are taken over all axes but the first, so an image may have any rank.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol, Self

import torch
from torch import Tensor

from trainables.attacks.checks import check_epsilon
from trainables.errors import short_repr

__all__ = [
    "Ball",
    "L2Ball",
    "LinfBall",
    "Norm",
    "at_least_float32",
    "ball_around",
    "random_start_noise",
    "surface_noise",
    "uniform_noise",
]

Norm = Literal["linf", "l2"]


class Ball(Protocol):
    """Set of perturbed images around a batch of images."""

    def project(self, iterate: Tensor) -> Tensor:
        """Project to the ball, then to the box."""

    def direction(self, gradient: Tensor) -> Tensor:
        """Return the unit step along which a linear function with this gradient rises most."""


@dataclass(frozen=True, slots=True)
class LinfBall:
    """Images between `low` and `high`, pixel by pixel.

    >>> LinfBall.around(torch.tensor([[0.0, 0.5]]), epsilon=0.25).project(torch.tensor([[-1.0, 0.9]]))
    tensor([[0.0000, 0.7500]])
    """

    low: Tensor
    high: Tensor

    @classmethod
    def around(cls, x: Tensor, *, epsilon: float) -> Self:
        """Return the ball of this radius around each image."""
        return cls((x - epsilon).clamp_min(0), (x + epsilon).clamp_max(1))

    def project(self, iterate: Tensor) -> Tensor:
        """Clamp once, as the ball and the box are both boxes."""
        return torch.clamp(iterate, self.low, self.high)

    def direction(self, gradient: Tensor) -> Tensor:
        """Return the sign of the gradient."""
        # torch's sign of NaN is 0: an attack that does not move would look like a robust model.
        return torch.where(gradient.isnan(), gradient, gradient.sign())


@dataclass(frozen=True, slots=True)
class L2Ball:
    """Images no further than `epsilon` from `centre` in the Euclidean norm; a number, or a tensor (B, 1, ...).

    >>> L2Ball.around(torch.tensor([[0.5, 0.5]]), epsilon=0.5).project(torch.tensor([[0.5, 9.0]]))
    tensor([[0.5000, 1.0000]])
    """

    centre: Tensor
    epsilon: float | Tensor

    @classmethod
    def around(cls, x: Tensor, *, epsilon: float) -> Self:
        """Return the ball of this radius around each image."""
        return cls(x, epsilon)

    def project(self, iterate: Tensor) -> Tensor:
        """Project to the ball, then clamp: the centre is in the box, so the clamp lengthens no perturbation."""
        delta = iterate - self.centre
        length = _length(delta).clamp_min(torch.finfo(delta.dtype).tiny)
        return torch.clamp(self.centre + delta * (self.epsilon / length).clamp_max(1), 0, 1)

    def direction(self, gradient: Tensor) -> Tensor:
        """Return the gradient divided by its length; a zero gradient stays zero.

        The largest entry is divided out first: the square of a small gradient is zero in float32.
        """
        axes = tuple(range(1, gradient.dim()))
        smallest = torch.finfo(gradient.dtype).tiny
        scaled = gradient / gradient.abs().amax(axes, keepdim=True).clamp_min(smallest)
        return scaled / _length(scaled).clamp_min(smallest)


_AROUND: Final[Mapping[str, Callable[..., Ball]]] = {"linf": LinfBall.around, "l2": L2Ball.around}


def ball_around(x: Tensor, *, epsilon: float, norm: Norm) -> Ball:
    """Return the ball of this norm and radius around each image.

    Raises:
        ValueError: an unknown norm; epsilon negative, not finite or above 1 in the Linf ball.

    >>> ball_around(torch.zeros(1, 2), epsilon=1.0, norm="l2").direction(torch.tensor([[3.0, -4.0]]))
    tensor([[ 0.6000, -0.8000]])
    """
    _check_norm(norm)
    check_epsilon(epsilon, norm=norm)
    return _AROUND[norm](x, epsilon=epsilon)


def uniform_noise(x: Tensor, *, epsilon: float, generator: torch.Generator | None = None) -> Tensor:
    """Sample noise from U(-epsilon, epsilon) in the shape, dtype and device of x."""
    return torch.empty_like(x).uniform_(-epsilon, epsilon, generator=generator)


def random_start_noise(
    x: Tensor, *, epsilon: float, norm: Norm = "linf", generator: torch.Generator | None = None
) -> Tensor:
    """Sample noise uniformly from the volume of the ball around zero, in the shape, dtype and device of x.

    For L2, a Gaussian direction and the radius epsilon U(0, 1)^(1/n) for n pixels: with a radius of
    epsilon U(0, 1), as in some libraries, starts would concentrate at the centre.

    Raises:
        ValueError: an unknown norm.

    >>> noise = random_start_noise(torch.zeros(1000, 3, 8, 8), epsilon=2.0, norm="l2")
    >>> lengths = torch.linalg.vector_norm(noise, dim=(1, 2, 3))
    >>> bool(lengths.max() <= 2 + 1e-5), bool(lengths.median() > 1.99)
    (True, True)
    """
    _check_norm(norm)
    if norm == "linf":
        return uniform_noise(x, epsilon=epsilon, generator=generator)
    direction = torch.empty_like(x).normal_(generator=generator)
    volume = x.new_empty((len(x), *[1] * (x.dim() - 1))).uniform_(generator=generator)
    return direction * (epsilon * volume.pow(1 / math.prod(x.shape[1:])) / _length(direction))


def surface_noise(
    x: Tensor, *, epsilon: float, norm: Norm = "linf", generator: torch.Generator | None = None
) -> Tensor:
    """Sample noise on the surface of the ball around zero, as APGD's start does.

    For Linf, U(-1, 1) scaled until its largest entry is epsilon; for L2, a Gaussian scaled to length epsilon.

    Raises:
        ValueError: an unknown norm.

    >>> noise = surface_noise(torch.zeros(2, 3), epsilon=0.5)
    >>> noise.abs().amax(1)
    tensor([0.5000, 0.5000])
    """
    _check_norm(norm)
    if norm == "l2":
        direction = torch.empty_like(x).normal_(generator=generator)
        return direction * (epsilon / _length(direction))
    noise = uniform_noise(x, epsilon=1, generator=generator)
    return noise * (epsilon / noise.abs().amax(tuple(range(1, x.dim())), keepdim=True))


def at_least_float32(x: Tensor) -> Tensor:
    """Return the images, detached, in float64 if they are float64, else in float32.

    >>> at_least_float32(torch.zeros(1, dtype=torch.float16)).dtype
    torch.float32
    """
    return x.detach() if x.dtype == torch.float64 else x.detach().float()


def _length(delta: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(delta, dim=tuple(range(1, delta.dim())), keepdim=True)
    return length


def _check_norm(norm: str) -> None:
    if norm not in _AROUND:
        raise ValueError(f"norm: must be one of {', '.join(map(repr, _AROUND))}, got {short_repr(norm)}")
