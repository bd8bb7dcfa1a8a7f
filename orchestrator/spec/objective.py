"""Objective of a sweep: one metric, or several, and their directions."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Literal

from pydantic import StrictStr, field_validator, model_validator

from orchestrator.errors import MAX_VALUE_LENGTH, cut, quoted
from orchestrator.spec.section import Section
from search_spaces import nearest
from trainables.config.own_metrics import is_own
from trainables.metrics import METRICS, lookup

ANY_METRIC: ContextVar[bool] = ContextVar("any metric", default=False)
"""True while the objective of a sweep is validated whose trials may report metrics of any name."""
LABELS: ContextVar[tuple[str, ...]] = ContextVar("labels", default=())
"""Labels of a user's own metrics, while the objective of a sweep is validated whose trials measure them."""


class Objective(Section):
    """Objective of a sweep: a metric of the validation split and its direction.

    Of a user's own training function it is any metric that the function reports, and of a user's own metric
    ``val/LABEL`` or ``val/LABEL/NAME``: the direction is then required.

    Several are a list of ``metric mode``: trials are then ranked by non-dominated sorting, the first is what a
    leaderboard sorts by, and ``others`` holds the rest.
    """

    metric: StrictStr = "val/accuracy"
    """Metric of the validation split."""
    mode: Literal["max", "min"] = "max"
    """Its direction."""
    others: tuple[Objective, ...] = ()
    """Further objectives, if the spec has a list: trials are ranked by non-dominated sorting."""

    @model_validator(mode="before")
    @classmethod
    def _from_text_or_list(cls, value: object) -> object:
        if isinstance(value, list | tuple) and value:
            return {**fields_of(value[0]), "others": tuple(value[1:])}
        return fields_of(value) if isinstance(value, str) else value

    @property
    def all(self) -> tuple[Objective, ...]:
        """This objective and the further ones."""
        return (self, *self.others)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Their names.

        >>> Objective.model_validate(["val/accuracy max", "val/nll min"]).metrics
        ('val/accuracy', 'val/nll')
        """
        return tuple(objective.metric for objective in self.all)

    @property
    def modes(self) -> tuple[str, ...]:
        """Their directions."""
        return tuple(objective.mode for objective in self.all)

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str) -> str:
        if _is_users(metric):
            return metric
        try:
            lookup(metric)
        except KeyError:
            own = (f"val/{label}" for label in LABELS.get())
            closest = nearest(metric, (*own, *(known.name for known in METRICS)))
            hint = (
                f"did you mean {closest!r}?" if closest else "take one of the validation split, such as 'val/accuracy'"
            )
            raise ValueError(f"unknown metric {quoted(metric)}; {hint}") from None
        if not metric.startswith(("val/", "entanglement/")):
            raise ValueError(f"must be measured on the validation split (val/...), got {quoted(metric)}")
        return metric

    @model_validator(mode="after")
    def _well_directed(self) -> Objective:
        if len(set(self.metrics)) < len(self.metrics) or any(objective.others for objective in self.others):
            raise ValueError(f"must be different metrics, got {cut(', '.join(self.metrics), MAX_VALUE_LENGTH)}")
        direction = _direction_of(self.metric)
        if direction is None and _is_users(self.metric) and "mode" not in self.model_fields_set:
            raise ValueError(f"mode must be 'max' or 'min' for {quoted(self.metric)}, a metric of your own; add it")
        if direction is not None and direction != self.mode:
            raise ValueError(f"mode must be {direction!r} for {self.metric!r}, got {self.mode!r}")
        return self

    def is_better(self, value: float, other: float) -> bool:
        """Return True if ``value`` beats ``other`` in this direction.

        >>> Objective(metric="val/nll", mode="min").is_better(0.1, 0.2)
        True
        """
        return value > other if self.mode == "max" else value < other


def fields_of(value: object) -> dict[str, Any]:
    """Return the fields of an objective in any of its forms; anything else is left to the check of the metric."""
    if isinstance(value, str):
        metric, _, mode = value.partition(" ")
        return {"metric": metric, **({"mode": mode.strip()} if mode else {})}
    if isinstance(value, Objective):
        return {"metric": value.metric, "mode": value.mode}
    return dict(value) if isinstance(value, dict) else {"metric": value}


def _is_users(metric: str) -> bool:
    return ANY_METRIC.get() or is_own(metric, LABELS.get())


def _direction_of(metric: str) -> str | None:
    try:
        return lookup(metric).direction
    except KeyError:
        return None
