"""Users' own code by import path: `package.module:attribute`, or a name that a package registers as an entry point.

    model.name: nets:SmallNet            the class or function SmallNet of nets.py in the working directory
    model.args.width: 32                 one of its arguments, by name

A package registers names in an entry point group (`ravel.models`, `ravel.datasets`, ...): `name = "module:attribute"`.
Nothing is imported until `load` is called, and what an import prints goes to the standard error.
"""

import contextlib
import hashlib
import importlib
import inspect
import json
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache, partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import AfterValidator, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from trainables.errors import ConfigError, Problem, short_repr, suggestion

__all__ = [
    "PATH_PATTERN",
    "accepted",
    "argument_problems",
    "bound",
    "call",
    "code_digest",
    "find_in",
    "is_import_path",
    "is_own_file",
    "load",
    "name_in",
    "registered",
]

PATH_PATTERN = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
_PATH = re.compile(PATH_PATTERN)
_FORM = "an import path (package.module:attribute)"
_OURS = frozenset({"ravel", "orchestrator", "search_spaces", "trainables"})
_FOUND_IN: set[Path] = set()
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def is_import_path(name: str) -> bool:
    """Return True if a name has the form of an import path.

    >>> is_import_path("nets:SmallNet"), is_import_path("cnn_bn"), is_import_path("nets:")
    (True, False, False)
    """
    return _PATH.fullmatch(name) is not None


@cache
def registered(group: str) -> Mapping[str, str]:
    """Return the import paths that installed packages register in an entry point group, by name.

    >>> registered("ravel.no_such_group")
    {}
    """
    return {point.name: point.value for point in entry_points(group=group)}


def name_in(known: Collection[str], *, group: str) -> AfterValidator:
    """Return the validator of a field that takes a known name, a registered one, or an import path.

    >>> from typing import Annotated
    >>> from pydantic import TypeAdapter
    >>> adapter = TypeAdapter(Annotated[str, name_in(["mlp", "cnn"], group="ravel.models")])
    >>> adapter.validate_python("nets:SmallNet")
    'nets:SmallNet'
    """

    def check(name: str) -> str:
        if name in known or is_import_path(name) or name in registered(group):
            return name
        names = [*known, *registered(group)]
        if not names:
            raise ValueError(f"must be {_FORM}, got {short_repr(name)}")
        *front, last = map(repr, names)
        listed = f"{', '.join(front)} or {last}" if front else last
        raise ValueError(f"must be one of {listed}, or {_FORM}, got {short_repr(name)}")

    return AfterValidator(check)


def find_in(folder: Path) -> None:
    """Have imports find modules of a folder first, as those of a script in it are; once for each folder."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
        _FOUND_IN.add(folder)
        importlib.invalidate_caches()


def load(name: str, *, group: str, place: str) -> Any:
    """Return the object of an import path or of a registered name.

    Args:
        name: an import path, or a name in the entry point group.
        group: the entry point group.
        place: the parameter that has the name, for messages.

    Raises:
        ConfigError: no such module or attribute, or the import fails, exits, or raises.

    >>> load("math:sqrt", group="ravel.models", place="model.name")(9.0)
    3.0
    >>> load("math:sqrtt", group="ravel.models", place="model.name")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    trainables.errors.ConfigError: model.name: module 'math'... has no 'sqrtt'; did you mean 'sqrt'?
    """
    path = name if is_import_path(name) else registered(group)[name]
    module_name, _, attributes = path.partition(":")
    target = _module(module_name, place)
    for attribute in attributes.split("."):
        if not hasattr(target, attribute):
            names = (
                [known for known in vars(target) if not known.startswith("_")] if hasattr(target, "__dict__") else []
            )
            where = getattr(target, "__file__", None)
            owner = f"module {module_name!r}{f' ({where})' if where else ''}"
            raise ConfigError([Problem(place, f"{owner} has no {attributes!r}; {suggestion(attribute, names)}")])
        target = getattr(target, attribute)
    return target


def _module(name: str, place: str) -> Any:
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            message = f"no module {error.name!r} in {_folder()} nor installed; run where it is, or install its package"
        else:
            message = f"importing {name} fails: it imports {error.name!r}, which is not installed{_line_of(error)}"
        raise ConfigError([Problem(place, message)]) from error
    except SystemExit as error:
        message = f"importing {name} exits{_line_of(error)}; move what runs under `if __name__ == '__main__':`"
        raise ConfigError([Problem(place, message)]) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        message = f"importing {name} fails with {short_repr(reason)}{_line_of(error)}; try `python -c 'import {name}'`"
        raise ConfigError([Problem(place, message)]) from error


def _folder() -> Path:
    """Return the folder in which modules are found first: that of the launch, or the working directory."""
    first = Path(sys.path[0]) if sys.path and sys.path[0] else Path.cwd()
    return first if first in _FOUND_IN else Path.cwd()


def _line_of(error: BaseException) -> str:
    """Return the last place in the user's code, as ` (FILE, line N)`."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f" ({error.filename}, line {error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    own = [frame for frame in frames if frame.filename != __file__]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def argument_problems(
    target: Callable[..., Any], arguments: Mapping[str, Any], *, place: str, provided: Iterable[str] = ()
) -> list[Problem]:
    """Return the problems of arguments by name: unknown ones, missing ones, values of the wrong type.

    Args:
        target: the class or function that takes them.
        arguments: values as YAML and JSON have them; a list is accepted for a tuple.
        place: the parameter under which they stand, such as `model.args`.
        provided: names of further arguments, which Ravel passes where the signature has them.

    >>> def net(width: int, depth: int = 2): ...
    >>> for problem in argument_problems(net, {"depht": 3, "width": 1.5}, place="model.args"):
    ...     print(problem)
    model.args.depht: net has no such argument; did you mean 'depth'?
    model.args.width: must be an int, got 1.5
    >>> argument_problems(lambda: None, {"width": 3}, place="model.args")[0].message
    '<lambda> has no such argument; it takes none'
    """
    parameters = _parameters(target)
    name, reserved = getattr(target, "__name__", type(target).__name__), set(provided)
    names = [key for key, parameter in parameters.items() if parameter.kind in _NAMED and key not in reserved]
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    problems = [
        Problem(f"{place}.{key}", "Ravel passes this argument itself; leave it out")
        if key in reserved
        else Problem(
            f"{place}.{key}", f"{name} has no such argument; {suggestion(key, names) if names else 'it takes none'}"
        )
        for key in arguments
        if key in reserved or (key not in names and not takes_any)
    ]
    for key in names:
        parameter = parameters[key]
        if key in arguments:
            problems += _type_problems(f"{place}.{key}", parameter.annotation, arguments[key])
        elif parameter.default is inspect.Parameter.empty:
            problems.append(Problem(f"{place}.{key}", f"{name} requires this argument; add it"))
    positional = [key for key, parameter in parameters.items() if parameter.kind is inspect.Parameter.POSITIONAL_ONLY]
    if positional:
        problems.append(Problem(place, f"{name} takes {', '.join(positional)} by position alone; name its arguments"))
    return problems


