"""Pages of the reference on the fields of a spec and the parameters of a trial, from their models."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from field_types import default_text, type_text
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
`ravel check SPEC` lists every mistake. `ravel space schema --sweep` prints this page as JSON Schema, for your editor.

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
A method is off if its strength is 0: `snnl.weight`, `mixup.alpha`, `adversarial.epsilon`, and the `weight` of a
regularizer. The baseline has all methods off; `ravel trial SPEC` trains it. [What a trial can be](../training.md)
explains the methods.
"""
WRONG = "?"
"""A text that no field with a requirement takes, so that its message gives the requirement."""
KINDS = {
    "trial": "[parameters](trial-parameters.md) by name",
    "space": "[search space](../search_spaces.md)",
    "objective": "`METRIC MODE`, the [section](#objective), or a list of these",
}
"""Types of fields of a spec that have several forms."""
HEADER = ("field", "type and allowed values", "default", "meaning")


def spec_page() -> str:
    """Return the page on the fields of a spec."""
    schema = sweep_schema()
    fields = SweepSpec.model_fields
    sections = {name: field.annotation for name, field in fields.items() if _is_section(field.annotation)}
    top = [_row(name, schema["properties"][name], default_text(SweepSpec, name), SweepSpec) for name in fields]
    parts = [SPEC_OPENING, "## Top level", table(HEADER, top)]
    for name, model in sections.items():
        properties = schema["$defs"][model.__name__]["properties"]
        rows = [
            (code(f"{name}.{key}"), *_row(key, item, default_text(model, key), model)[1:])
            for key, item in properties.items()
        ]
        parts += [f"## {name}", prose(model.__doc__), table(HEADER, rows)]
    parts += [
        "## Fragments of a space",
        "Name them in `space.use`. A parameter of your own replaces one of a fragment.",
    ]
    rows = [(code(name), ", ".join(map(code, space().names))) for name, space in catalog.FRAGMENTS.items()]
    return "\n\n".join([*parts, table(("fragment", "parameters"), rows), ""])


def trial_page() -> str:
    """Return the page on the parameters of a trial, of each task."""
    parts = [TRIAL_OPENING, *_task("Classifier", CLASSIFIER.config, "`task: classifier`, the default.")]
    for name, model in (("regularizers", RegularizerConfig), ("metrics", MetricConfig)):
        parts += [f"### {name}.LABEL", _in_yaml(prose(model.__doc__)), _rows_of(model, f"{name}.LABEL.")]
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
            yield _in_yaml(prose(group.__doc__))
            yield _rows_of(group, f"{name}.", config)


def _rows_of(
    model: type[BaseModel], prefix: str, of: type[FlatConfig] | None = None, *, only_plain: bool = False
) -> str:
    of = of or (model if only_plain else None)
    schema = model.model_json_schema()["properties"]
    rows = []
    for name, field in model.model_fields.items():
        is_arguments = _is_section(field.annotation) and issubclass(field.annotation, Arguments)
        if only_plain and _is_section(field.annotation):
            continue
        meaning = _in_yaml(meanings(model)[name])
        if is_arguments:
            rows.append((code(f"{prefix}{name}.NAME"), "plain values and lists of them", "", meaning))
            continue
        stated = _requirement(of, prefix + name) if of and _is_plain_text(schema[name]) else ""
        allowed = stated or type_text(schema[name])
        rows.append((code(prefix + name), allowed, default_text(model, name), meaning))
    return table(HEADER, rows)


def _row(name: str, schema: dict[str, Any], default: str, model: type[BaseModel]) -> tuple[str, str, str, str]:
    kind = KINDS.get(name) if model is SweepSpec else None
    if kind is None:
        kind = f"[section](#{name})" if "$ref" in schema else type_text(schema)
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
        stated = problem.message.partition(", got ")[0].removeprefix("must be ").removeprefix("one of ")
        return re.sub(r"^must match (.+)$", r"must match `\1`", _in_yaml(stated))
    return ""


def _in_yaml(text: str) -> str:
    """Return a text on a configuration of Python with its values as YAML has them.

    >>> _in_yaml("'sgd' or None")
    '`sgd` or `null`'
    """
    return re.sub(r"'([\w.:/-]+)'", r"`\1`", re.sub(r"\bNone\b", "`null`", text))
