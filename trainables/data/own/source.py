"""Data sets that are not in the list: a user's own by import path, one of a library, or arrays in a file.

    data.name: pets:Pets              class or function Pets of pets.py in the working directory
    data.args.small: true             one of its arguments
    data.name: torchvision:EMNIST     class of torchvision.datasets

It gives one map-style set of (image, label), which is cut by content as the digits are, or (train, test) or
(train, val, test): as a tuple, a mapping, or attributes of an object. If it takes `train` (as many of torchvision's
do), it is called with both. It gets `data.root` and `data.download` as `root` and `download`, if it takes them.
The set is prepared once in the cache, as published sets are. An entry is named after everything that decides on its
pixels: the arguments, the files below `data.root`, and the content of the user's modules.
"""

import contextlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainables._torchvision import import_torchvision
from trainables.config.sections import DATA_GROUP
from trainables.config.trial import DataConfig
from trainables.data.own.arrays import arrays
from trainables.data.own.labelled import parts_of
from trainables.data.own.libraries import TORCHVISION, TORCHVISION_SPLITS, huggingface, torchvision_class
from trainables.data.own.user_code import code_files, digests, reported
from trainables.data.splits import Parts
from trainables.errors import ConfigError, DatasetMissing, Problem
from trainables.import_paths import accepted, argument_problems, call, load

__all__ = ["OwnData", "maker_problems"]

# Increased when the way from a set to its pixels, labels and splits changes: entries of earlier rules are not used.
RULES = 1
LIBRARIES: Mapping[str, Callable[..., Any]] = {"arrays": arrays, "huggingface": huggingface}


@dataclass(frozen=True, slots=True)
class _Maker:
    """Class or function that gives a set: how it is called.

    `passed` are the arguments that Ravel passes from `data.root` and `data.download`; `parts` those of each call.
    """

    target: Callable[..., Any]
    passed: tuple[str, ...]
    parts: tuple[Mapping[str, Any], ...] = ({},)


@dataclass(frozen=True, slots=True)
class OwnData:
    """Data set of a user's own class or function, or of one of the libraries."""

    embedded: bool = False

    def shape(self, config: DataConfig) -> None:
        """Return None: the prepared set has it."""

    def require(self, config: DataConfig) -> None:
        """Require that the code can be imported and takes the arguments, and that `data.root` exists if it takes one.

        Raises:
            ConfigError: the import fails, or an argument is wrong.
            DatasetMissing: no `data.root`.
        """
        maker = _maker(config)
        if problems := _argument_problems(maker, config):
            raise ConfigError(problems)
        if "root" not in maker.passed:
            return
        if config.root is None:
            if _requires_root(maker, config):
                raise DatasetMissing(config.name, f"set data.root to {_root_of(config.name)}")
        elif not Path(config.root).exists() and not config.download:
            raise DatasetMissing(config.name, f"data.root {config.root} does not exist; correct or create it")

    def fetch(self, config: DataConfig) -> None:
        """Make the set once with `download` true, if its code takes that; it is then read without a download."""
        maker = _maker(config)
        if config.download and "download" in maker.passed:
            _made(maker, config, download=True)

    def raw(self, config: DataConfig) -> Mapping[str, Path]:
        """Return the files below `data.root`, or that file, if the code takes it."""
        if config.root is None or "root" not in _maker(config).passed:
            return {}
        root = Path(config.root)
        if root.is_file():
            return {root.name: root}
        return {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}

    def recipe(self, config: DataConfig) -> str:
        """Return the rules, the name, the arguments, the size of images, and the versions of the code."""
        code = _versions(config.name) or digests(code_files(_maker(config).target))
        made = {"rules": RULES, "args": config.args.by_name, "image_size": config.image_size, "code": code}
        return f"{config.name} {json.dumps(made, sort_keys=True)}"

    def read(self, config: DataConfig) -> Parts:
        """Make the set, read all its samples, and cut it.

        Raises:
            ConfigError: what the code gives is no data set, or a sample breaks a requirement; the code fails.
            DatasetDamaged: a file of arrays cannot be read.
        """
        made = _made(_maker(config), config)
        return parts_of(made, name=config.name, image_size=config.image_size)


