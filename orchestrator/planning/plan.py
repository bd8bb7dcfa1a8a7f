"""Plan of a sweep, fixed before anything runs: ids, seeds, paths, code version, fingerprints.

``resume`` reads the plan and the event log, not the YAML. On disk a plan ends in the checksum of its content
(format 3), since an edited plan would continue another sweep than the one that was launched.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import MISSING, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from orchestrator.errors import PlanDamaged, SweepNotFound
from orchestrator.planning.batch_choice import BatchChoice, batch_of
from orchestrator.planning.choices import sampler_choice, scheduler_choice
from orchestrator.planning.declared_metrics import DeclaredMetric, declaration_of
from orchestrator.planning.folders import at_home
from orchestrator.planning.points import max_epochs_of
from orchestrator.planning.provenance import Provenance, collect, installed
from orchestrator.redaction import one_line
from orchestrator.scheduling.budgeted.rung_schedule import RungSchedule, unusual
from orchestrator.scheduling.protocol import Scheduler
from orchestrator.scheduling.registry import pauses as promotes
from orchestrator.scheduling.registry import rung_schedule_of, scheduler_of
from orchestrator.spec.model import SweepSpec
from orchestrator.state.folder_identity import record
from orchestrator.state.migrations import plan_of_format_1, with_older_defaults
from orchestrator.state.s3_mirror import publish
from orchestrator.storage.atomic_files import write_atomically
from orchestrator.storage.locations import expanded
from trainables.import_paths import find_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.state.sweep_folder import SweepFolder


OLD_FORMATS = (1, 2)
CHECKSUM = "checksum"
WRITTEN_IF_PRESENT = ("metrics", "parent", "sampler_choice", "scheduler_choice", "batch_choice")


class Configuration(BaseModel):
    """Configuration that is confirmed: the control, or a trial of the search, with its point but no seed.

    ``searched`` is the gain over the baseline that the search reported, more is better; null where it has none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    point: dict[str, Any]
    searched: float | None = None


class Confirmation(BaseModel):
    """Measurements of a confirmation, fixed before it runs: configurations, the control first, metric and suites."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    configurations: tuple[Configuration, ...]
    metric: str
    mode: Literal["max", "min"]
    suites: tuple[str, ...]


class Parent(BaseModel):
    """Lineage of a fork: the earlier sweep, the number of its events that were read, and the trials it begins with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sweep: str
    place: str
    fingerprint: str
    events: int
    trials: tuple[str, ...]
    confirmation: Confirmation | None = None
    """Of a confirmation; absent on disk where there is none."""

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        return {name: value for name, value in document.items() if value is not None}


