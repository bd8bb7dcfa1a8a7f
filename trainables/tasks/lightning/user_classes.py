"""Users' `LightningModule`s and `LightningDataModule`s: imported, checked by signature, built."""

import inspect
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from trainables._torchvision import import_torchvision
from trainables.errors import ConfigError, Problem, short_repr
from trainables.import_paths import argument_problems, call, load
from trainables.tasks.lightning.config import PREFIX, LightningConfig

__all__ = ["built_data", "built_module", "check", "library_of", "overrides"]

_LIBRARIES = ("pytorch_lightning", "lightning.pytorch")
_CORES = tuple(f"{name}.core." for name in _LIBRARIES)
"""Packages of Lightning's own modules and data modules."""
_GROUP = "ravel.tasks"


def check(config: LightningConfig) -> None:
    """Import the classes, and compare the arguments with their signatures; nothing is built.

    Raises:
        ConfigError: Lightning is not installed, a class cannot be imported or is of another kind, its arguments do not
            fit, or nothing says what to train on.
    """
    if not any(find_spec(name.partition(".")[0]) for name in _LIBRARIES):
        message = f"{config.task} needs Lightning, which is not installed; pip install pytorch-lightning"
        raise ConfigError.at("task", message)
    module = _class(config.module, "LightningModule", place="task")
    problems = argument_problems(module, config.model.args.by_name, place="model.args")
    if not overrides(module, "training_step"):
        problems.append(Problem("task", f"{config.task} must have a training_step; add it to the class"))
    if config.data.name is not None:
        data = _class(config.data.name, "LightningDataModule", place="data.name")
        problems += argument_problems(data, config.data.args.by_name, place="data.args")
        owner, place = data, "data.name"
    else:
        owner, place = module, "task"
        problems += [
            Problem(f"data.args.{name}", "is an argument of no class; name the LightningDataModule in data.name")
            for name in config.data.args.by_name
        ]
    if not overrides(owner, "train_dataloader"):
        remedy = "add it, or name a LightningDataModule in data.name" if owner is module else "add it to the class"
        problems.append(Problem(place, f"{owner.__name__} must have a train_dataloader; {remedy}"))
    if problems:
        raise ConfigError(problems)


def built_module(config: LightningConfig) -> Any:
    """Return the module of a trial."""
    return call(_class(config.module, "LightningModule", place="task"), config.model.args.by_name, provided={})


def built_data(config: LightningConfig) -> Any:
    """Return the data module of a trial; None if the module has dataloaders of its own."""
    if config.data.name is None:
        return None
    data = _class(config.data.name, "LightningDataModule", place="data.name")
    return call(data, config.data.args.by_name, provided={})


def library_of(module: Any) -> Any:
    """Return the library of a module's class: `pytorch_lightning` or `lightning.pytorch`, whose classes differ."""
    return import_module(_base_of(type(module), "LightningModule").__module__.partition(".core.")[0])


def _class(path: str, kind: str, *, place: str) -> Any:
    import_torchvision()  # Lightning imports it, and fails on wheels that this function repairs
    target = load(path, group=_GROUP, place=place)
    if inspect.isclass(target) and _base_of(target, kind) is not None:
        return target
    got = f"the class {target.__name__}" if inspect.isclass(target) else short_repr(target)
    remedy = f"; a training function is named without {PREFIX!r}" if inspect.isroutine(target) else ""
    if type(target).__name__ == "Trainer":
        got, remedy = "a Trainer", "; name a module's class, Ravel has its own Trainer"
    raise ConfigError.at(place, f"{path} must be a {kind}, got {got}{remedy}")


def _base_of(target: type, kind: str) -> Any:
    """Return Lightning's own class of this kind from which a class inherits; None if there is none."""
    own = (base for base in target.__mro__ if base.__name__ == kind)
    return next(
        (base for base in own if base.__module__.startswith(tuple(f"{name}.core." for name in _LIBRARIES))), None
    )


def overrides(target: type, method: str) -> bool:
    """Return True if a user's class has a method of its own, from itself or from a mixin."""
    owner = next((base for base in target.__mro__ if method in vars(base)), None)
    return owner is not None and not owner.__module__.startswith(_CORES)
