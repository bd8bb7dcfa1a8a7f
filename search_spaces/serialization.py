"""A space as plain data: document, YAML, JSON Schema and fingerprint. Reading one is `documents.parse_space`.

The strict YAML loader and its dumper, `load_yaml` and `dump_yaml`, are offered here as well.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from search_spaces.conditions import Equals, GreaterThan, NotEqual, OneOf, Predicate
from search_spaces.domains import Choice, Domain, Fixed, Float, Int, SymLog, ZeroOr
from search_spaces.numeric import intervals
from search_spaces.strict_yaml import Inline, dump_yaml, load_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable

    from search_spaces.conditions import SpaceLike, When

__all__ = ["FORMAT_VERSION", "dump_yaml", "fingerprint", "json_schema", "load_yaml", "to_document", "to_yaml"]

# Of the space document and of what the fingerprint covers.
FORMAT_VERSION = 1


def to_document(space: SpaceLike) -> dict[str, Any]:
    """Return the space as a document of plain JSON values, which `parse_space` reads back.

    >>> from search_spaces import Choice, Float, SearchSpace, When
    >>> space = SearchSpace({"a": Choice([0, 1]), "b": Float(2.0, 3.0)}, when={"b": When("a", 1)})
    >>> to_document(space)["parameters"]
    {'a': {'choice': [0, 1]}, 'b': {'float': [2.0, 3.0], 'when': {'a': 1}}}
    """
    entries = {
        name: domain.to_dict() | _when_entry(space.when.get(name, ())) for name, domain in space.parameters.items()
    }
    return {"version": FORMAT_VERSION, "parameters": entries}


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


def fingerprint(space: SpaceLike) -> str:
    """Return the SHA-256 (hex) of the definition, blind to the order of parameters and conditions.

    >>> from search_spaces import catalog
    >>> fingerprint(catalog.snnl() | catalog.mixup()) == fingerprint(catalog.mixup() | catalog.snnl())
    True
    """
    entries = {
        name: [domain.to_dict(), sorted(_canonical(_clause(law)) for law in space.when.get(name, ()))]
        for name, domain in space.parameters.items()
    }
    text = _canonical({"format": f"ravel-space/{FORMAT_VERSION}", "parameters": entries})
    return hashlib.sha256(text.encode()).hexdigest()


def json_schema(space: SpaceLike) -> dict[str, object]:
    """Return a JSON Schema (2020-12) of the space's flat points.

    JSON knows no difference between 3 and 3.0, so neither does the schema.

    >>> from search_spaces import Int, SearchSpace
    >>> json_schema(SearchSpace({"steps": Int(2, 10)}))["properties"]
    {'steps': {'type': 'integer', 'minimum': 2, 'maximum': 10}}
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {name: _domain_schema(domain) for name, domain in space.parameters.items()},
        "required": [name for name in space.parameters if name not in space.when],
        "additionalProperties": False,
        "allOf": [_condition_schema(name, laws) for name, laws in space.when.items()],
    }


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _when_entry(laws: Iterable[When]) -> dict[str, object]:
    by_parent: dict[str, list[Predicate]] = {}
    for law in laws:
        by_parent.setdefault(law.parent, []).append(law.predicate)
    clauses = {parent: _clauses(predicates) for parent, predicates in by_parent.items()}
    return {"when": clauses} if clauses else {}


def _clauses(predicates: list[Predicate]) -> object:
    """Write the predicates on one parent: the short form where there is one, else a mapping."""
    match predicates:
        case [Equals(value=value)]:
            return value
        case [OneOf(values=values)]:
            return list(values)
    excluded = [predicate.value for predicate in predicates if isinstance(predicate, NotEqual)]
    written: dict[str, object] = {}
    for predicate in predicates:
        written.update(_clause_of(predicate))
    if len(excluded) > 1:
        written["not"] = excluded
    return written


def _clause(law: When) -> dict[str, object]:
    return {law.parent: _clause_of(law.predicate)}


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
    raise AssertionError(predicate)


def _domain_schema(domain: Domain) -> dict[str, Any]:
    match domain:
        case Int(low=low, high=high):
            return {"type": "integer", "minimum": low, "maximum": high}
        case Float() | SymLog():
            ranges = [{"type": "number", "minimum": a, "maximum": b} for a, b in intervals(domain)]
            return ranges[0] if len(ranges) == 1 else {"anyOf": ranges}
        case Choice(options=options):
            return {"enum": list(options)}
        case Fixed(value=value):
            return {"const": value}
        case ZeroOr(domain=inner, zero=zero):
            return {"anyOf": [{"const": zero}, _domain_schema(inner)]}
    raise AssertionError(domain)


def _condition_schema(name: str, laws: Iterable[When]) -> dict[str, Any]:
    tests = [{"properties": {law.parent: _predicate_schema(law.predicate)}, "required": [law.parent]} for law in laws]
    return {"if": {"allOf": tests}, "then": {"required": [name]}, "else": {"properties": {name: False}}}


def _predicate_schema(predicate: Predicate) -> dict[str, Any]:
    match predicate:
        case Equals(value=value):
            return {"const": value}
        case OneOf(values=values):
            return {"enum": list(values)}
        case NotEqual(value=value):
            return {"not": {"const": value}}
        case GreaterThan(bound=bound):
            return {"type": "number", "exclusiveMinimum": bound}
    raise AssertionError(predicate)
