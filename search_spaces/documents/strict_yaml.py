"""Strict YAML: the loaded value is the value that a person reads.

YAML 1.2 core scalars (`1e-3` is a float, `no` and `2024-01-01` are strings, `010` is ten), text keys,
no duplicate key, no aliases, no tags, one document of bounded size and depth.
"""

from __future__ import annotations

import functools
import math
import re
from typing import TYPE_CHECKING, Any, ClassVar

from search_spaces.errors import MissingExtraError, Problem, YamlError, cut, quoted

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import yaml

# Much larger than any sweep file; a larger document is a mistake, or an attempt to exhaust memory.
_MAX_CHARACTERS = 1_000_000
_MAX_DEPTH = 50

_TAG = "tag:yaml.org,2002:"
# Tag, pattern, and the first characters of a match (PyYAML indexes its patterns by them).
_CORE_SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)


class Inline(dict[str, Any]):
    r"""Mapping that `dump_yaml` writes on one line.

    >>> dump_yaml({"lr": Inline({"fixed": 0.1})})
    'lr: {fixed: 0.1}\n'
    """


def load_yaml(text: str, *, source: str = "<string>") -> Any:
    r"""Load one strict YAML document; an empty one is None.

    Raises:
        YamlError: with `source`, line and column.

    >>> load_yaml("lr: 1e-3\nnesterov: no")
    {'lr': 0.001, 'nesterov': 'no'}
    >>> load_yaml("name: a\nname: b", source="sweep.yaml")
    Traceback (most recent call last):
    search_spaces.errors.YamlError: sweep.yaml:2:1: duplicate key 'name'; keep one
    """
    yaml = _yaml()
    if len(text) > _MAX_CHARACTERS:
        raise _error(source, f"must have at most {_MAX_CHARACTERS} characters, got {len(text)}")
    try:
        return _loader_class()(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        raise _located(source, error) from error
    except yaml.reader.ReaderError as error:
        lines = text[: error.position].split("\n")
        message = f"the character {chr(error.character)!r} is not allowed; write it as an escape in double quotes"
        raise _error(source, message, line=len(lines), column=len(lines[-1]) + 1) from error


def dump_yaml(document: object) -> str:
    """Write a document of plain values as YAML; `load_yaml` reads the same document back.

    >>> print(dump_yaml({"name": "1e-3", "lr": Inline({"float": [0.001, 1.0], "log": True})}), end="")
    name: '1e-3'
    lr: {float: [0.001, 1.0], log: true}
    """
    return str(
        _yaml().dump(
            document,
            Dumper=_dumper_class(),
            default_flow_style=None,
            sort_keys=False,
            width=110,
        )
    )


def _yaml() -> ModuleType:
    try:
        import yaml  # noqa: PLC0415 - building spaces in Python needs no YAML
    except ImportError as error:
        raise MissingExtraError("yaml") from error
    return yaml


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, firsts in _CORE_SCALARS:
        for first in firsts:
            table.setdefault(first, []).append((_TAG + tag, re.compile(rf"(?:{pattern})\Z")))
    return table


@functools.cache
def _dumper_class() -> type[yaml.SafeDumper]:
    class CoreDumper(_yaml().SafeDumper):  # type: ignore[misc]  # the module is a value here
        yaml_implicit_resolvers = _resolvers()

        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the loader reads no aliases
            return True

    CoreDumper.add_representer(
        Inline, lambda dumper, data: dumper.represent_mapping(f"{_TAG}map", data.items(), flow_style=True)
    )
    return CoreDumper


@functools.cache
def _loader_class() -> type[yaml.SafeLoader]:
    alias = _yaml().AliasEvent

    class CoreLoader(_yaml().SafeLoader):  # type: ignore[misc]  # the module is a value here
        yaml_implicit_resolvers = _resolvers()
        yaml_constructors: ClassVar[dict[str | None, Any]] = {}
        depth = 0

        def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
            event = self.peek_event()
            if isinstance(event, alias):
                raise _marked(event, "aliases are not supported; repeat the value")
            if event.tag is not None:
                raise _marked(event, f"tags are not supported, got {quoted(event.tag)}; write the plain value")
            if self.depth >= _MAX_DEPTH:
                raise _marked(event, f"must be nested at most {_MAX_DEPTH} levels deep")
            self.depth += 1
            node: yaml.Node | None = super().compose_node(parent, index)
            self.depth -= 1
            return node

    for tag, construct in _CONSTRUCTORS.items():
        CoreLoader.add_constructor(_TAG + tag, construct)
    return CoreLoader


def _mapping(loader: yaml.SafeLoader, node: yaml.Node) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise _marked(key_node, f"a key must be text, got {quoted(key)}; quote it")
        if key in result:
            raise _marked(key_node, f"duplicate key {quoted(key)}; keep one")
        result[key] = loader.construct_object(value_node, deep=True)
    return result


def _sequence(loader: yaml.SafeLoader, node: yaml.Node) -> list[Any]:
    return [loader.construct_object(item, deep=True) for item in node.value]


def _int(_loader: yaml.SafeLoader, node: yaml.Node) -> int:
    digits = node.value
    try:
        return int(digits, 0 if digits[:2] in {"0x", "0o"} else 10)
    except ValueError as error:
        raise _marked(node, f"too large for an int: {digits[:20]}...") from error


def _float(_loader: yaml.SafeLoader, node: yaml.Node) -> float:
    digits = node.value.lower()
    value = float(digits.replace(".inf", "inf").replace(".nan", "nan"))
    if math.isinf(value) and "inf" not in digits:
        raise _marked(node, f"too large for a float: {cut(digits)}")
    return value


_CONSTRUCTORS: dict[str, Callable[[yaml.SafeLoader, yaml.Node], Any]] = {
    "null": lambda _loader, _node: None,
    "bool": lambda _loader, node: node.value.lower() == "true",
    "int": _int,
    "float": _float,
    "str": lambda _loader, node: node.value,
    "seq": _sequence,
    "map": _mapping,
}


def _marked(at: yaml.Node | yaml.Event, problem: str) -> Exception:
    error: Exception = _yaml().constructor.ConstructorError(None, None, problem, at.start_mark)
    return error


def _located(source: str, error: yaml.MarkedYAMLError) -> YamlError:
    mark = error.problem_mark or error.context_mark
    message = cut(error.problem or error.context or "not YAML", 240)
    if mark is None:
        return _error(source, message)
    return _error(source, message, line=mark.line + 1, column=mark.column + 1)


def _error(source: str, message: str, *, line: int = 1, column: int = 1) -> YamlError:
    return YamlError(Problem(f"{source}:{line}:{column}", message), line=line, column=column)
