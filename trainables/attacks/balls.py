"""The balls that perturbations are kept in, each cut with the box [0, 1], and noise to start from.

Norms are taken over all axes but the first, so an image may have any rank.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol, Self

import torch
from torch import Tensor

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
    """Perturbed images around some others."""

    def project(self, iterate: Tensor) -> Tensor:
        """The nearest image of the ball, then the nearest of the box."""

    def direction(self, gradient: Tensor) -> Tensor:
        """The unit step that a linear function with this gradient rises by most."""


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
        """The ball of this radius around each image."""
        return cls((x - epsilon).clamp_min(0), (x + epsilon).clamp_max(1))

    def project(self, iterate: Tensor) -> Tensor:
        """Ball and box are boxes both: one clamp."""
        return torch.clamp(iterate, self.low, self.high)

    def direction(self, gradient: Tensor) -> Tensor:
        """The sign."""
        # torch's sign of NaN is 0: an attack that never moved would look like a model that withstands it.
        return torch.where(gradient.isnan(), gradient, gradient.sign())


@dataclass(frozen=True, slots=True)
class L2Ball:
    """Images no further than `epsilon` from `centre` in the Euclidean norm.

    >>> L2Ball.around(torch.tensor([[0.5, 0.5]]), epsilon=0.5).project(torch.tensor([[0.5, 9.0]]))
    tensor([[0.5000, 1.0000]])
    """

    centre: Tensor
    epsilon: float

    @classmethod
    def around(cls, x: Tensor, *, epsilon: float) -> Self:
        """The ball of this radius around each image."""
        return cls(x, epsilon)

    def project(self, iterate: Tensor) -> Tensor:
        """Clamping to the box comes second: the centre is in it, so that never lengthens a perturbation."""
        delta = iterate - self.centre
        length = _length(delta).clamp_min(torch.finfo(delta.dtype).tiny)
        return torch.clamp(self.centre + delta * (self.epsilon / length).clamp_max(1), 0, 1)

    def direction(self, gradient: Tensor) -> Tensor:
        """The gradient over its length; a gradient of zeros stays one.

        The largest entry is divided out first: the square of a small gradient is zero in float32.
        """
        axes = tuple(range(1, gradient.dim()))
        smallest = torch.finfo(gradient.dtype).tiny
        scaled = gradient / gradient.abs().amax(axes, keepdim=True).clamp_min(smallest)
        return scaled / _length(scaled).clamp_min(smallest)


_AROUND: Final[Mapping[str, Callable[..., Ball]]] = {"linf": LinfBall.around, "l2": L2Ball.around}


def ball_around(x: Tensor, *, epsilon: float, norm: Norm) -> Ball:
    """The ball of this norm and radius around each image.

    Raises:
        ValueError: an unknown norm.

    >>> ball_around(torch.zeros(1, 2), epsilon=1.0, norm="l2").direction(torch.tensor([[3.0, -4.0]]))
    tensor([[ 0.6000, -0.8000]])
    """
    _check_norm(norm)
    return _AROUND[norm](x, epsilon=epsilon)


def uniform_noise(x: Tensor, *, epsilon: float, generator: torch.Generator | None = None) -> Tensor:
    """Noise from U(-epsilon, epsilon) in the shape, dtype and device of x."""
    return torch.empty_like(x).uniform_(-epsilon, epsilon, generator=generator)


def random_start_noise(
    x: Tensor, *, epsilon: float, norm: Norm = "linf", generator: torch.Generator | None = None
) -> Tensor:
    """Noise drawn uniformly from the volume of the ball around zero, in the shape, dtype and device of x.

    For L2, a Gaussian direction and the radius epsilon U(0, 1)^(1/n) for n pixels: with a radius of
    epsilon U(0, 1), as some libraries have it, starts would crowd at the centre.

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
    """Noise on the surface of the ball around zero, where the loss is furthest from the clean one (APGD's start).

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
    """The images, detached, in their own dtype if it is float64 and else in float32.

    >>> at_least_float32(torch.zeros(1, dtype=torch.float16)).dtype
    torch.float32
    """
    return x.detach() if x.dtype == torch.float64 else x.detach().float()


def _length(delta: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(delta, dim=tuple(range(1, delta.dim())), keepdim=True)
    return length


def _check_norm(norm: str) -> None:
    if norm not in _AROUND:
        raise ValueError(f"norm: must be one of {', '.join(map(repr, _AROUND))}, got {norm!r}")
