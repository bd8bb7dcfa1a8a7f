"""JSON Schemas (2020-12): of the points of a space, and of the space document itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from search_spaces.conditions.condition import AllOf, AnyOf, Equals, GreaterThan, LessThan, NotEqual, OneOf, When
from search_spaces.conditions.expressions import LONGEST
from search_spaces.documents.fragments import FRAGMENTS
from search_spaces.domains.types import Choice, Fixed, Float, Int, SymLog, ZeroOr, intervals
from search_spaces.paths import NAME_PATTERN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from search_spaces.conditions.condition import Condition, Predicate
    from search_spaces.conditions.definition import SpaceLike
    from search_spaces.domains.types import Domain

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
# The exact schema of a stepped float is the list of its values; with more values it is a plain range.
_MOST_VALUES = 1000


def json_schema(space: SpaceLike) -> dict[str, object]:
    """Return a JSON Schema (2020-12) of the space's flat points.

    JSON does not distinguish 3 from 3.0, so neither does the schema. A schema cannot express constraints: `$comment`
    lists them.

    >>> from search_spaces import Int, SearchSpace
    >>> json_schema(SearchSpace({"steps": Int(2, 10)}))["properties"]
    {'steps': {'type': 'integer', 'minimum': 2, 'maximum': 10}}
    """
    return {
        "$schema": _DIALECT,
        "type": "object",
        "properties": {name: _domain_schema(domain) for name, domain in space.parameters.items()},
        "required": [name for name in space.parameters if name not in space.when],
        "additionalProperties": False,
        "allOf": [_existence_schema(name, condition) for name, condition in space.when.items()],
        **_comment(space),
    }


def document_schema() -> dict[str, Any]:
    """Return a JSON Schema (2020-12) of space documents, with which editors complete and explain names.

    `parse_space` also refuses bounds in the wrong order, a step that does not fit, names that are not parameters or
    clash, and constraints that are not valid.

    >>> document_schema()["properties"]["use"]["items"]["enum"][:2]
    ['optimizer', 'sgd']
    """
    return {
        "$schema": _DIALECT,
        "description": "A search space: fragments of the catalog, and parameters of its own.",
        "type": "object",
        "properties": {
            "version": {"const": 1, "description": "The format of this document."},
            "use": {
                "description": "Fragments of the catalog, merged.",
                "type": "array",
                "items": {"enum": list(FRAGMENTS)},
            },
            "parameters": {
                "description": "Dotted names and their domains; added to the fragments, or replacing their entries.",
                "type": "object",
                "propertyNames": {"pattern": rf"^{NAME_PATTERN}$"},
                "additionalProperties": {
                    "anyOf": [{"$ref": "#/$defs/value"}, *({"$ref": f"#/$defs/{k}"} for k in _KINDS)]
                },
            },
            "constraints": {
                "description": "Requirements on the values of a point, such as 'a * b >= 1'.",
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": LONGEST},
            },
        },
        "additionalProperties": False,
        "$defs": _definitions(),
    }


def _definitions() -> dict[str, Any]:
    when = {"when": {"$ref": "#/$defs/when"}}
    kinds: dict[str, dict[str, Any]] = {
        kind: {
            "description": description,
            "type": "object",
            "properties": {**fields, **when},
            "required": required,
            "additionalProperties": False,
        }
        for kind, (description, fields, required) in _KINDS.items()
    }
    inner = [{"$ref": f"#/$defs/{kind}"} for kind in ("float", "int", "symlog", "choice", "fixed")]
    kinds["zero_or"]["properties"]["zero_or"] = {"anyOf": inner, "not": {"required": ["when"]}}
    return {
        **kinds,
        "value": {"description": "Always this value.", "type": ["boolean", "number", "string"]},
        "scalar": {"type": ["null", "boolean", "number", "string"]},
        "when": _WHEN,
        "clause": _CLAUSE,
    }


_NUMBERS = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_INTS = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
_SCALARS = {"type": "array", "items": {"$ref": "#/$defs/scalar"}, "minItems": 1}
_LOG = {"type": "boolean", "description": "Uniform in the logarithm."}
_STEP = {"type": "number", "exclusiveMinimum": 0, "description": "Only low, low + step, ... high."}
# Description, fields and required fields of each kind of domain.
_KINDS: Mapping[str, tuple[str, dict[str, Any], list[str]]] = {
    "float": ("Floats in [low, high].", {"float": _NUMBERS, "log": _LOG, "step": _STEP}, ["float"]),
    "int": ("Ints in [low, high].", {"int": _INTS, "log": _LOG, "step": {**_STEP, "type": "integer"}}, ["int"]),
    "symlog": (
        "Floats in [low, high], at least gap from 0, uniform in the signed logarithm.",
        {"symlog": _NUMBERS, "gap": {"type": "number", "exclusiveMinimum": 0}},
        ["symlog", "gap"],
    ),
    "choice": (
        "One of several values.",
        {
            "choice": {**_SCALARS, "uniqueItems": True},
            "ordered": {"type": "boolean", "description": "Neighbours are similar."},
        },
        ["choice"],
    ),
    "fixed": ("Always this value.", {"fixed": {"$ref": "#/$defs/scalar"}}, ["fixed"]),
    "zero_or": (
        "Exactly 0 with a probability, else the domain.",
        {"zero_or": {}, "probability": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}},
        ["zero_or"],
    ),
}
_CLAUSE = {
    "description": "Requirement on a parent: its value, one of several, or a mapping of predicates.",
    "anyOf": [
        {"$ref": "#/$defs/scalar"},
        _SCALARS,
        {
            "type": "object",
            "properties": {
                "equals": {"$ref": "#/$defs/scalar"},
                "one_of": _SCALARS,
                "not": {"anyOf": [{"$ref": "#/$defs/scalar"}, _SCALARS]},
                "greater_than": {"type": "number"},
                "less_than": {"type": "number"},
            },
            "minProperties": 1,
            "additionalProperties": False,
        },
    ],
}
_PARTS = {"type": "array", "items": {"allOf": [{"$ref": "#/$defs/when"}, {"minProperties": 1}]}, "minItems": 1}
_WHEN = {
    "description": "The parameter exists only where all of this holds; 'any' and 'all' hold lists of conditions.",
    "type": "object",
    "properties": {joint: {"anyOf": [_PARTS, {"$ref": "#/$defs/clause"}]} for joint in ("any", "all")},
    "additionalProperties": {"$ref": "#/$defs/clause"},
}


def _domain_schema(domain: Domain) -> dict[str, Any]:
    match domain:
        case Int(low=low, high=high, step=1):
            return {"type": "integer", "minimum": low, "maximum": high}
        case Int() | Float() if (values := domain.values()) is not None and len(values) <= _MOST_VALUES:
            return {"enum": list(values)}
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


def _existence_schema(name: str, condition: Condition) -> dict[str, Any]:
    return {"if": _condition_schema(condition), "then": {"required": [name]}, "else": {"properties": {name: False}}}


def _condition_schema(condition: Condition) -> dict[str, Any]:
    match condition:
        case When(parent=parent, predicate=predicate):
            return {"properties": {parent: _predicate_schema(predicate)}, "required": [parent]}
        case AllOf(parts=parts):
            return {"allOf": [_condition_schema(part) for part in parts]}
        case AnyOf(parts=parts):
            return {"anyOf": [_condition_schema(part) for part in parts]}
    raise AssertionError(condition)


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
        case LessThan(bound=bound):
            return {"type": "number", "exclusiveMaximum": bound}
    raise AssertionError(predicate)


def _comment(space: SpaceLike) -> dict[str, str]:
    texts = "; ".join(constraint.text for constraint in space.constraints)
    return {"$comment": f"must hold as well: {texts}"} if texts else {}
