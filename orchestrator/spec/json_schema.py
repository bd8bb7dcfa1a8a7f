"""JSON Schema of a sweep file, with which an editor completes and explains names and marks mistakes.

`ravel check` finds what an editor cannot: bounds in the wrong order, requirements between parameters.
"""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema

from orchestrator.spec.meanings import meanings
from orchestrator.spec.model import NAME_PATTERN, SweepSpec
from orchestrator.spec.own_code import SAMPLER_GROUP, SAMPLERS, SCHEDULER_GROUP, SCHEDULERS
from orchestrator.spec.section import Section
from search_spaces.documents.json_schema import document_schema
from trainables.import_paths import PATH_PATTERN, registered
from trainables.tasks.lightning.config import PREFIX
from trainables.tasks.registry import GROUP as TASK_GROUP
from trainables.tasks.registry import TASK, TASKS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import core_schema

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, which does not know `SearchSpace`."""

    def is_instance_schema(self, schema: core_schema.IsInstanceSchema) -> JsonSchemaValue:  # noqa: ARG002  one such class
        return {}


def sweep_schema() -> dict[str, Any]:
    """Return the schema of a whole sweep file (2020-12).

    Example:
        >>> sorted(sweep_schema()["properties"])[:4]
        ['budget', 'evaluation', 'failures', 'name']
    """
    schema = SweepSpec.model_json_schema(schema_generator=_Generator)
    space = json.loads(json.dumps(document_schema()).replace("#/$defs/", "#/$defs/space."))
    parts = {f"space.{name}": part for name, part in space.pop("$defs").items()}
    del space["$schema"]
    schema["$schema"] = _DIALECT
    schema["$defs"] |= {"space": space, **parts}
    schema["properties"]["space"] = {"$ref": "#/$defs/space"}
    objective = {"anyOf": [{"$ref": "#/$defs/Objective"}, {"type": "string", "pattern": r"^\S+( +(max|min))?$"}]}
    several = {"type": "array", "items": objective, "minItems": 1}
    schema["properties"]["objective"] = {"anyOf": [*objective["anyOf"], several]}
    schema["$defs"]["Objective"]["properties"].pop("others")
    schema["properties"]["name"] |= {"pattern": NAME_PATTERN}
    schema["$defs"]["Search"]["properties"]["sampler"] |= _names(SAMPLERS, SAMPLER_GROUP)
    schema["$defs"]["SchedulerSpec"]["properties"]["name"] |= _names(SCHEDULERS, SCHEDULER_GROUP)
    names = dict.fromkeys(name for task in TASKS.values() for name in task.parameter_names)
    schema["properties"]["trial"] |= {
        "properties": {TASK: {**_names(list(TASKS), TASK_GROUP), "default": next(iter(TASKS))}},
        "propertyNames": {"anyOf": [{"enum": [TASK, *names]}, *({"pattern": form} for form in _open_names())]},
    }
    _explain(schema, SweepSpec, schema["$defs"])
    return schema


def _explain(schema: dict[str, Any], model: type[BaseModel], definitions: Mapping[str, Any]) -> None:
    """Add the meaning of each field of a model, and of its sections, to their schemas."""
    texts = meanings(model)
    for name, field in schema["properties"].items():
        if name in texts:
            field["description"] = texts[name]
        section = model.model_fields[name].annotation
        if inspect.isclass(section) and issubclass(section, Section):
            _explain(definitions[section.__name__], section, definitions)


def _names(known: Sequence[str], group: str) -> dict[str, Any]:
    """Return the schema of a known name, a registered one, or an import path."""
    path = f"^({PREFIX})?{PATH_PATTERN}$" if group == TASK_GROUP else f"^{PATH_PATTERN}$"
    return {"anyOf": [{"enum": [*known, *registered(group)]}, {"pattern": path}]}


def _open_names() -> list[str]:
    """Return the patterns of parameters whose names a user's own code has."""
    groups = {path: group for task in TASKS.values() for path, group in task.config.open_groups().items()}
    return [rf"^{path.replace('.', '[.]')}[.]{group.names.pattern}$" for path, group in groups.items()]
