"""Types and defaults of the fields of a model, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from tables import code

if TYPE_CHECKING:
    from collections.abc import Mapping

TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
LIMITS = {
    **dict.fromkeys(("minimum", "ge"), ">="),
    **dict.fromkeys(("exclusiveMinimum", "gt"), ">"),
    **dict.fromkeys(("maximum", "le"), "<="),
    **dict.fromkeys(("exclusiveMaximum", "lt"), "<"),
}

MOST = 2**62
"""Limits from here on are those of whole numbers of 64 bits."""


def type_text(schema: Mapping[str, Any]) -> str:
    """Return the type of a field, and the values that it allows, from its JSON Schema.

    >>> type_text({"type": "integer", "minimum": 1}), type_text({"enum": ["a", "b"]})
    ('whole number >= 1', '`a`, `b`')
    """
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(type_text, schema["anyOf"])))
    if "enum" in schema:
        return ", ".join(map(code, schema["enum"]))
    if "const" in schema:
        return code(schema["const"])
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2].lower()
    if schema.get("type") == "array":
        return f"list of {type_text(schema.get('items', {}))}"
    if schema.get("type") == "object":
        return "names and values"
    if "pattern" in schema and "type" not in schema:
        return "`module:attribute`"
    limits = [f"{LIMITS[key]} {schema[key]:,}" for key in LIMITS if key in schema and abs(schema[key]) < MOST]
    return " ".join([TYPES.get(schema.get("type", ""), "any values"), " and ".join(limits)]).strip()


def default_text(model: type[BaseModel], name: str) -> str:
    """Return the default of a field as YAML has it, or that the field is required."""
    field = model.model_fields[name]
    if field.is_required():
        return "required"
    default = "" if field.default_factory else field.default
    match default:
        case BaseModel():
            return ""
        case None | True | False:
            return code({None: "null", True: "true", False: "false"}[default])
        case tuple() | dict():
            return code(list(default)) if default else "none"
    return code(default)
