"""Overrides of a spec's document, ``path=value``, as after ``--set``; paths are dotted, as in error messages."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from orchestrator.errors import quoted
from orchestrator.spec.objective import fields_of
from search_spaces import Problem, YamlError, load_yaml

FLAT_SECTIONS = re.compile(r"(trial|space\.parameters|search\.points\.\d+)\.(.+)")
"""Below these a dotted name is one key."""

Container: TypeAlias = "dict[str, Any] | list[Any]"


class _WrongPathError(Exception):
    """A path that names no field, with the requirement."""


def apply(document: dict[str, Any], override: str) -> list[Problem]:
    """Set one field of a document, in place; return the problems.

    An objective in its short form gets its long one, and a number names an entry of a list.

    >>> document = {"objective": ["val/accuracy max", "val/nll min"]}
    >>> apply(document, "objective.1.metric=val/ece"), document
    ([], {'objective': ['val/accuracy max', {'metric': 'val/ece', 'mode': 'min'}]})
    """
    path, separator, text = override.partition("=")
    if not separator or not path:
        return [Problem(f"--set {override}", "must be path=value, for example search.num_trials=8")]
    try:
        value = load_yaml(text, source=f"--set {path}")
    except YamlError as error:
        return [Problem(f"--set {path}", str(error).partition(": ")[2])]
    keys = _keys(path, document)
    try:
        target: Container = document
        for depth, key in enumerate(keys[:-1], start=1):
            target = _inside(target, key, place=".".join(keys[:depth]))
        target[_key(target, keys[-1])] = value
    except _WrongPathError as error:
        return [Problem(f"--set {path}", str(error))]
    return []


def _keys(path: str, document: dict[str, Any]) -> list[str]:
    flat = FLAT_SECTIONS.fullmatch(path)
    if flat is not None:
        return [*flat[1].split("."), flat[2]]
    keys = path.split(".")
    if len(keys) > 1 and keys[0] == "objective" and isinstance(document.get("objective"), list):
        return keys if keys[1].isdecimal() else ["objective", "0", *keys[1:]]  # as messages name the first
    return keys


def _inside(target: Container, key: str, *, place: str) -> Container:
    """Return the section or list at a key; one that is not in the spec is created, a short form is written out.

    Raises:
        _WrongPathError: the key holds a plain value, or is no entry of a list.
    """
    at = _key(target, key)
    value = target[at] if isinstance(target, list) else target.get(at)
    if value is None or (isinstance(value, str) and re.fullmatch(r"objective(\.\d+)?", place)):
        value = {} if value is None else fields_of(value)
        target[at] = value
    if not isinstance(value, dict | list):
        raise _WrongPathError(
            f"needs a mapping in {place}, which is {quoted(value)} in the spec; write {{field: value}}"
        )
    return value


def _key(target: Container, key: str) -> Any:
    if isinstance(target, dict):
        return key
    if not (key.isdecimal() and int(key) < len(target)):
        entries = f"0 to {len(target) - 1}" if target else "it is empty"
        raise _WrongPathError(f"must name an entry of the list by its number ({entries}), got {quoted(key)}")
    return int(key)