def accepted(target: Callable[..., Any], names: Iterable[str]) -> tuple[str, ...]:
    """Return those of the names that a class or function takes as arguments.

    >>> accepted(lambda num_classes, width=3: None, ["image_shape", "num_classes"])
    ('num_classes',)
    """
    parameters = _parameters(target)
    return tuple(name for name in names if name in parameters and parameters[name].kind in _NAMED)


def call(target: Callable[..., Any], arguments: Mapping[str, Any], *, provided: Mapping[str, Any]) -> Any:
    """Call a class or function with its arguments, and with those of the provided ones that it takes.

    >>> call(lambda num_classes, width=3: num_classes * width, {"width": 2}, provided={"num_classes": 10, "seed": 1})
    20
    """
    return bound(target, arguments, provided=provided)()


def bound(
    target: Callable[..., Any], arguments: Mapping[str, Any], *, provided: Mapping[str, Any]
) -> Callable[..., Any]:
    """Return a class or function, to be called, with its arguments and with those of the provided ones that it takes.

    >>> bound(lambda num_classes, width=3: num_classes * width, {"width": 2}, provided={})(num_classes=10)
    20
    """
    own = {name: provided[name] for name in accepted(target, provided)}
    typed = {name: _typed(_parameters(target).get(name), value) for name, value in arguments.items()}
    return partial(target, **own, **typed)


def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target, eval_str=True).parameters
    except (NameError, AttributeError, TypeError, ValueError, SyntaxError):  # annotations for type checkers alone
        pass
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):  # some functions written in C have none
        return {"arguments": inspect.Parameter("arguments", inspect.Parameter.VAR_KEYWORD)}


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return None
    try:
        return TypeAdapter(annotation)
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError, NameError):
        return None  # no type of pydantic: the target itself decides


def _type_problems(path: str, annotation: Any, value: Any) -> list[Problem]:
    adapter = _adapter(annotation)
    if adapter is None:
        return []
    try:
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        kind = inspect.formatannotation(annotation)
        article = "an" if kind[:1] in "aeiou" else "a"
        detail = error.errors()[0]
        inner = ".".join(str(part) for part in detail["loc"])
        if not inner and detail["type"].endswith(("_type", "_from_float", "_parsing")):
            return [Problem(path, f"must be {article} {kind}, got {short_repr(value)}")]
        where = f"{path}.{inner}" if inner else path
        message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        return [Problem(where, f"{message}, got {short_repr(detail['input'])}")]
    return []


def _typed(parameter: inspect.Parameter | None, value: Any) -> Any:
    adapter = None if parameter is None else _adapter(parameter.annotation)
    return value if adapter is None else adapter.validate_json(json.dumps(value), strict=True)


def code_digest(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each imported module's file inside a folder, by its path from there.

    Modules of an environment inside the folder (`site-packages`), whose versions are recorded elsewhere, and Ravel's
    own are left out.
    """
    own = sorted({file for name in _module_files() if is_own_file(file := Path(name), folder)})
    digests = {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in own if file.is_file()}
    return {file.relative_to(folder).as_posix(): digest for file, digest in digests.items()}


def is_own_file(file: Path, folder: Path) -> bool:
    """Return True if a module's file is a user's own, in a folder: not Ravel's, not installed, not a command.

    >>> here = Path("/home/ada")
    >>> [is_own_file(here / name, here) for name in ("nets.py", ".venv/bin/ravel", "trainables/seeding.py")]
    [True, False, False]
    """
    if not file.suffix or not file.is_relative_to(folder):
        return False
    parts = file.relative_to(folder).parts
    return "site-packages" not in parts and parts[0] not in _OURS


def _module_files() -> Iterator[str]:
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str):
            yield file
