"""Reader of the domain of one parameter in a space document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from search_spaces.documents.problems import wrong
from search_spaces.domains.types import Choice, Domain, Fixed, Float, Int, SymLog, ZeroOr
from search_spaces.errors import Problem, SpaceError, quoted, suggestion

_Entry: TypeAlias = Mapping[str, Any]


def read_domain(entry: object) -> Domain:
    """Read the entry of a parameter without its `when`; a plain value is a `Fixed`.

    Raises:
        SpaceError: with every problem, each at its path within the entry.

    >>> read_domain({"float": [0.0, 1.0], "step": 0.5})
    Float(low=0.0, high=1.0, log=False, step=0.5)
    """
    if isinstance(entry, Mapping):
        return _domain({key: value for key, value in entry.items() if key != "when"})
    if isinstance(entry, list):
        raise wrong(f"a list is not a domain; write {{choice: {quoted(entry)}}}")
    if entry is None:
        raise wrong("is empty; write a domain such as {float: [0.0, 1.0]}, or {fixed: null}")
    return Fixed(entry)  # type: ignore[arg-type]  # the constructor checks


def _domain(entry: _Entry) -> Domain:
    kinds = [key for key in entry if key in _KINDS]
    if len(kinds) != 1:
        raise _kind_error(entry, kinds)
    kind = kinds[0]
    known = _OPTIONS.get(kind, ())
    unknown = [key for key in entry if key != kind and key not in known]
    if unknown:
        options = (*known, "when")
        raise SpaceError(
            *(Problem(str(key), f"unknown field of {kind!r}{suggestion(str(key), options)}") for key in unknown)
        )
    return _KINDS[kind](entry)


def _kind_error(entry: _Entry, kinds: list[str]) -> SpaceError:
    if kinds:
        return wrong(f"must have one domain, got {' and '.join(kinds)}")
    options = {option for known in _OPTIONS.values() for option in known}
    unknown = [str(key) for key in entry if key not in options]
    if unknown:
        return wrong(f"unknown domain {quoted(unknown[0])}{suggestion(unknown[0], _KINDS)}")
    return wrong(f"has no domain; give one of {', '.join(_KINDS)}")


def _bounds(entry: _Entry, kind: str) -> tuple[Any, Any]:
    bounds = entry[kind]
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise wrong(f"{kind} must be [low, high], got {quoted(bounds)}")
    return bounds[0], bounds[1]


def _float(entry: _Entry) -> Domain:
    return Float(*_bounds(entry, "float"), log=entry.get("log", False), step=entry.get("step"))


def _int(entry: _Entry) -> Domain:
    return Int(*_bounds(entry, "int"), log=entry.get("log", False), step=entry.get("step", 1))


def _symlog(entry: _Entry) -> Domain:
    if "gap" not in entry:
        raise wrong("symlog needs a gap, the smallest magnitude; write {symlog: [-1.0, 1.0], gap: 0.001}")
    return SymLog(*_bounds(entry, "symlog"), gap=entry["gap"])


def _choice(entry: _Entry) -> Domain:
    if not isinstance(entry["choice"], list):
        raise wrong(f"choice must be a list of values, got {quoted(entry['choice'])}")
    return Choice(entry["choice"], ordered=entry.get("ordered", False))


def _fixed(entry: _Entry) -> Domain:
    return Fixed(entry["fixed"])


def _zero_or(entry: _Entry) -> Domain:
    if not isinstance(entry["zero_or"], Mapping):
        raise wrong(f"zero_or must hold a domain such as {{float: [0.1, 1.0]}}, got {quoted(entry['zero_or'])}")
    return ZeroOr(_domain(entry["zero_or"]), entry.get("probability", 0.5))


_KINDS: Mapping[str, Callable[[_Entry], Domain]] = {
    "float": _float,
    "int": _int,
    "symlog": _symlog,
    "choice": _choice,
    "fixed": _fixed,
    "zero_or": _zero_or,
}
# Optional and required keys of a kind, besides its own.
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "float": ("log", "step"),
    "int": ("log", "step"),
    "choice": ("ordered",),
    "symlog": ("gap",),
    "zero_or": ("probability",),
}
