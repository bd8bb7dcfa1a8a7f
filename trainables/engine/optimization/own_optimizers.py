"""Optimizers of a user's own, by import path or registered name.

    optimizer.name: torch.optim:RMSprop      a class or function that is called with its arguments
    optimizer.args.alpha: 0.95               one of them, by name

It must take the parameters as `params` (or `named_parameters`, a list of pairs) and the rate as `lr`, and return a
`torch.optim.Optimizer`. Of `momentum`, `nesterov` and `weight_decay` it gets those that its signature has, as
`optimizer.momentum` and so on say; another value than the default for one that it lacks is refused.
"""

import copy
import inspect
import pickle
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables import import_paths
from trainables.config.optimizer import OPTIMIZER_GROUP, OptimizerConfig
from trainables.engine.checkpoint import reread
from trainables.errors import ConfigError, Problem, TrainableError
from trainables.seeding import generator, global_streams
from trainables.user_code import raised

__all__ = ["argument_problems", "build_own", "check_steps"]

PARAMETERS = ("params", "named_parameters")
SHARED = ("momentum", "nesterov", "weight_decay")
STEPS, SAVED_AFTER = 6, 2
_PLACE = "optimizer.name"


def argument_problems(config: OptimizerConfig, *, stated: Collection[str] = ()) -> list[Problem]:
    """Return the problems of an optimizer's name and arguments that show in its signature; nothing is built.

    `stated` are fields that a user has set, which count as set even to their defaults.

    >>> config = OptimizerConfig(name="torch.optim:Adagrad", args={"esp": 1e-9}, momentum=0.5)
    >>> for problem in argument_problems(config):
    ...     print(problem)
    optimizer.args.esp: Adagrad has no such argument; did you mean 'eps'?
    optimizer.momentum: must be left out, as Adagrad takes no momentum, got 0.5
    """
    try:
        target = _target(config)
    except ConfigError as error:
        return list(error.problems)
    name, taken = _name(target), import_paths.accepted(target, (*PARAMETERS, "lr", *SHARED))
    if "lr" not in taken or not set(PARAMETERS) & set(taken):
        message = f"{name} must take the parameters as `params` (or `named_parameters`) and the rate as `lr`"
        return [Problem(_PLACE, f"{message}; name these arguments so")]
    ours = [key for key in config.args.by_name if key in taken and key not in PARAMETERS]
    own = {key: value for key, value in config.args.by_name.items() if key not in ours}
    return [
        *(Problem(f"optimizer.args.{key}", f"must be left out; set optimizer.{key} instead") for key in ours),
        *import_paths.argument_problems(target, own, place="optimizer.args", provided=taken),
        *_lacking(config, name, [key for key in SHARED if key not in taken], stated),
    ]


