"""Check of an optimizer, for its author's tests."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from trainables.config.optimizer import OptimizerConfig
from trainables.config.trial import TrialConfig
from trainables.engine.checkpoint import reread
from trainables.engine.optimization.optimization import build_optimizer, rate_shares, set_rate
from trainables.engine.optimization.own_optimizers import check_steps
from trainables.regularizers.preflight_checks import check_arguments
from trainables.seeding import generator, global_streams
from trainables.testing.trials import SMALL, check_resumed, train

__all__ = ["check_optimizer"]


def check_optimizer(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    lr: float = 0.01,
    steps: int = 12,
    seed: int = 0,
    moves_at_rate_0: bool = False,
    trial: Mapping[str, Any] | None = None,
) -> list[Mapping[str, float]]:
    """Check an optimizer, and return the metrics of the epochs of a short trial.

    Its arguments fit its signature; its steps change the weights and depend on the seed alone; it obeys the rate in
    its groups, so that a rate of 0 leaves the weights unchanged; and after any number of steps its state survives a
    checkpoint, from which it makes the same steps, bit for bit. A trial on digits with a schedule, warm-up, clipped
    gradients and averaged weights is trained, and once more with an interruption.

    Args:
        name: its import path, `module:Class`, or any other name that `optimizer.name` takes.
        arguments: values of its own arguments, by name.
        lr: the rate.
        steps: the number of steps, at least 2, after each of which it is saved and restored.
        seed: of gradients and weights.
        moves_at_rate_0: True for one that documents that it does, as one of a decay that is not scaled by the rate.
        trial: further parameters of the trial, such as `optimizer.momentum` or `model.name`.

    Raises:
        ConfigError: it cannot be imported or built, needs a closure, or breaks a rule that is checked before a sweep.
        AssertionError: it breaks one of the other rules.
    """
    own = {f"optimizer.args.{key}": value for key, value in (arguments or {}).items()}
    schedule = {"optimizer.warmup_epochs": 0.5, "optimizer.clip_norm": 1.0, "optimizer.ema_decay": 0.9}
    point = {"optimizer.name": name, "optimizer.lr": lr, **own, "seed": seed, **schedule, **(trial or {})}
    config = TrialConfig.from_point({**SMALL, **point})
    check_arguments(config)
    network = _network(seed)
    check_steps(config.optimizer, network, seed=seed)
    _check_bits(config.optimizer, network, name, steps=steps, seed=seed)
    if not moves_at_rate_0:
        _check_rate_0(config.optimizer, network, name, steps=steps, seed=seed)
    whole = train(name, point)
    check_resumed(name, point, whole)
    return list(whole.metrics)


def _network(seed: int) -> nn.Module:
    with global_streams(seed, "init"):
        return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 36, 5))


def _check_bits(config: OptimizerConfig, network: nn.Module, name: str, *, steps: int, seed: int) -> None:
    whole = _after_each_step(config, copy.deepcopy(network), steps=steps, seed=seed)
    if _differ(whole[-1], _after_each_step(config, copy.deepcopy(network), steps=steps, seed=seed)[-1]):
        raise AssertionError(f"{name}: two runs of one seed differ; draw from torch's global generator alone")
    for saved_after in range(1, steps):
        resumed = _after_each_step(config, copy.deepcopy(network), steps=steps, seed=seed, saved_after=saved_after)
        different = [step for step, pair in enumerate(zip(whole, resumed, strict=True), start=1) if _differ(*pair)]
        if different:
            message = f"restored from its state after step {saved_after}, step {different[0]} is another"
            raise AssertionError(f"{name}: {message}; keep what it remembers in self.state or in its groups")


def _check_rate_0(config: OptimizerConfig, network: nn.Module, name: str, *, steps: int, seed: int) -> None:
    weights = _after_each_step(config, copy.deepcopy(network), steps=steps, seed=seed, rate=0.0)
    if _differ(weights[-1], list(network.parameters())):
        message = "a rate of 0 must leave the weights unchanged; read group['lr'] in each step"
        raise AssertionError(f"{name}: {message}, or pass moves_at_rate_0=True if it documents that they move")


def _after_each_step(
    config: OptimizerConfig,
    network: nn.Module,
    *,
    steps: int,
    seed: int,
    saved_after: int | None = None,
    rate: float | None = None,
) -> list[list[torch.Tensor]]:
    """Return the weights after each step, with a falling rate, or with one rate."""
    optimizer, weights = build_optimizer(config, network), list[list[torch.Tensor]]()
    shares = rate_shares(optimizer, config)
    for step in range(steps):
        if step == saved_after:
            state = reread(optimizer.state_dict())
            optimizer = build_optimizer(config, network)
            optimizer.load_state_dict(state)
        set_rate(optimizer, config.lr * (1 - step / steps) if rate is None else rate, shares=shares)
        stream = generator(seed, f"gradient {step}")
        for parameter in network.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=stream)
        with global_streams(seed, f"step {step}"):
            optimizer.step()
        weights.append([parameter.detach().clone() for parameter in network.parameters()])
    return weights


def _differ(one: list[Any], other: list[Any]) -> bool:
    return not all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))
