"""User's code behind a data set: calls of it, with its errors as one line, and the files that decide on its pixels."""

import contextlib
import hashlib
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from trainables.errors import ConfigError, Problem, TrainableError, short_repr

__all__ = ["code_files", "digests", "reported"]

INSTALLED = ("site-packages", "dist-packages")


@contextlib.contextmanager
def reported(place: str, *, remedy: str = "correct it there", parameter: str = "data.name") -> Iterator[None]:
    """Report an error of a user's code with its first line, its file and its line; print to the standard error.

    Raises:
        ConfigError: the code raises or exits.

    >>> with reported("pets:Pets"):
    ...     int("three")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    trainables.errors.ConfigError: data.name: pets:Pets fails with "ValueError: invalid literal ... (<doctest ...
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except TrainableError:
        raise
    except (Exception, SystemExit) as error:
        first = (str(error).splitlines() or [""])[0]
        reason = short_repr(f"{type(error).__name__}: {first}" if first else type(error).__name__)
        message = f"{place} fails with {reason}{_origin(error)}; {remedy}"
        raise ConfigError([Problem(parameter, message)]) from error


def _origin(error: BaseException) -> str:
    """Return the last place in the user's own code as ` (FILE, line N)`; of a library, if none is the user's."""
    here = str(Path(__file__).parents[2])
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(here)]
    plain = [frame for frame in frames if not _is_standard(frame.filename)]
    users = [frame for frame in plain if not _is_installed(Path(frame.filename))]
    frame = next(iter(reversed(users or plain or frames)), None)
    return "" if frame is None else f" ({frame.filename}, line {frame.lineno})"


def code_files(target: Any) -> dict[str, Path]:
    """Return the files of the module that defines a class or function, and of modules that it imports from its side.

    Modules count if their files are below the folder that this one is imported from (of an installed package, below
    the package), and if a module in the set has them, or a class or function of them, among its names. A module that
    is imported within a function is not seen.
    """
    start = inspect.getmodule(target)
    home = None if start is None else _home(start)
    if start is None or home is None:
        return {}
    files: dict[str, Path] = {}
    waiting = [start]
    while waiting:
        module = waiting.pop()
        file = _file(module)
        if module.__name__ in files or file is None or not _belongs(file, home):
            continue
        files[module.__name__] = file
        waiting += _named_in(module)
    return dict(sorted(files.items()))


def digests(files: dict[str, Path]) -> dict[str, str]:
    """Return the SHA-256 of each file, by the name of its module."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def _named_in(module: ModuleType) -> Iterator[ModuleType]:
    for value in list(vars(module).values()):
        owner = value if isinstance(value, ModuleType) else sys.modules.get(_module_of(value))
        if owner is not None and owner is not module:
            yield owner


def _module_of(value: object) -> str:
    name = getattr(value, "__module__", None)
    return name if isinstance(name, str) else ""


def _home(module: ModuleType) -> Path | None:
    """Return the folder from which a module is imported; of an installed one, its package's own, or its file."""
    file = _file(module)
    if file is None:
        return None
    package = module.__name__.count(".") + (file.name == "__init__.py")
    top = file if package == 0 else file.parents[package - 1]
    return top if _is_installed(file) else top.parent


def _file(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    path = Path(file) if isinstance(file, str) else None
    return path if path is not None and path.is_file() else None


def _belongs(file: Path, home: Path) -> bool:
    return file == home or (file.is_relative_to(home) and not _is_installed(file.relative_to(home)))


def _is_standard(file: str) -> bool:
    return file.startswith((sysconfig.get_paths()["stdlib"], "<frozen"))


def _is_installed(path: Path) -> bool:
    return any(name in path.parts for name in INSTALLED)
