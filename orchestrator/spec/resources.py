"""Section ``resources`` of a spec: what a trial reserves in Ray."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, StrictStr, field_validator, model_serializer

from orchestrator.errors import quoted
from orchestrator.spec.section import Positive, PositiveInt, Section

RESOURCE_PATTERN = r"[A-Za-z0-9:._/-]{1,100}"
MAX_CUSTOM = 20
"""Custom resources of one trial."""
MAX_BATCH = 256
"""Trials of one worker: each has a model, an optimizer and a copy of the batch in its memory."""


class Resources(Section):
    """Resources of one worker, and the number of trials that run at once (null: as many as fit).

    A trial has one worker, or several ``workers`` that each train an equal share of every batch. By the ``strategy``
    they are packed on as few nodes as have room for them, or spread over as many as there are.
    """

    cpus: Positive = 1
    """Cores of one worker."""
    gpus: Literal["auto"] | float = "auto"
    """GPUs of one worker, also a fraction of one; ``auto``: one where the cluster has GPUs, else none."""
    workers: PositiveInt = 1
    """Processes that train one trial, each an equal share of every batch."""
    strategy: Literal["pack", "spread"] = "pack"
    """Pack the workers of a trial on few nodes, or spread them over many."""
    custom: Annotated[dict[StrictStr, Positive], Field(max_length=MAX_CUSTOM)] = Field(default={})
    """Resources that nodes declare to Ray, such as ``accelerator_type:A100``, and how much a worker needs."""
    batch: Literal["auto"] | Annotated[int, Field(ge=1, le=MAX_BATCH)] = 1
    """Trials that a worker process trains as one program, with ``--address processes``; ``auto``: as many as are
    measured to be faster than trials by themselves, on Ray one."""
    max_concurrent: PositiveInt | None = None
    """Trials at a time; null: as many as fit."""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out fields at their usual values, so that plans are what they were before these fields."""
        plain: dict[str, Any] = handler(self)
        usual = {"workers": 1, "strategy": "pack", "custom": {}, "batch": 1}
        return {name: value for name, value in plain.items() if name not in usual or value != usual[name]}

    @field_validator("custom")
    @classmethod
    def _names_of_resources(cls, custom: dict[str, float]) -> dict[str, float]:
        for name in custom:
            if not re.fullmatch(RESOURCE_PATTERN, name):
                requirement = "names must be 1 to 100 letters, digits and any of ':._-/'"
                raise ValueError(f"{requirement}, got {quoted(name)}")
        return custom

    @field_validator("batch", mode="before")
    @classmethod
    def _auto_or_a_count(cls, batch: object) -> object:
        number = isinstance(batch, int) and not isinstance(batch, bool)
        if batch != "auto" and not (number and 1 <= batch <= MAX_BATCH):  # type: ignore[operator]
            raise ValueError(f"must be 'auto' or a whole number from 1 to {MAX_BATCH}, got {quoted(batch)}")
        return batch

    @field_validator("gpus", mode="before")
    @classmethod
    def _auto_or_a_number(cls, gpus: object) -> object:
        number = isinstance(gpus, int | float) and not isinstance(gpus, bool)
        if gpus != "auto" and not (number and 0 <= gpus < math.inf and (gpus <= 1 or gpus == int(gpus))):  # type: ignore[operator, call-overload]
            raise ValueError(f"must be 'auto', a fraction of one GPU or a whole number >= 0, got {quoted(gpus)}")
        return gpus
