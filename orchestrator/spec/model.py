"""Sweep spec: frozen, strict, every field except ``name`` with a default.

A spec made in Python is the same as one from a YAML file. Paths in error messages are dotted, as after ``--set``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import (
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    StrictInt,
    StrictStr,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from orchestrator.errors import WrongLocation, quoted
from orchestrator.redaction import secret_problem, without_password
from orchestrator.spec.objective import ANY_METRIC, LABELS, Objective
from orchestrator.spec.own_code import SAMPLER_GROUP, SAMPLERS, Arguments, OwnCode, SamplerName
from orchestrator.spec.resources import Resources
from orchestrator.spec.scheduler import SchedulerSpec
from orchestrator.spec.section import Count, Positive, PositiveInt, Section, WithArguments, at_most
from orchestrator.storage.locations import Location, is_remote
from search_spaces import SearchSpace, catalog
from trainables.config.own_metrics import labels_among
from trainables.errors import ConfigError
from trainables.regularizers.fragments import with_fragments
from trainables.tasks.registry import CLASSIFIER, task_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "MAX_NAMES",
    "NAME_PATTERN",
    "Budget",
    "Checked",
    "Evaluation",
    "Failures",
    "Objective",
    "Point",
    "Resources",
    "Scalar",
    "SchedulerSpec",
    "Search",
    "Storage",
    "SweepSpec",
    "Tracking",
    "default_space",
]

Scalar: TypeAlias = bool | int | float | str | None
Point: TypeAlias = dict[str, Any]
"""One assignment: flat dotted names to plain values."""

# A sweep's name is the name of its folder.
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"

MAX_TRIALS = 100_000
MAX_POINTS = 1_000
MAX_RESOLUTION = 1_000
MAX_SEEDS = 100
MAX_NAMES = 200
"""Parameters in ``trial``, in a space or in a point: several times as many as a trial has."""


class Search(WithArguments):
    """Search: the sampler that proposes points; ``num_trials`` counts the baseline and the given ``points`` too.

    With ``seeds`` above 1 a point is a configuration of up to so many trials, one for each seed. It is compared by the
    mean over its seeds, and ``num_trials`` counts configurations.
    """

    sampler: SamplerName = "auto"
    """Sampler that proposes points: one of the project's, or a user's own by import path."""
    args: Arguments = Field(default={})
    """Arguments of a user's own sampler, by name."""
    num_trials: Annotated[StrictInt, Field(ge=1), *at_most(MAX_TRIALS, "the driver holds each trial in memory")] = 32
    """Number of trials, with the baseline and ``points``; with ``seeds`` above 1, of configurations."""
    seed: Count = 0
    """Seed from which every random choice of the sweep follows."""
    seeds: Annotated[StrictInt, Field(ge=1), *at_most(MAX_SEEDS, "the trials of one configuration")] = 1
    """Trials of one configuration, each with a seed of its own; it is compared by their mean."""
    points: Annotated[tuple[Point, ...], Field(max_length=MAX_POINTS)] = ()
    """Points that run after the baseline, before any that the sampler proposes."""
    baseline: Annotated[Point, Field(max_length=MAX_NAMES)] = Field(default={})
    """Values that the baseline has instead of the defaults, such as a learning rate; its methods stay off."""
    resolution: Annotated[StrictInt, Field(ge=1), *at_most(MAX_RESOLUTION, "the values of one range")] = 3
    """Number of values that ``sampler: grid`` tries of every range."""

    @property
    def own(self) -> OwnCode | None:
        """The user's own sampler, or None if it is one of the project's."""
        if self.sampler in SAMPLERS:
            return None
        return OwnCode(self.sampler, self.args, SAMPLER_GROUP, place="search.sampler")


class Evaluation(Section):
    """One attack strength for every trial of a sweep, in pixel units; 0 measures no robustness."""

    robust_epsilon: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.1
    """Radius of the attack behind ``val/robust_accuracy``, in pixels of [0, 1]; 0 measures none."""


