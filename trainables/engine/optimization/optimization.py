"""Optimization: optimizer, learning rate as a function of the step, gradient clipping and averaged weights."""

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from trainables.config.trial import OptimizerConfig
from trainables.engine.optimization.own_optimizers import build_own
from trainables.engine.share import Share

__all__ = [
    "WeightAverage",
    "average_step",
    "build_optimizer",
    "clip_gradients",
    "learning_rate",
    "rate_shares",
    "set_rate",
]

# Peak of one_cycle, as a share of all steps.
ONE_CYCLE_PEAK = 0.3


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return a fused optimizer over all of the model's parameters, or a user's own over those that are trained.

    Raises:
        ConfigError: a user's own cannot be built.
    """
    if config.is_own:
        return build_own(config, model)
    if config.name == "adamw":
        betas = (config.momentum, 0.999)
        return torch.optim.AdamW(
            model.parameters(), lr=config.lr, betas=betas, weight_decay=config.weight_decay, fused=True
        )
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        fused=True,
    )
    if config.momentum:
        # The fused step fails if some parameters have a buffer and some have none, as where a block is skipped.
        for parameter in filter(lambda parameter: parameter.requires_grad, model.parameters()):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def learning_rate(config: OptimizerConfig, step: int, *, total_steps: int, steps_per_epoch: int = 1) -> float:
    """Return the rate of this step, counted from 0; a pure function, so that a checkpoint need not hold it.

    'cosine' falls from lr towards 0 without a restart, over the steps after the warm-up. The milestones of
    'step' are fractions of all steps. 'one_cycle' begins with its own rise and ignores the warm-up.

    >>> [round(learning_rate(OptimizerConfig(lr=0.1), step, total_steps=4), 3) for step in range(4)]
    [0.1, 0.085, 0.05, 0.015]
    >>> config = OptimizerConfig(lr=0.1, schedule="constant", warmup_epochs=2)
    >>> [round(learning_rate(config, step, total_steps=4), 3) for step in range(4)]
    [0.05, 0.1, 0.1, 0.1]
    >>> config = OptimizerConfig(lr=0.1, schedule="step", milestones=(0.5, 0.75))
    >>> [round(learning_rate(config, step, total_steps=4), 4) for step in range(4)]
    [0.1, 0.1, 0.01, 0.001]
    >>> config = OptimizerConfig(lr=0.1, schedule="one_cycle")
    >>> [round(learning_rate(config, step, total_steps=9), 3) for step in range(9)]
    [0.033, 0.067, 0.1, 0.086, 0.071, 0.057, 0.043, 0.029, 0.014]
    """
    if config.schedule == "one_cycle":
        position = (step + 1) / (total_steps + 1)
        return config.lr * min(position / ONE_CYCLE_PEAK, (1 - position) / (1 - ONE_CYCLE_PEAK))
    warmup_steps = config.warmup_epochs * steps_per_epoch
    if step < warmup_steps:
        return config.lr * min(1.0, (step + 1) / warmup_steps)
    if config.schedule == "cosine":
        return config.lr * (1 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps))) / 2
    if config.schedule == "step":
        passed = sum(step >= fraction * total_steps for fraction in config.milestones)
        return config.lr * config.decay**passed
    return config.lr


def rate_shares(optimizer: torch.optim.Optimizer, config: OptimizerConfig) -> tuple[float, ...]:
    """Return the rate of each parameter group of a new optimizer, in units of `lr`: 1 but for groups of a user's own.

    >>> groups = [{"params": [nn.Parameter(torch.ones(1))], "lr": rate} for rate in (0.5, 0.05)]
    >>> rate_shares(torch.optim.SGD(groups), OptimizerConfig(lr=0.5))
    (1.0, 0.1)
    """
    return tuple(float(group["lr"]) / config.lr for group in optimizer.param_groups)


def set_rate(optimizer: torch.optim.Optimizer, rate: float, *, shares: Iterable[float]) -> None:
    """Set the rate of the next step; each parameter group gets its share of it."""
    for group, share in zip(optimizer.param_groups, shares, strict=True):
        group["lr"] = rate * share


def average_step(model: nn.Module, terms: Mapping[str, Tensor], *, share: Share) -> Mapping[str, Tensor]:
    """Replace the gradients by their means over the processes of a trial, and return the means of the loss terms.

    A parameter without a gradient in all processes keeps none; in some, as where a network skips a block at random, it
    counts as 0. Each process gets the same numbers, so a term that is not finite in one of them is so in all.

    Raises:
        PeerLost: another process does not answer.
    """
    if share.is_whole:
        return terms
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in parameters]
    present = torch.tensor([weight.grad is not None for weight in parameters]).to(gradients[0])
    *means, shares, values = share.means([*gradients, present, torch.stack([*terms.values()]).to(gradients[0])])
    for parameter, mean, of_all in zip(parameters, means, shares, strict=True):
        parameter.grad = None if parameter.grad is None and not of_all else mean
    return dict(zip(terms, values, strict=True))


def clip_gradients(model: nn.Module, config: OptimizerConfig) -> None:
    """Scale all gradients together so that their global L2 norm is at most `clip_norm`."""
    if config.clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)


@final
class WeightAverage:
    """Exponential moving average of a model's weights, as a model; its buffers are copies of that model's buffers.

    The decay is min(decay, (1 + t) / (10 + t)) after t updates: the average is over the last tenth of a short training
    and not over its beginning. The first update copies the weights.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> average = WeightAverage(model, decay=0.9)
    >>> for weight in (1.0, 2.0):
    ...     nn.init.constant_(model.weight, weight).requires_grad
    ...     average.update(model)
    True
    True
    >>> round(float(average.model.weight), 6)  # 2/11 of the first and 9/11 of the second
    1.818182
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(requires_grad=False)
        self.updates = 0
        self._decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the weights of the model, without a wait for the device."""
        averaged, weights = list(self.model.parameters()), list(model.parameters())
        if self.updates:
            decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
            blend = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            blend(averaged, weights, None)
        else:
            _copy(averaged, weights)
        _copy(self.model.buffers(), model.buffers())
        self.updates += 1

    def state(self) -> dict[str, Any]:
        """Return the part of a checkpoint that describes the average."""
        return {"updates": self.updates, "model": self.model.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state` returned."""
        self.updates = state["updates"]
        self.model.load_state_dict(state["model"])


def _copy(to: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    for target, value in zip(to, values, strict=True):
        target.copy_(value)
