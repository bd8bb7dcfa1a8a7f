"""Section ``scheduler`` of a spec: early stopping."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt, StrictStr, ValidationInfo, field_validator

from orchestrator.errors import quoted
from orchestrator.spec.own_code import SCHEDULER_GROUP, SCHEDULERS, Arguments, OwnCode, SchedulerName
from orchestrator.spec.section import PositiveInt, WithArguments

MAX_GRACE_PERIOD = 10**12
MAX_FACTOR = 10**6


class SchedulerSpec(WithArguments):
    """Early stopping.

    With ``grace_period: auto`` the rungs follow from ``budget_fraction``, the share of training every trial to its end
    that the sweep may cost, and ``resource`` is what that share is counted in; rungs are epochs. With a number,
    ``resource`` is the unit of the rungs. ``args`` are the arguments of a user's own scheduler.
    """

    name: SchedulerName = "auto"
    args: Arguments = Field(default={})
    kind: Literal["auto", "stopping", "promotion"] = "auto"
    grace_period: Literal["auto"] | PositiveInt = "auto"
    reduction_factor: Literal["auto"] | Annotated[StrictInt, Field(ge=2)] = "auto"
    budget_fraction: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.3
    brackets: PositiveInt = 1
    resource: Literal["auto", "epochs", "gradient_evaluations", "gpu_seconds"] = "auto"
    strata: tuple[StrictStr, ...] = ()
    audit: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0

    @field_validator("grace_period", "reduction_factor", mode="before")
    @classmethod
    def _auto_or_a_whole_number(cls, value: object, info: ValidationInfo) -> object:
        least, most = (1, MAX_GRACE_PERIOD) if info.field_name == "grace_period" else (2, MAX_FACTOR)
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
