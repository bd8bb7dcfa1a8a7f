"""Networks that are not of this package, by import path, registered name, or name in torchvision or timm.

    nets:SmallNet              a class, or a function that builds one, called with its arguments from `model.args`
    torchvision:resnet18       a classifier of torchvision
    timm:resnet18              a model of timm, if it is installed

Where its signature has them, a class or function also gets `num_classes`, `image_shape` (C, H, W) and `in_channels`.
Every problem is found without data and without a device: on the `meta` device, or else on the host.
"""

import contextlib
import pickle
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from trainables import import_paths
from trainables.config.sections import MODEL_GROUP, ModelConfig
from trainables.engine.checkpoint import reread
from trainables.errors import ConfigError, Problem, short_repr
from trainables.models.hooked import HookedClassifier
from trainables.models.libraries import LIBRARIES, Source
from trainables.models.trace import Layout, OutputError, trace
from trainables.seeding import global_streams

__all__ = ["argument_problems", "build_own", "without_pretrained"]

PROVIDED = ("num_classes", "image_shape", "in_channels")
_PLACE = "model.name"
_LONGEST_REASON = 160
_INSTALLED = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))
ImageShape = tuple[int, int, int]


def build_own(
    config: ModelConfig, *, image_shape: ImageShape, num_classes: int, seed: int = 0, device: str = "cpu"
) -> HookedClassifier:
    """Build a network of a user or a library, with its own initial weights, which depend on the seed alone.

    On the device 'meta' it has no weights, if the network can be built so.

    Raises:
        ConfigError: it cannot be imported, built or run, or returns no logits.
    """
    source = _source(config)
    shadow, layout = _traced(source, image_shape, num_classes)
    if device != "meta":
        with _own_code():
            shadow = _construct(source, image_shape, num_classes, seed=seed, device="cpu")
        if source.pretrained is not None:
            source.pretrained.load_into(shadow, head=layout.head)
    model = HookedClassifier(shadow, layout, channels=image_shape[0], repeats_gray=source.repeats_gray)
    return model.to(next(shadow.parameters()).device)


def argument_problems(config: ModelConfig) -> list[Problem]:
    """Return the problems of a model's name and arguments that show without an image; nothing is built.

    >>> argument_problems(ModelConfig(name="torch.nn:Linear", args={"in_features": 2, "bais": 1}))[0].path
    'model.args.bais'
    """
    try:
        _source(config)
    except ConfigError as error:
        return list(error.problems)
    return []


def without_pretrained(config: ModelConfig) -> ModelConfig:
    """Return the configuration of the same network without weights to load, for one whose weights are in a checkpoint.

    >>> config = ModelConfig(name="torchvision:resnet18", args={"weights": "IMAGENET1K_V1", "groups": 1})
    >>> without_pretrained(config).args.by_name
    {'groups': 1}
    """
    library = LIBRARIES.get(config.name.partition(":")[0])
    if library is None:
        return config
    kept = {name: value for name, value in config.args.by_name.items() if name not in library.weights_arguments}
    return config.model_copy(update={"args": type(config.args)(**kept)})


def _source(config: ModelConfig) -> Source:
    """Return the builder of a network, once its name and arguments are right.

    Raises:
        ConfigError: they are not.
    """
    prefix, _, name = config.name.partition(":")
    if prefix in LIBRARIES:
        return LIBRARIES[prefix].source(name, config.args.by_name)
    target = import_paths.load(config.name, group=MODEL_GROUP, place=_PLACE)
    if isinstance(target, nn.Module) or not callable(target):
        got = f"got a value of type {type(target).__name__}"
        message = f"must name a class or a function that builds a network, {got}; name that instead"
        raise ConfigError([Problem(_PLACE, message)])
    problems = import_paths.argument_problems(target, config.args.by_name, place="model.args", provided=PROVIDED)
    if problems:
        raise ConfigError(problems)

    def build(image_shape: ImageShape, num_classes: int) -> Any:
        provided = dict(zip(PROVIDED, (num_classes, image_shape, image_shape[0]), strict=True))
        return import_paths.call(target, config.args.by_name, provided=provided)

    return Source(config.name, build, has_arguments=bool(config.args.by_name))


