"""Attack of a training step: one of ours, or a user's own function by import path.

    def attack(model, x, y, epsilon, norm, steps, step_size, generator): ...

A user's function is called with those of these arguments that it takes, by name, and with `adversarial.args.NAME`. It
returns images in [0, 1] within epsilon of x. The model is in eval mode, in float32, and the generator has a seed of
its own in each step.
Shapes: B images, C channels, H by W pixels.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from trainables import attacks
from trainables.attacks import Norm
from trainables.attacks.modes import attacking
from trainables.config.adversarial import ATTACK_GROUP, ATTACK_NAMES, AdversarialConfig
from trainables.errors import ConfigError, Problem, TrainableError, short_repr
from trainables.import_paths import argument_problems, call, load
from trainables.user_code import described, raised

__all__ = ["UserAttack", "perturbed", "user_attack"]

PROVIDED = ("model", "x", "y", "epsilon", "norm", "steps", "step_size", "generator")
_PLACE = "adversarial.attack"
# Beyond rounding: a few units in the last place of float32 pixels.
_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class UserAttack:
    """Attack of a user, with each result checked; `name` is that of its function, for messages."""

    function: Callable[..., Any]
    name: str

    def __call__(
        self, model: nn.Module, x_BCHW: Tensor, y_B: Tensor, *, settings: AdversarialConfig, seed: int
    ) -> Tensor:
        """Return attacked images.

        Raises:
            ConfigError: the function raises, or returns what are no images in the ball.
        """
        provided = {
            "model": model,
            "x": x_BCHW,
            "y": y_B,
            "epsilon": settings.epsilon,
            "norm": settings.norm,
            "steps": settings.num_steps,
            "step_size": settings.step_size,
            "generator": torch.Generator(x_BCHW.device).manual_seed(seed),
        }
        try:
            with attacking(model, device=x_BCHW.device):
                result = call(self.function, settings.args.by_name, provided=provided)
        except (torch.OutOfMemoryError, MemoryError, TrainableError):
            raise
        except Exception as error:
            raise self._error(raised(error, self.function)) from error
        return self._checked(result, x_BCHW, settings)

    def _checked(self, result: object, x_BCHW: Tensor, settings: AdversarialConfig) -> Tensor:
        if not isinstance(result, Tensor):
            raise self._error(f"must return images, got {described(result)}")
        if result.shape != x_BCHW.shape or result.dtype != x_BCHW.dtype:
            wanted, got = (f"{tuple(images.shape)} {images.dtype}" for images in (x_BCHW, result))
            raise self._error(f"must return images of {wanted}, got {got}")
        delta = (result.detach() - x_BCHW).flatten(1)
        length = float((delta.abs().amax(1) if settings.norm == "linf" else delta.norm(dim=1)).max())
        low, high = float(result.detach().min()), float(result.detach().max())
        if not length <= settings.epsilon + _TOLERANCE:
            ball = f"within epsilon ({settings.epsilon:g}, {settings.norm}) of the images"
            raise self._error(f"must stay {ball}, moved one by {length:g}; project its result")
        if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
            raise self._error(f"must keep pixels in [0, 1], got {low:g} to {high:g}; clamp its result")
        return result.detach()

    def _error(self, what: str) -> ConfigError:
        return ConfigError([Problem(_PLACE, f"{self.name} {what}")])


def user_attack(settings: AdversarialConfig) -> UserAttack | None:
    """Return a user's attack, or None if it is one of ours.

    Raises:
        ConfigError: it cannot be imported, is no function, or has other arguments.
    """
    if settings.attack in ATTACK_NAMES:
        return None
    function = load(settings.attack, group=ATTACK_GROUP, place=_PLACE)
    if not callable(function) or inspect.isclass(function):
        raise ConfigError([Problem(_PLACE, f"must name a function (model, x, y, ...), got {short_repr(function)}")])
    problems = argument_problems(function, settings.args.by_name, place="adversarial.args", provided=PROVIDED)
    if problems:
        raise ConfigError(problems)
    return UserAttack(function, getattr(function, "__name__", type(function).__name__))


class _AttackSize(TypedDict):
    """Size of an attack: its ball and its steps."""

    epsilon: float
    steps: int
    step_size: float
    norm: Norm


def perturbed(
    model: nn.Module, x_BCHW: Tensor, y_B: Tensor, *, settings: AdversarialConfig, noise: Tensor | None
) -> Tensor:
    """Return the images after one of our attacks, from a start that differs by this noise."""
    size = _AttackSize(
        epsilon=settings.epsilon, steps=settings.num_steps, step_size=settings.step_size, norm=settings.norm
    )
    if settings.attack == "trades":
        if noise is None:
            raise ValueError(
                "draws.noise_BCHW: must be present for trades, as the divergence has no gradient at the image"
            )
        return attacks.trades_ascent(model, x_BCHW, noise=noise, **size)
    if settings.attack == "n_fgsm":
        if noise is None:
            raise ValueError("draws.noise_BCHW: must be present for n_fgsm, as noise is a part of its perturbation")
        return attacks.n_fgsm(model, x_BCHW, y_B, step_size=settings.step_size, noise=noise)
    return attacks.projected_ascent(model, x_BCHW, y_B, start=None if noise is None else x_BCHW + noise, **size)