def build_own(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return a user's optimizer over the parameters of a model that are trained.

    The names that `named_parameters` has are those of the user's own network, without a prefix.

    Raises:
        ConfigError: it cannot be imported, takes other arguments, raises, or makes no optimizer of this kind.
    """
    problems = argument_problems(config)
    if problems:
        raise ConfigError(problems)
    target, named = _target(config), _trained(model)
    shared = {key: getattr(config, key) for key in ("lr", *SHARED)}
    try:
        optimizer = import_paths.call(
            target,
            config.args.by_name,
            provided={"params": [parameter for _, parameter in named], "named_parameters": named, **shared},
        )
    except (torch.OutOfMemoryError, MemoryError, TrainableError):
        raise
    except Exception as error:
        place = "optimizer.args" if config.args.by_name else _PLACE
        raise ConfigError([Problem(place, f"{_name(target)} {raised(error, target)}")]) from error
    problems = list(_optimizer_problems(optimizer, _name(target)))
    if problems:
        raise ConfigError(problems)
    return optimizer  # type: ignore[no-any-return]


def check_steps(config: OptimizerConfig, model: nn.Module, *, seed: int = 0) -> None:
    """Check steps of a user's optimizer on copies of a model, with random gradients; no data set is read.

    Its steps move weights, and read the rate if a schedule changes it; a checkpoint can hold its state; and from that
    state, in another process, it makes the same steps, bit for bit.

    Raises:
        ConfigError: they do not, or `build_own` raises.
    """
    first = copy.deepcopy(model)
    optimizer = build_own(config, first)
    name, before = type(optimizer).__name__, _weights(first)
    _run(optimizer, first, range(SAVED_AFTER), seed=seed)
    state = _saved_state(optimizer, name)
    resumed, unmoved = (_restored(config, first, state, name) for _ in range(2))
    _run(optimizer, first, [SAVED_AFTER], seed=seed)
    if config.schedule != "constant" or config.warmup_epochs:
        for group in unmoved[1].param_groups:
            group["lr"] = 0.0
        _run(unmoved[1], unmoved[0], [SAVED_AFTER], seed=seed)
        if _equal(_weights(unmoved[0]), _weights(first)):
            message = f"{name} makes the same step at a rate of 0, so optimizer.schedule would have no effect"
            remedy = 'read group["lr"] in each step, or set optimizer.schedule: constant'
            raise ConfigError([Problem(_PLACE, f"{message}; {remedy}")])
    _run(optimizer, first, range(SAVED_AFTER + 1, STEPS), seed=seed)
    _run(resumed[1], resumed[0], range(SAVED_AFTER, STEPS), seed=seed)
    if _equal(before, _weights(first)):
        raise ConfigError([Problem(_PLACE, f"{name} changes no weight in {STEPS} steps; step() must change them")])
    if not _equal(_weights(resumed[0]), _weights(first)):
        message = f"{name} makes other steps once it is restored from its state_dict()"
        raise ConfigError([Problem(_PLACE, f"{message}; keep what it remembers in self.state or in its groups")])


def _target(config: OptimizerConfig) -> Any:
    target = import_paths.load(config.name, group=OPTIMIZER_GROUP, place=_PLACE)
    if not callable(target):
        got = f"got a value of type {type(target).__name__}"
        message = f"must name a class or a function that makes an optimizer, {got}; name that instead"
        raise ConfigError([Problem(_PLACE, message)])
    return target


def _name(target: Any) -> str:
    return getattr(target, "__name__", type(target).__name__)


def _lacking(config: OptimizerConfig, name: str, keys: list[str], stated: Collection[str]) -> Iterator[Problem]:
    for key in keys:
        value = getattr(config, key)
        if key in stated or value != OptimizerConfig.model_fields[key].default:
            yield Problem(f"optimizer.{key}", f"must be left out, as {name} takes no {key}, got {str(value).lower()}")


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    inner = getattr(model, "module", model)  # the network of a wrapper
    return [(name, parameter) for name, parameter in inner.named_parameters() if parameter.requires_grad]


def _optimizer_problems(optimizer: object, name: str) -> Iterator[Problem]:
    if not isinstance(optimizer, torch.optim.Optimizer):
        got = "None" if optimizer is None else f"a value of type {type(optimizer).__name__}"
        yield Problem(_PLACE, f"{name} must return a torch.optim.Optimizer, got {got}")
        return
    required = [
        key
        for key, parameter in inspect.signature(optimizer.step).parameters.items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    ]
    if required:
        message = f"{type(optimizer).__name__}.step requires {', '.join(required)}, and a training step calls step()"
        yield Problem(_PLACE, f"{message}; choose an optimizer that needs one gradient for each step")
    if not all("lr" in group for group in optimizer.param_groups):
        yield Problem(_PLACE, f"{name} must keep its rate as 'lr' in each of its param_groups, where schedules set it")


def _run(optimizer: torch.optim.Optimizer, model: nn.Module, steps: Collection[int], *, seed: int) -> None:
    name = type(optimizer).__name__
    for step in steps:
        stream = generator(seed, f"preflight gradient {step}")
        for _, parameter in _trained(model):
            parameter.grad = torch.randn(parameter.shape, generator=stream).to(parameter)
        try:
            with global_streams(seed, f"preflight step {step}"):
                optimizer.step()
        except (torch.OutOfMemoryError, MemoryError, TrainableError):
            raise
        except Exception as error:
            raise ConfigError([Problem(_PLACE, f"{name}.step() {raised(error, optimizer)}")]) from error


def _saved_state(optimizer: torch.optim.Optimizer, name: str) -> Mapping[str, Any]:
    state = optimizer.state_dict()
    try:
        saved: Mapping[str, Any] = reread(state)
    except (pickle.PickleError, AttributeError, TypeError, RuntimeError) as error:
        what = "; ".join(_unsafe(state, "state_dict()"))[:200]
        message = f"{name} keeps what no checkpoint can hold, {what}; keep tensors, numbers and text"
        raise ConfigError([Problem(_PLACE, message)]) from error
    return saved


def _unsafe(value: object, place: str) -> Iterator[str]:
    try:
        reread(value)
    except (pickle.PickleError, AttributeError, TypeError, RuntimeError):
        parts: Collection[tuple[Any, Any]] = ()
        if isinstance(value, Mapping):
            parts = value.items()
        elif isinstance(value, list | tuple):
            parts = list(enumerate(value))
        inner = [culprit for key, part in parts for culprit in _unsafe(part, f"{place}[{key!r}]")]
        yield from inner[:1] or [f"a {type(value).__name__} at {place}"]


def _restored(
    config: OptimizerConfig, model: nn.Module, state: Mapping[str, Any], name: str
) -> tuple[nn.Module, torch.optim.Optimizer]:
    other = copy.deepcopy(model)
    optimizer = build_own(config, other)
    try:
        optimizer.load_state_dict(copy.deepcopy(dict(state)))
    except Exception as error:
        message = f"{name}.load_state_dict() {raised(error, optimizer)} for its own state_dict()"
        raise ConfigError([Problem(_PLACE, message)]) from error
    return other, optimizer


def _weights(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def _equal(one: list[Tensor], other: list[Tensor]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.allclose(mine, theirs, rtol=0, atol=0, equal_nan=True) for mine, theirs in pairs)