class SweepPlan(BaseModel):
    """A planned sweep: everything that a driver needs besides the event log."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )

    format: Literal[3, 4, 5, 6] = 3
    """4 for a fork, whose plan has a ``parent``, 5 for a confirmation, 6 with a rung schedule of design 2 or later.

    A version that knows 3 alone refuses them."""
    sweep: str
    created_at: float
    spec: Annotated[
        SweepSpec,
        BeforeValidator(lambda value: SweepSpec(**value) if isinstance(value, dict) else value),
        PlainSerializer(SweepSpec.document),
    ]
    fingerprint: str
    tracking_uri: str | None
    """Null: ``MLFLOW_TRACKING_URI`` decides at each start, so that its password never reaches this file."""
    working_directory: str
    max_epochs: int
    rungs: tuple[int, ...]
    """Levels at which trials are compared, in units of ``scheduler.resource``; empty: after every epoch, or never."""
    rung_schedule: RungSchedule | None = Field(default=None, alias="ladder")
    """Rungs, places and budget of ``grace_period: auto``, so that a later version continues with the same."""
    pauses: bool = False
    """Rejected trials pause at their rung: ``kind: auto`` was decided by the slots of the first launch."""
    provenance: Provenance
    metrics: dict[str, DeclaredMetric] = {}
    """Units and directions that the user's own code declares; absent on disk where there are none."""
    parent: Parent | None = None
    sampler_choice: str | None = None
    """What ``sampler: auto`` chose at the launch, and why; absent on disk for another sampler."""
    scheduler_choice: str | None = None
    """What ``auto`` chose for the scheduler at the launch, and why; absent on disk if the spec names it."""
    batch_choice: BatchChoice | None = None
    """What ``resources.batch: auto`` chose at the launch; absent on disk if the spec names the number."""

    _scheduler: Scheduler | None = PrivateAttr(default=None)
    _launched: SweepPlan | None = PrivateAttr(default=None)

    def model_post_init(self, _: object) -> None:
        """Build the scheduler once: every decision needs it. A user's own is imported when the first is due."""
        if self.spec.scheduler.own is None:
            self._scheduler = self._built()

    @property
    def scheduler(self) -> Scheduler:
        """Scheduler that stops, pauses and promotes trials.

        Raises:
            SpecError: a user's own scheduler cannot be imported, or is none.
            OwnCodeFailed: it raises when it is made.
        """
        if self._scheduler is None:
            find_in(Path(self.working_directory))
            self._scheduler = self._built()
        return self._scheduler

    def _built(self) -> Scheduler:
        schedule = self.rung_schedule
        if schedule is None and self.spec.scheduler.is_budgeted:  # of a version before the field
            schedule = rung_schedule_of(self.spec, max_epochs=self.max_epochs, design=1)
        return scheduler_of(self.spec, pauses=self.pauses, max_epochs=self.max_epochs, schedule=schedule)

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        absent = {name for name in WRITTEN_IF_PRESENT if not getattr(self, name)}
        if self.rung_schedule is not None:  # as before the fields
            absent_there = {field.name for field in fields(RungSchedule) if field.default is not MISSING}
            absent_there -= unusual(self.rung_schedule).keys()
            for name in document.keys() & {"ladder", "rung_schedule"}:
                document[name] = {key: value for key, value in document[name].items() if key not in absent_there}
        return {name: value for name, value in document.items() if name not in absent}

    @property
    def launched(self) -> SweepPlan:
        """Plan as it was sealed at the launch: this one, unless orders have changed it since."""
        return self._launched or self

    def successor(self, spec: SweepSpec, fields: Mapping[str, Any]) -> SweepPlan:
        """Return the next generation of the plan, with another spec and other values of fields; it is never saved."""
        plan = SweepPlan(**{**dict(self), "spec": spec, **fields})
        plan._launched = self.launched
        return plan

    @model_validator(mode="before")
    @classmethod
    def _migrated(cls, document: Any) -> Any:
        if isinstance(document, dict) and document.get("format") == 1:
            document = plan_of_format_1(document)
        if isinstance(document, dict) and document.get("format") == 2:
            document = {**document, "format": 3}
        return with_older_defaults(document)

    def unit_of(self, metric: str) -> str:
        """Return the unit that a user's own code declares for a metric, or ''."""
        return declaration_of(metric, self.metrics).unit

    @property
    def confirmation(self) -> Confirmation | None:
        """Configurations and metric that the sweep confirms, or None if it searches."""
        return None if self.parent is None else self.parent.confirmation

    @property
    def batch(self) -> int:
        """Trials that a worker process trains as one program; on Ray a worker has one."""
        return batch_of(self.spec.resources, self.batch_choice)

    @property
    def experiment(self) -> str:
        """The MLflow experiment: the family of sweeps that are compared with each other."""
        return self.spec.tracking.experiment or self.spec.name

    def save(self, folder: SweepFolder) -> None:
        """Write the plan, atomically, and the installed packages next to it.

        Raises:
            StorageError: the sweep is kept in S3, which refused or could not be reached.
        """
        write_atomically(folder.environment, installed())
        document = json.loads(self.model_dump_json())
        text = json.dumps({**document, CHECKSUM: _checksum(document)}, indent=1, ensure_ascii=False)
        write_atomically(folder.plan, text + "\n")
        record(folder)
        publish(folder)

    @classmethod
    def load(cls, folder: SweepFolder) -> SweepPlan:
        """Read a plan back.

        Raises:
            SweepNotFound: the folder holds no plan, or one that this version cannot read.
            PlanDamaged: it was edited or damaged since the launch.
        """
        try:
            document = json.loads(folder.plan.read_bytes())
        except FileNotFoundError:
            raise SweepNotFound(f"{folder.path}: no plan.json here, so no sweep") from None
        except OSError as error:
            raise SweepNotFound(f"{folder.plan}: must be a file that can be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:
            raise SweepNotFound(f"{folder.plan}: not a plan of this version (no JSON: {one_line(error)})") from None
        _check_whole(document, folder)
        try:
            return cls.model_validate_json(json.dumps(document))
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise SweepNotFound(f"{folder.plan}: not a plan of this version ({reason})") from None
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise SweepNotFound(f"{folder.plan}: not a plan of this version ({one_line(error)})") from None


def _check_whole(document: Any, folder: SweepFolder) -> None:
    """Remove the checksum from a plan's document.

    Raises:
        PlanDamaged: it does not fit, or it is missing though the format has one.
    """
    if not isinstance(document, dict) or document.get("format") in OLD_FORMATS:
        return
    checksum = document.pop(CHECKSUM, None)
    if checksum != _checksum(document):
        raise PlanDamaged(
            f"{folder.plan}: must be as it was written at the launch, and its checksum does not fit: it was edited or "
            "damaged; restore it from a copy, or launch a new sweep with the other settings"
        )


def _checksum(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def make_plan(
    spec: SweepSpec,
    folder: SweepFolder,
    *,
    slots: int,
    now: float,
    working_directory: Path,
    metrics: Mapping[str, DeclaredMetric] = MappingProxyType({}),
    parent: Parent | None = None,
    provenance: Provenance | None = None,
    batch_choice: BatchChoice | None = None,
) -> SweepPlan:
    """Make the plan of a new sweep on this number of slots; reads the git commit and the environment.

    ``metrics`` are the units and directions that the user's own code declares; no code of a user is imported here.
    ``provenance`` is that of a sweep that only is imagined.
    """
    max_epochs, pauses = max_epochs_of(spec), promotes(spec, slots=slots)
    schedule = rung_schedule_of(spec, max_epochs=max_epochs) if spec.scheduler.is_budgeted else None
    return SweepPlan(
        format=_format(parent, schedule),
        parent=parent,
        sweep=folder.sweep,
        created_at=now,
        spec=at_home(spec),
        fingerprint=fingerprint(spec),
        tracking_uri=tracking_store(spec, working_directory),
        working_directory=str(working_directory),
        max_epochs=max_epochs,
        rungs=scheduler_of(spec, pauses=pauses, max_epochs=max_epochs, schedule=schedule).rungs or (),
        rung_schedule=schedule,
        pauses=pauses,
        provenance=provenance or collect(working_directory, spec=spec),
        metrics=dict(metrics),
        scheduler_choice=scheduler_choice(spec, schedule, pauses=pauses) or None,
        sampler_choice=sampler_choice(spec),
        batch_choice=batch_choice,
    )


def _format(parent: Parent | None, schedule: RungSchedule | None) -> Literal[3, 4, 5, 6]:
    if schedule is not None and schedule.design > 1:
        return 6
    if parent is None:
        return 3
    return 4 if parent.confirmation is None else 5


def fingerprint(spec: SweepSpec) -> str:
    """Return the SHA-256 of the spec's canonical JSON: equal for equal specs, on every machine."""
    return hashlib.sha256(spec.canonical().encode()).hexdigest()


def tracking_store(spec: SweepSpec, working_directory: Path) -> str | None:
    """Return the tracking store of a sweep launched from this folder, or None if ``MLFLOW_TRACKING_URI`` decides."""
    uri = spec.tracking.uri
    if uri is not None:
        relative = uri.startswith("sqlite:///") and not uri.startswith("sqlite:////")
        return f"sqlite:///{working_directory / expanded(uri.removeprefix('sqlite:///'))}" if relative else uri
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    return f"sqlite:///{working_directory / 'mlflow.db'}"