class Failures(Section):
    """Retries of lost workers and of errors in a trial, and failed trials a sweep may have."""

    infrastructure: Count = 3
    """Retries of a trial whose worker was lost."""
    user: Count = 0
    """Retries of a trial in which an error was raised."""
    allowed: Count = 0
    """Failed trials with which a sweep still ends well: with more, the exit code is 1."""


class Budget(Section):
    """Limits after which no further trial is started: seconds since the launch, GPU seconds, a reached objective.

    The seconds pass while no driver runs, too; a clock that is set back subtracts none.

    Running trials continue to their end or their next rung.
    """

    wall_clock_s: Positive | None = None
    """Seconds since the launch after which no trial is started; they pass while no driver runs, too."""
    gpu_s: Positive | None = None
    """GPU seconds of all trials after which no trial is started."""
    target: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Value of the objective after which no trial is started."""


class Tracking(Section):
    """MLflow: where a sweep is tracked, and what of it."""

    uri: StrictStr | None = None
    """Address of MLflow; null: ``MLFLOW_TRACKING_URI``, else ``sqlite:///mlflow.db`` in the working directory."""
    experiment: StrictStr | None = None
    """Experiment of MLflow; null: the name of the sweep."""
    taps: Annotated[tuple[StrictStr, ...], Field(max_length=6)] | None = None
    """Taps whose entanglement MLflow shows, six at most; null: six spread over the network. The log has all."""
    system_metrics: bool = False
    """Measure processor, memory and GPU on the workers too, once an epoch."""

    @field_validator("uri")
    @classmethod
    def _no_secret(cls, uri: str | None) -> str | None:
        problem = secret_problem(uri or "")
        if problem is not None:
            raise ValueError(problem)
        return uri


class Storage(Section):
    """Storage of sweeps, local or in S3.

    Trials that run, wait or are paused always keep their checkpoints, and all trials keep what they measured.
    """

    uri: StrictStr = "results"
    """Folder with one folder for each sweep, or ``s3://BUCKET/PREFIX``."""
    keep_best: PositiveInt | None = None
    """Number of trials that are over and keep their checkpoints, the best ones; null: all keep theirs."""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out ``keep_best: null``, so that plans are what they were before the field."""
        plain: dict[str, Any] = handler(self)
        return {name: value for name, value in plain.items() if name != "keep_best" or value is not None}

    @field_validator("uri")
    @classmethod
    def _known(cls, uri: str) -> str:
        if is_remote(uri):
            try:
                Location.parse(uri)
            except WrongLocation as error:
                raise ValueError(str(error)) from None
        elif "://" in uri:
            raise ValueError(f"must be a folder or s3://BUCKET/PREFIX, got {quoted(without_password(uri))}")
        return uri


def default_space(trial: Mapping[str, Any]) -> SearchSpace:
    """Return the space of a spec without one: every fragment of the catalog for the task of its trials.

    >>> sorted(default_space({"task": "gan"}).names)[:2]
    ['gan.beta_1', 'gan.discriminator_lr']
    """
    try:
        task = task_of(trial)
    except ConfigError:  # reported when the spec is validated
        task = CLASSIFIER
    return reduce(or_, (catalog.FRAGMENTS[name]() for name in task.fragments), SearchSpace({}))


def _reports_any_metric(trial: Mapping[str, Any]) -> bool:
    try:
        return task_of(trial).any_metric
    except ConfigError:  # reported when the spec is validated
        return False


@dataclass(frozen=True, slots=True)
class Checked:
    """Result of a spec's validation. All are equal, so that specs compare by their fields; pickling drops it."""

    canonical: str = field(default="", compare=False)
    """The spec that was validated, as `SweepSpec.canonical`."""
    trials: tuple[tuple[Point, Any], ...] = field(default=(), compare=False)
    """Points of the space (the first ones, corners, samples), and the trial configuration that each of them makes."""

    def __reduce__(self) -> tuple[type[Checked], tuple[()]]:
        return Checked, ()


