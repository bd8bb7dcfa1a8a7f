"""Section ``scheduler`` of a spec: early stopping."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from orchestrator.errors import quoted
from orchestrator.spec.own_code import SCHEDULER_GROUP, SCHEDULERS, Arguments, OwnCode, SchedulerName
from orchestrator.spec.section import PositiveInt, WithArguments

MAX_GRACE_PERIOD = 10**12
MAX_FACTOR = 10**6


class SchedulerSpec(WithArguments):
    """Early stopping.

    With ``grace_period: auto`` the rungs follow from ``budget_fraction``, the share of training every trial to its end
    that the sweep may cost, and ``resource`` is what that share is counted in; rungs are epochs. With a number,
    ``resource`` is the unit of the rungs. ``interval``, ``quantile``, ``resample`` and ``perturb`` are of population
    based training (``pbt``) alone.
    """

    name: SchedulerName = "auto"
    """Scheduler: one of the project's, or a user's own by import path."""
    args: Arguments = Field(default={})
    """Arguments of a user's own scheduler, by name."""
    kind: Literal["auto", "stopping", "promotion"] = "auto"
    """Fate of a rejected trial: it is over, or paused and may be promoted later; ``auto`` chooses."""
    grace_period: Literal["auto"] | PositiveInt = "auto"
    """First rung, in the unit of ``resource``; ``auto``: for ASHA, all rungs follow from ``budget_fraction``."""
    reduction_factor: Literal["auto"] | Annotated[StrictInt, Field(ge=2)] = "auto"
    """Factor from one rung to the next; one in so many trials is kept at each; ``auto`` chooses."""
    budget_fraction: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.3
    """Share of training every trial to its end that the sweep may cost, with ``grace_period: auto``."""
    brackets: PositiveInt = 1
    """Number of rung schedules of ASHA with a given ``grace_period``; each leaves out one more of the first rungs."""
    resource: Literal["auto", "epochs", "gradient_evaluations", "gpu_seconds"] = "auto"
    """What ``budget_fraction`` is counted in; with a given ``grace_period``, the unit of the rungs."""
    strata: tuple[StrictStr, ...] = ()
    """Parameters; a trial is compared only with those that share their value, or a half of their range."""
    audit: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    """Share of the rejected trials that run to their end, to measure if their rejections were right."""
    interval: Literal["auto"] | PositiveInt = "auto"
    """Epochs between two rungs of population based training."""
    quantile: Annotated[float, Field(gt=0, lt=0.5, allow_inf_nan=False)] = 0.25
    """Share of the population that is over at each rung."""
    resample: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.25
    """Probability that a value of a descendant is sampled, rather than moved."""
    perturb: tuple[StrictStr, ...] = ()
    """Parameters that change in a descendant; none: all that are searched."""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not set of population based training, so that plans are what they were before it."""
        usual = {"args": {}, "interval": "auto", "quantile": 0.25, "resample": 0.25}
        plain: dict[str, Any] = handler(self)
        set_ = {name: value for name, value in plain.items() if name not in usual or value != usual[name]}
        return set_ if self.perturb else {name: value for name, value in set_.items() if name != "perturb"}

    @field_validator("grace_period", "reduction_factor", "interval", mode="before")
    @classmethod
    def _auto_or_a_whole_number(cls, value: object, info: ValidationInfo) -> object:
        least, most = (2, MAX_FACTOR) if info.field_name == "reduction_factor" else (1, MAX_GRACE_PERIOD)
        if value == "auto":
            return value
        if type(value) is not int:
            raise ValueError(f"must be 'auto' or a whole number >= {least}, got {quoted(value)}")
        if value < least:
            raise ValueError(f"must be >= {least}, got {quoted(value)}")
        if value > most:
            raise ValueError(f"must be <= {most:,}, as no trial has more to compare; got {quoted(value)}")
        return value

    @property
    def own(self) -> OwnCode | None:
        """The user's own scheduler, or None if it is one of the project's."""
        if self.name in SCHEDULERS:
            return None
        return OwnCode(self.name, self.args, SCHEDULER_GROUP, place="scheduler.name")

    @property
    def is_budgeted(self) -> bool:
        """Return True if the rungs follow from the budget."""
        return self.chosen == "asha" and self.grace_period == "auto"

    @property
    def chosen(self) -> str:
        """Name of the scheduler, which for ``auto`` is ``asha``."""
        return "asha" if self.name == "auto" else self.name

    @property
    def rung_unit(self) -> str:
        """Unit of the rungs: epochs, unless ``resource`` asks for another with rungs that the spec gives."""
        return "epochs" if self.is_budgeted or self.resource == "auto" else self.resource
