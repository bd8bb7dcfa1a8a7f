"""Pages of the reference on metrics and on the events of the log, from their definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from field_types import default_text, type_text
from tables import code, prose, table

from orchestrator.state.events import lines
from orchestrator.state.events.kinds import Descent, Event
from trainables import metrics

if TYPE_CHECKING:
    from pydantic import BaseModel

METRICS_OPENING = """# Metrics

A metric has the same name in a spec, in the event log, in MLflow and in every table. Use those of the validation
split, `val/...` and `entanglement/TAP`, as `objective`. Each is measured after each epoch, unless the page says more.
`<tap>` stands for a layer of the network, `<label>` for your own label of a regularizer. Your own metrics are
`val/LABEL` ([how](../training.md#your-own-metric)).
"""
EVENTS_OPENING = """# Events of the log

`events.jsonl` in the folder of a sweep is all that Ravel knows of it. Each line is one event, a JSON object.
`ravel logs SWEEP` prints the log for people, and `ravel replay SWEEP` decides everything once more from it.
"""
EACH = """## Every line

Every event has `v`, the number of its format, `kind`, and `time`: seconds since the Unix epoch, UTC.
"""
DIRECTIONS = {"max": "higher", "min": "lower", None: ""}


def metrics_page() -> str:
    """Return the page on metrics."""
    parts = [METRICS_OPENING]
    for title, listed in (("Classifiers", metrics.CLASSIFIER_METRICS), ("GANs", metrics.GAN_METRICS)):
        rows = [(code(item.name), item.unit, DIRECTIONS[item.direction], item.description) for item in listed]
        parts += [f"## {title}", table(["metric", "unit", "better", "meaning"], rows)]
    parts += ["## The machine", "With `tracking.system_metrics: true`. They are no objectives."]
    return "\n\n".join([*parts, "\n".join(f"- {code(name)}" for name in metrics.SYSTEM_METRICS), ""])


def events_page() -> str:
    """Return the page on events."""
    kinds = get_args(Event)
    summary = [
        (
            f"[`{_kind(kind)}`](#{_kind(kind)})",
            code(kind.model_fields["v"].default),
            prose(kind.__doc__).partition("\n")[0],
        )
        for kind in kinds
    ]
    parts = [EVENTS_OPENING, table(["kind", "format", ""], summary), EACH, prose(lines.__doc__).partition("\n\n")[2]]
    for kind in kinds:
        parts += [f"## {_kind(kind)}", prose(kind.__doc__), _fields(kind)]
    return "\n\n".join([*parts, "## descent", prose(Descent.__doc__), _fields(Descent), ""])


def _kind(event: type[BaseModel]) -> str:
    return str(event.model_fields["kind"].default)


def _fields(model: type[BaseModel]) -> str:
    rows, schema = [], model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        if name in {"v", "kind", "time"}:
            continue
        default = "" if field.is_required() else default_text(model, name)
        rows.append((code(name), type_text(schema[name]), default))
    return table(["field", "type", "default"], rows)