def maker_problems(config: DataConfig) -> list[Problem]:
    """Return the problems of a set's name and arguments that show by import and signature; nothing is made or read.

    >>> maker_problems(DataConfig(name="builtins:range"))
    []
    >>> maker_problems(DataConfig(name="torchvision:STL1O"))[0].path
    'data.name'
    """
    try:
        return _argument_problems(_maker(config), config)
    except ConfigError as error:
        return list(error.problems)


def _argument_problems(maker: _Maker, config: DataConfig) -> list[Problem]:
    reserved = {*maker.passed, *(name for part in maker.parts for name in part)}
    return argument_problems(maker.target, config.args.by_name, place="data.args", provided=reserved)


def _maker(config: DataConfig) -> _Maker:
    if config.name in LIBRARIES:
        return _Maker(LIBRARIES[config.name], ("root",))
    if config.name.startswith(TORCHVISION):
        return _torchvision(config)
    with contextlib.suppress(ImportError, RuntimeError):  # the user's code may import it, and alone that may fail
        import_torchvision()
    target = load(config.name, group=DATA_GROUP, place="data.name")
    if not callable(target):
        message = f"{config.name} must be a class or function that gives a data set, got {type(target).__name__}"
        raise ConfigError([Problem("data.name", f"{message}; name the function that makes it")])
    passed = accepted(target, ("root", "download"))
    flagged = "train" not in config.args.by_name and accepted(target, ("train",))
    return _Maker(target, passed, _BY_FLAG if flagged else ({},))


_BY_FLAG: tuple[Mapping[str, Any], ...] = ({"train": True}, {"train": False})


def _torchvision(config: DataConfig) -> _Maker:
    kind, arguments = torchvision_class(config.name), config.args.by_name
    # EMNIST hands these to MNIST by **kwargs.
    of_mnist = issubclass(kind, import_torchvision("torchvision.datasets").MNIST)
    passed = ("root", "download") if of_mnist else accepted(kind, ("root", "download"))
    splits = TORCHVISION_SPLITS.get(kind.__name__)
    if splits is not None and "split" not in arguments:
        return _Maker(kind, passed, tuple({"split": split} for split in splits))
    flagged = "train" not in arguments and (of_mnist or accepted(kind, ("train",)))
    return _Maker(kind, passed, _BY_FLAG if flagged else ({},))


def _made(maker: _Maker, config: DataConfig, *, download: bool = False) -> Any:
    passed = {"root": config.root, "download": download}
    arguments = {name: passed[name] for name in maker.passed if passed[name] is not None}
    own = config.name not in LIBRARIES and not config.name.startswith(TORCHVISION)
    fetched = ", or set data.download: true" if "download" in maker.passed else ""
    remedy = "correct it" if own else f"check data.root and data.args{fetched}"
    with reported(config.name, remedy=remedy):
        made = [call(maker.target, {**config.args.by_name, **arguments, **part}, provided={}) for part in maker.parts]
    return made[0] if len(made) == 1 else tuple(made)


def _requires_root(maker: _Maker, config: DataConfig) -> bool:
    # A second problem than that of the root is that of another argument, which was checked before.
    arguments = {**config.args.by_name, **maker.parts[0]}
    problems = argument_problems(maker.target, arguments, place="data")
    return "data.root" in {problem.path for problem in problems}


def _root_of(name: str) -> str:
    return "its .npz file" if name == "arrays" else "its folder"


def _versions(name: str) -> dict[str, str]:
    """Return the version of the library of a set of a library, as its code decides on the pixels."""
    if name.startswith(TORCHVISION):
        return {"torchvision": importlib.metadata.version("torchvision")}
    return {"huggingface": {"datasets": _version("datasets")}, "arrays": {"arrays": "1"}}.get(name, {})


def _version(package: str) -> str:
    return importlib.metadata.version(package) if find_spec(package) is not None else "none"
