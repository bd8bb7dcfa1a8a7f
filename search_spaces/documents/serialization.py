"""Writer of a space as plain data: document, YAML, JSON and fingerprint. `documents.reader` reads it back.

`load_yaml` and `dump_yaml`, the strict YAML loader and its dumper, are re-exported.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from search_spaces.conditions.condition import (
    AllOf,
    AnyOf,
    Equals,
    GreaterThan,
    LessThan,
    NotEqual,
    OneOf,
    Predicate,
    When,
)
from search_spaces.documents.strict_yaml import Inline, dump_yaml, load_yaml
from search_spaces.errors import Problem, SpaceError, cut, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search_spaces.conditions.condition import Condition
    from search_spaces.conditions.definition import SpaceLike

__all__ = [
    "FORMAT_VERSION",
    "dump_yaml",
    "fingerprint",
    "load_json",
    "load_yaml",
    "to_document",
    "to_json",
    "to_yaml",
]

# Format of the space document and of the input of the fingerprint.
FORMAT_VERSION = 1


def to_document(space: SpaceLike) -> dict[str, Any]:
    """Return the space as a document of plain JSON values; `parse_space` reads it back.

    >>> from search_spaces import Choice, Float, SearchSpace, When
    >>> space = SearchSpace({"a": Choice([0, 1]), "b": Float(2.0, 3.0)}, when={"b": When("a", 1)})
    >>> to_document(space)["parameters"]
    {'a': {'choice': [0, 1]}, 'b': {'float': [2.0, 3.0], 'when': {'a': 1}}}
    """
    entries = {
        name: domain.to_dict() | ({"when": _condition_document(space.when[name])} if name in space.when else {})
        for name, domain in space.parameters.items()
    }
    constraints = {"constraints": [constraint.text for constraint in space.constraints]} if space.constraints else {}
    return {"version": FORMAT_VERSION, "parameters": entries, **constraints}


def to_yaml(space: SpaceLike) -> str:
    """Return the document as YAML, one line per parameter.

    >>> from search_spaces import Float, SearchSpace
    >>> print(to_yaml(SearchSpace({"lr": Float(1e-4, 1.0, log=True)})), end="")
    version: 1
    parameters:
      lr: {float: [0.0001, 1.0], log: true}
    """
    document = to_document(space)
    entries = {name: Inline(entry) for name, entry in document["parameters"].items()}
    return dump_yaml(document | {"parameters": entries})


def to_json(space: SpaceLike) -> str:
    """Return the document as JSON, one line.

    >>> from search_spaces import Fixed, SearchSpace
    >>> to_json(SearchSpace({"lr": Fixed(0.1)}))
    '{"version": 1, "parameters": {"lr": {"fixed": 0.1}}}'
    """
    return json.dumps(to_document(space), allow_nan=False)


def load_json(text: str) -> Any:
    """Read JSON strictly: no NaN, no infinity, no duplicate key.

    Raises:
        SpaceError: the text is not such JSON; the message gives the line and column.

    >>> load_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    search_spaces.errors.SpaceError: JSON: the key 'a' is duplicated in one object; keep one
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise SpaceError(Problem(f"JSON:{error.lineno}:{error.colno}", cut(error.msg, 160))) from error


def fingerprint(space: SpaceLike) -> str:
    """Return the SHA-256 (hex) of the definition; the order of parameters and conditions does not matter.

    >>> from search_spaces import catalog
    >>> fingerprint(catalog.snnl() | catalog.mixup()) == fingerprint(catalog.mixup() | catalog.snnl())
    True
    """
    entries = {
        name: [domain.to_dict(), _canonical_conditions(space.when.get(name))]
        for name, domain in space.parameters.items()
    }
    definition: dict[str, object] = {"format": f"ravel-space/{FORMAT_VERSION}", "parameters": entries}
    if space.constraints:
        definition["constraints"] = sorted(constraint.text for constraint in space.constraints)
    return hashlib.sha256(_canonical(definition).encode()).hexdigest()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        duplicate = next(key for key in keys if keys.count(key) > 1)
        raise SpaceError(Problem("JSON", f"the key {quoted(duplicate)} is duplicated in one object; keep one"))
    return mapping


def _no_constant(text: str) -> None:
    raise SpaceError(Problem("JSON", f"must hold finite numbers, got {text}"))


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _canonical_conditions(condition: Condition | None) -> list[str]:
    """Return the texts of the conditions that must all hold, sorted."""
    match condition:
        case None:
            return []
        case AllOf(parts=parts):
            return sorted(_canonical(_tree(part)) for part in parts)
        case _:
            return [_canonical(_tree(condition))]


def _tree(condition: Condition) -> dict[str, object]:
    match condition:
        case When(parent=parent, predicate=predicate):
            return {parent: _clause_of(predicate)}
        case AllOf(parts=parts):
            return {"all": sorted((_tree(part) for part in parts), key=_canonical)}
        case AnyOf(parts=parts):
            return {"any": sorted((_tree(part) for part in parts), key=_canonical)}
    raise AssertionError(condition)


def _condition_document(condition: Condition) -> dict[str, object]:
    """Return a condition as an entry of `when`: parents with their clauses, `any` and `all`."""
    match condition:
        case When(parent=parent, predicate=predicate):
            return {parent: _clauses([predicate])}
        case AnyOf(parts=parts):
            return {"any": [_condition_document(part) for part in parts]}
        case AllOf(parts=parts):
            return _joint_document(parts)
    raise AssertionError(condition)


def _joint_document(parts: Sequence[Condition]) -> dict[str, object]:
    """Return conditions that must all hold as one mapping, or as a list if a key would be duplicated."""
    predicates: dict[str, list[Predicate]] = {}
    joined: list[Condition] = []
    for part in parts:
        if isinstance(part, When):
            predicates.setdefault(part.parent, []).append(part.predicate)
        else:
            joined.append(part)
    kinds = [
        [type(predicate) for predicate in group if not isinstance(predicate, NotEqual)] for group in predicates.values()
    ]
    if len(joined) > 1 or "any" in predicates or "all" in predicates or any(len(set(k)) < len(k) for k in kinds):
        return {"all": [_condition_document(part) for part in parts]}
    clauses: dict[str, object] = {parent: _clauses(group) for parent, group in predicates.items()}
    return clauses | (_condition_document(joined[0]) if joined else {})


def _clauses(predicates: list[Predicate]) -> object:
    """Return the predicates on one parent: in the short form if possible, else as a mapping."""
    match predicates:
        case [Equals(value=value)]:
            return value
        case [OneOf(values=values)]:
            return list(values)
    excluded = [predicate.value for predicate in predicates if isinstance(predicate, NotEqual)]
    clause: dict[str, object] = {}
    for predicate in predicates:
        clause.update(_clause_of(predicate))
    if len(excluded) > 1:
        clause["not"] = excluded
    return clause


def _clause_of(predicate: Predicate) -> dict[str, object]:
    match predicate:
        case Equals(value=value):
            return {"equals": value}
        case OneOf(values=values):
            return {"one_of": list(values)}
        case NotEqual(value=value):
            return {"not": value}
        case GreaterThan(bound=bound):
            return {"greater_than": bound}
        case LessThan(bound=bound):
            return {"less_than": bound}
    raise AssertionError(predicate)