class SweepSpec(Section):
    """One validated sweep.

    Args of note: ``trial`` holds the dotted parameters that every trial has, and the ``task`` that trials train, by
    default a classifier; ``space`` holds the searched parameters.

    Example:
        >>> spec = SweepSpec(name="digits", trial={"epochs": 9}, search=Search(num_trials=4))
        >>> spec.objective.metric, spec.trial["epochs"]
        ('val/accuracy', 9)
    """

    version: Literal[1] = 1
    """Version of the format."""
    name: StrictStr
    """Name of the sweep, and of its folder: at most 63 of a-z, 0-9, '.', '_' and '-'."""
    trial: Annotated[Point, Field(max_length=MAX_NAMES)] = Field(default={})
    """Parameters that every trial has, by dotted name, and the ``task`` that trials train."""
    space: SearchSpace = Field(default_factory=lambda fields: default_space(fields.get("trial", {})))
    """Searched parameters: fragments to ``use``, ``parameters`` and ``constraints``; default: all of the task's."""
    objective: Objective = Objective()
    """Metric to search by, and its direction; a list searches for several."""
    search: Search = Search()
    """Sampler, number of trials, seeds."""
    scheduler: SchedulerSpec = SchedulerSpec()
    """Early stopping."""
    evaluation: Evaluation = Evaluation()
    """What is measured of each trial."""
    resources: Resources = Resources()
    """What a trial reserves in Ray."""
    failures: Failures = Failures()
    """Retries, and failed trials that are allowed."""
    budget: Budget = Budget()
    """Limits after which no trial is started."""
    tracking: Tracking = Tracking()
    """MLflow."""
    storage: Storage = Storage()
    """Where the sweep is kept."""

    _checked: Checked = PrivateAttr(default=Checked())

    @field_validator("name")
    @classmethod
    def _fit_for_a_folder(cls, name: str) -> str:
        if not re.fullmatch(NAME_PATTERN, name):
            requirement = "at most 63 of a-z, 0-9, '.', '_' and '-', the first a letter or a digit"
            raise ValueError(f"must be {requirement}, got {quoted(name)}")
        return name

    @field_validator("objective", mode="wrap")
    @classmethod
    def _of_its_task(cls, value: object, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Objective:
        trial = info.data.get("trial", {})
        token, labels = ANY_METRIC.set(_reports_any_metric(trial)), LABELS.set(labels_among(trial))
        try:
            objective: Objective = handler(value)
        finally:
            ANY_METRIC.reset(token)
            LABELS.reset(labels)
        return objective

    @field_validator("space", mode="before")
    @classmethod
    def _space_from_document(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return SearchSpace.from_dict(with_fragments(value, catalog=catalog.FRAGMENTS))

    def document(self) -> dict[str, Any]:
        """Return the spec as plain data for JSON and YAML, its space written out; ``SweepSpec(**...)`` reads it."""
        plain: dict[str, Any] = self.model_dump(mode="json", exclude={"space", "objective"})
        objectives = [{"metric": item.metric, "mode": item.mode} for item in self.objective.all]
        objective = objectives if self.objective.others else objectives[0]
        return {**plain, "objective": objective, "space": self.space.to_dict()}

    def canonical(self) -> str:
        """Return the spec as JSON text that is the same for equal specs."""
        return json.dumps(self.document(), sort_keys=True, separators=(",", ":"))

    def as_checked(self, trials: Iterable[tuple[Point, Any]]) -> SweepSpec:
        """Return the spec with the trials that its validation made of its points."""
        spec = self.model_copy()
        spec._checked = Checked(self.canonical(), tuple(trials))  # noqa: SLF001  of this class
        return spec

    @property
    def checked(self) -> Checked | None:
        """Result of the spec's validation, or None if it was not validated or was changed since."""
        return self._checked if self._checked.canonical == self.canonical() else None