def _traced(source: Source, image_shape: ImageShape, num_classes: int) -> tuple[nn.Module, Layout]:
    """Return a network without weights, or on the host if it needs memory to be built or to run, and its names.

    Raises:
        ConfigError: it cannot be built or run on the host either.
    """
    for device in ("meta", "cpu"):
        step = "cannot be built"
        try:
            with _own_code(), global_streams(0, "trace"):
                module = _construct(source, image_shape, num_classes, seed=0, device=device)
                step = f"fails on images of {'x'.join(map(str, image_shape))}"
                seen = source.seen(image_shape)
                layout = trace(module, image_shape=seen, num_classes=num_classes, device=device)
        except OutputError as error:
            raise ConfigError([Problem(_PLACE, f"{source.name} {error}")]) from error
        except (Exception, SystemExit) as error:
            if isinstance(error, ConfigError):
                raise
            if device == "cpu":
                raise ConfigError([_problem(source, step, error)]) from error
        else:
            problems = [*_state_problems(source, module), *source.weight_problems(module, head=layout.head)]
            if problems:
                raise ConfigError(problems)
            return module, layout
    raise AssertionError  # the last device returns or raises


def _construct(source: Source, image_shape: ImageShape, num_classes: int, *, seed: int, device: str) -> nn.Module:
    with global_streams(seed, "init"), torch.device(device):
        module = source.build(image_shape, num_classes)
        if not isinstance(module, nn.Module):
            kind = type(module).__name__
            message = f"{source.name} must return an nn.Module, got a {kind}; return the network"
            raise ConfigError([Problem(_PLACE, message)])
        if any(is_lazy(parameter) for parameter in module.parameters()):  # its first pass gives them their shapes
            with torch.no_grad():
                module.eval()(torch.zeros(2, *source.seen(image_shape)))
        return module.train()


def _problem(source: Source, step: str, error: BaseException) -> Problem:
    first = (str(error).strip().splitlines() or [""])[0]
    reason = f"{type(error).__name__}: {first[:_LONGEST_REASON]}" if first else type(error).__name__
    place = "model.args" if step == "cannot be built" and source.has_arguments else _PLACE
    shown = "ravel model show"
    return Problem(place, f"{source.name} {step}: {reason}{_line_of(error)}; try it with `{shown} {source.name}`")


def _line_of(error: BaseException) -> str:
    """Return the last line of the traceback that is neither of this package nor of an installed one."""
    roots = (Path(__file__).parents[1], *_INSTALLED)
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    own = [line for line in lines if not any(Path(line.filename).is_relative_to(root) for root in roots)]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def _state_problems(source: Source, module: nn.Module) -> list[Problem]:
    """Return the problems of a network's parameters, and of what a checkpoint keeps of it."""
    if not any(parameter.requires_grad for parameter in module.parameters()):
        message = (
            f"{source.name} must have a parameter to train, got none; keep layers in attributes or an nn.ModuleList"
        )
        return [Problem(_PLACE, message)]
    return [
        Problem(
            _PLACE,
            f"{source.name} keeps a {type(value).__name__} under {short_repr(name)} of its state_dict, which no "
            "checkpoint can hold; keep tensors, numbers and text",
        )
        for name, value in module.state_dict().items()
        if not isinstance(value, Tensor) and not _can_be_saved(value)
    ]


def _can_be_saved(value: object) -> bool:
    try:
        reread(value)
    except (pickle.PickleError, AttributeError, TypeError, RuntimeError):
        return False
    return True


@contextlib.contextmanager
def _own_code() -> Iterator[None]:
    """Send what a user's code prints to the standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
