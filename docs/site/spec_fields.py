"""Pages of the reference on the fields of a spec and the parameters of a trial, from their models."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from tables import code, prose, table

from orchestrator.spec.json_schema import sweep_schema
from orchestrator.spec.meanings import meanings
from orchestrator.spec.model import SweepSpec
from search_spaces import catalog
from trainables.config.own_metrics import MetricConfig
from trainables.config.regularizers import RegularizerConfig
from trainables.config.values import Arguments
from trainables.errors import ConfigError
from trainables.tasks.function.config import FunctionConfig
from trainables.tasks.gan.config import GanConfig
from trainables.tasks.lightning.config import LightningConfig
from trainables.tasks.registry import CLASSIFIER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainables.config.points import FlatConfig

SPEC_OPENING = """# Spec

A spec is a YAML file. Every field but `name` has a default, so a spec may be two lines long.
Names are dotted, as after `--set`: `--set search.num_trials=64` is the field `num_trials` of the section `search`.
`ravel check SPEC` lists every mistake, and `ravel space schema --sweep` prints this page for your editor, as JSON Schema.

```yaml
name: digits-regularizers
trial: {data.name: digits, epochs: 27}
space:
  use: [optimizer, snnl, mixup, adversarial]
search: {num_trials: 48}
```

`trial` takes the [parameters of a trial](trial-parameters.md). The parameters of `space` are explained in
[Search spaces](../search_spaces.md), metrics for `objective` are listed in [Metrics](metrics.md).
"""
TRIAL_OPENING = """# Parameters of a trial

