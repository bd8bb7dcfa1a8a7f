"""Dotted parameter names and nested mappings: 'optimizer.lr' <-> {'optimizer': {'lr': ...}}.

Only this module gives a dot a meaning. A name is one or more identifiers joined by dots.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from search_spaces.errors import PathError, Problem, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NAME_PATTERN = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"
_NAME = re.compile(NAME_PATTERN)


def check_name(name: object) -> str:
    """Return `name` if it is a dotted parameter name, else raise.

    Raises:
        PathError: it is not a dotted parameter name.

    >>> check_name("optimizer.lr")
    'optimizer.lr'
    >>> check_name("optimizer..lr")
    Traceback (most recent call last):
    search_spaces.errors.PathError: 'optimizer..lr': a parameter name is identifiers joined by dots
    """
    if type(name) is not str or not _NAME.fullmatch(name):
        raise PathError(Problem(quoted(name), "a parameter name is identifiers joined by dots"))
    return name


def check_clashes(names: Iterable[str]) -> None:
    """Raise if a name is both a value and a group of other names.

    Raises:
        PathError: with every clash.

    >>> check_clashes(["snnl.weight", "snnl.distance"])
    >>> check_clashes(["snnl", "snnl.weight"])
    Traceback (most recent call last):
    search_spaces.errors.PathError: snnl.weight: clashes with 'snnl', which holds a value; rename one of them
    """
    known = dict.fromkeys(names)
    clashes = [(name, group) for name in known for group in _groups(name) if group in known]
    if clashes:
        raise PathError(
            *(
                Problem(name, f"clashes with {quoted(group)}, which holds a value; rename one of them")
                for name, group in clashes
            )
        )


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Convert dotted names to nested mappings.

    Raises:
        PathError: a name is not valid, or two names clash.

    >>> nest({"optimizer.lr": 0.1, "optimizer.name": "sgd", "epochs": 3})
    {'optimizer': {'lr': 0.1, 'name': 'sgd'}, 'epochs': 3}
    """
    check_clashes([check_name(name) for name in flat])
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, leaf = name.split(".")
        inner = nested
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[leaf] = value
    return nested


def unnest(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Convert nested mappings to dotted names; keys may be dotted already.

    Raises:
        PathError: a key is not valid, a name is given twice, two names clash, or a group is empty.

    >>> unnest({"optimizer": {"lr": 0.1}, "data.name": "digits"})
    {'optimizer.lr': 0.1, 'data.name': 'digits'}
    """
    flat: dict[str, Any] = {}
    for name, value in _leaves(nested, prefix=""):
        if name in flat:
            raise PathError(Problem(name, "is given twice, once nested and once dotted; keep one"))
        flat[name] = value
    check_clashes(flat)
    return flat


def _leaves(nested: Mapping[str, Any], *, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in nested.items():
        name = prefix + check_name(key)
        if not isinstance(value, Mapping):
            yield name, value
        elif not value:
            raise PathError(Problem(name, "is an empty group; give it a parameter, or leave it out"))
        else:
            yield from _leaves(value, prefix=f"{name}.")


def _groups(name: str) -> Iterator[str]:
    """Yield the groups that contain a name: 'a' and 'a.b' contain 'a.b.c'."""
    parts = name.split(".")
    return (".".join(parts[:depth]) for depth in range(1, len(parts)))