Fix a parameter in `trial`, or search it in `space.parameters`, under the same dotted name.
A method is off if its strength is 0: `snnl.weight`, `mixup.alpha`, `adversarial.epsilon`, the `weight` of a regularizer.
The baseline has all methods off. `ravel trial SPEC` trains it. [What a trial can be](../training.md) explains the methods.
"""
TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
LIMITS = {
    **dict.fromkeys(("minimum", "ge"), ">="),
    **dict.fromkeys(("exclusiveMinimum", "gt"), ">"),
    **dict.fromkeys(("maximum", "le"), "<="),
    **dict.fromkeys(("exclusiveMaximum", "lt"), "<"),
}
WRONG = "?"
"""A text that no field with a requirement takes, so that its message gives the requirement."""
HEADER = ("field", "type and allowed values", "default", "meaning")


def spec_page() -> str:
    """Return the page on the fields of a spec."""
    schema = sweep_schema()
    fields = SweepSpec.model_fields
    sections = {name: field.annotation for name, field in fields.items() if _is_section(field.annotation)}
    top = [_row(name, schema["properties"][name], _default(SweepSpec, name), SweepSpec) for name in fields]
    parts = [SPEC_OPENING, "## Top level", table(HEADER, top)]
    for name, model in sections.items():
        properties = schema["$defs"][model.__name__]["properties"]
        rows = [
            (code(f"{name}.{key}"), *_row(key, item, _default(model, key), model)[1:])
            for key, item in properties.items()
        ]
        parts += [f"## {name}", prose(model.__doc__), table(HEADER, rows)]
    parts += ["## Fragments of a space", "Name them in `space.use`. A parameter of your own replaces one of a fragment."]
    rows = [(code(name), ", ".join(map(code, space().names))) for name, space in catalog.FRAGMENTS.items()]
    return "\n\n".join([*parts, table(("fragment", "parameters"), rows), ""])


def trial_page() -> str:
    """Return the page on the parameters of a trial, of each task."""
    parts = [TRIAL_OPENING, *_task("Classifier", CLASSIFIER.config, "`task: classifier`, the default.")]
    parts += ["### regularizers.LABEL", prose(RegularizerConfig.__doc__), _rows_of(RegularizerConfig, "regularizers.LABEL.")]
    parts += ["### metrics.LABEL", prose(MetricConfig.__doc__), _rows_of(MetricConfig, "metrics.LABEL.")]
    parts += _task("Generative adversarial network", GanConfig, "`task: gan`.")
    parts += _task("Training function", FunctionConfig, "`task: module:function`. All other names are its arguments.")
    parts += _task("Lightning module", LightningConfig, "`task: lightning:module:Class`.")
    return "\n\n".join([*parts, ""])


def _task(title: str, config: type[FlatConfig], opening: str) -> Iterator[str]:
    yield f"## {title}"
    yield opening
    yield _rows_of(config, "", only_plain=True)
    for name, field in config.model_fields.items():
        group = field.annotation
        if _is_section(group) and not issubclass(group, Arguments):
            yield f"### {name}" if config is CLASSIFIER.config else f"### {name} of this task"
            yield prose(group.__doc__)
            yield _rows_of(group, f"{name}.", config)


def _rows_of(model: type[BaseModel], prefix: str, of: type[FlatConfig] | None = None, *, only_plain: bool = False) -> str:
    of = of or (model if only_plain else None)
    schema = model.model_json_schema()["properties"]
    rows = []
    for name, field in model.model_fields.items():
        is_arguments = _is_section(field.annotation) and issubclass(field.annotation, Arguments)
        if only_plain and _is_section(field.annotation):
            continue
        meaning = meanings(model)[name]
        if is_arguments:
            rows.append((code(f"{prefix}{name}.NAME"), "plain values and lists of them", "", meaning))
            continue
        stated = _requirement(of, prefix + name) if of and _is_plain_text(schema[name]) else ""
        allowed = stated or _type(schema[name])
        rows.append((code(prefix + name), allowed, _default(model, name), meaning))
    return table(HEADER, rows)


def _row(name: str, schema: dict[str, Any], default: str, model: type[BaseModel]) -> tuple[str, str, str, str]:
    kind = f"[section](#{name})" if name != "space" and "$ref" in schema else _type(schema)
    kind = {"space": "[search space](../search_spaces.md)", "trial": "parameters by name", "objective": "`METRIC MODE`, [section](#objective), or a list of these"}.get(name, kind)
    return code(name), kind, default, meanings(model)[name]


def _is_section(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, BaseModel)


def _is_plain_text(schema: dict[str, Any]) -> bool:
    kinds = [option.get("type") for option in schema.get("anyOf", [schema])]
    return "string" in kinds and "enum" not in schema


def _requirement(config: type[FlatConfig], name: str) -> str:
    """Return the requirement of a text, as the message on a wrong one states it; nothing if it takes any text."""
    try:
        config.from_point({name: WRONG})
    except ConfigError as error:
        (problem,) = (problem for problem in error.problems if problem.path == name)
        return problem.message.partition(", got ")[0].removeprefix("must be ").removeprefix("one of ")
    return ""


def _default(model: type[BaseModel], name: str) -> str:
    field = model.model_fields[name]
    if field.is_required():
        return "required"
    default = field.get_default()
    if isinstance(default, BaseModel) or default is None and field.default_factory:
        return ""
    return code({None: "null", True: "true", False: "false"}.get(default, default) if not isinstance(default, (dict, tuple)) else list(default) or "none")


def _type(schema: dict[str, Any]) -> str:
    """Return the type of a field, and the values that it allows.

    >>> _type({"type": "integer", "minimum": 1}), _type({"enum": ["a", "b"]})
    ('whole number >= 1', '`a`, `b`')
    """
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(option) for option in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(map(code, schema["enum"]))
    if "const" in schema:
        return code(schema["const"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("type") == "object":
        return "names and values"
    if "pattern" in schema and schema.get("type") != "string":
        return "`module:attribute`"
    limits = [f"{LIMITS[key]} {value:,}" for key, value in schema.items() if key in LIMITS and value < 2**62]
    return " ".join([TYPES.get(schema.get("type", ""), "values"), " and ".join(limits)]).strip()
