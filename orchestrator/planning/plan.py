"""What will run, fixed before anything does: ids, seeds, paths, code version, fingerprints.

``resume`` reads this and the event log, never the YAML again.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from orchestrator.errors import SweepNotFound
from orchestrator.planning.points import max_epochs_of
from orchestrator.planning.provenance import Provenance, collect, installed
from orchestrator.scheduling.budgeted import RungSchedule
from orchestrator.scheduling.protocol import Scheduler
from orchestrator.scheduling.registry import pauses as promotes
from orchestrator.scheduling.registry import rung_schedule_of, scheduler_of
from orchestrator.spec.model import SweepSpec
from orchestrator.state.migrations import plan_of_format_1
from orchestrator.state.s3_mirror import publish
from orchestrator.storage.atomic_files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.state.sweep_folder import SweepFolder


class SweepPlan(BaseModel):
    """A sweep that is decided: everything a driver needs beside the event log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = 2
    sweep: str
    created_at: float
    spec: Annotated[
        SweepSpec,
        BeforeValidator(lambda value: SweepSpec(**value) if isinstance(value, dict) else value),
        PlainSerializer(SweepSpec.document),
    ]
    fingerprint: str
    tracking_uri: str | None
    """Null: ``MLFLOW_TRACKING_URI`` decides anew at each start, so that its password never reaches this file."""
    working_directory: str
    max_epochs: int
    rungs: tuple[int, ...]
    """Where trials are compared, in units of ``scheduler.resource``; empty: after every epoch, or never."""
    ladder: RungSchedule | None = None
    """The rungs, places and budget of ``grace_period: auto``, so that a later version goes on by the same."""
    pauses: bool = False
    """Whether a rejected trial waits at its rung: ``kind: auto`` was decided by the slots of the first launch."""
    provenance: Provenance

    _rule: Scheduler = PrivateAttr()

    def model_post_init(self, _: object) -> None:
        """Build the rule once: it is asked at every decision."""
        self._rule = scheduler_of(self.spec, pauses=self.pauses, max_epochs=self.max_epochs, ladder=self.ladder)

    @property
    def rule(self) -> Scheduler:
        """Who is stopped, and when."""
        return self._rule

    @model_validator(mode="before")
    @classmethod
    def _in_todays_words(cls, document: Any) -> Any:
        is_old = isinstance(document, dict) and document.get("format") == 1
        return plan_of_format_1(document) if is_old else document

    @property
    def experiment(self) -> str:
        """The MLflow experiment: the family of sweeps that are compared with each other."""
        return self.spec.tracking.experiment or self.spec.name

    def save(self, folder: SweepFolder) -> None:
        """Write the plan, atomically, and the installed packages beside it.

        Raises:
            StorageError: the sweep is kept in S3, which refused or could not be reached.
        """
        write_atomically(folder.environment, installed())
        write_atomically(folder.plan, self.model_dump_json(indent=1) + "\n")
        publish(folder)

    @classmethod
    def load(cls, folder: SweepFolder) -> SweepPlan:
        """Read a plan back.

        Raises:
            SweepNotFound: there is none, or this version cannot read it.
        """
        try:
            return cls.model_validate_json(folder.plan.read_text(encoding="utf-8"))
        except OSError:
            raise SweepNotFound(f"{folder.path}: no plan.json here, so no sweep") from None
        except ValidationError as error:
            law = error.errors()[0]["msg"]
            raise SweepNotFound(f"{folder.plan}: not a plan of this version ({law})") from None


def make_plan(spec: SweepSpec, folder: SweepFolder, *, slots: int, now: float, working_directory: Path) -> SweepPlan:
    """The plan of a new sweep on so many slots; pure but for reading the git commit and the environment."""
    max_epochs, pauses = max_epochs_of(spec), promotes(spec, slots=slots)
    return SweepPlan(
        sweep=folder.sweep,
        created_at=now,
        spec=spec,
        fingerprint=fingerprint(spec),
        tracking_uri=tracking_store(spec, working_directory),
        working_directory=str(working_directory),
        max_epochs=max_epochs,
        rungs=scheduler_of(spec, pauses=pauses, max_epochs=max_epochs).rungs or (),
        ladder=rung_schedule_of(spec, max_epochs=max_epochs) if spec.scheduler.is_budgeted else None,
        pauses=pauses,
        provenance=collect(working_directory),
    )


def fingerprint(spec: SweepSpec) -> str:
    """SHA-256 of the spec's canonical JSON: equal specs, equal fingerprints, on every machine."""
    canonical = json.dumps(spec.document(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def tracking_store(spec: SweepSpec, working_directory: Path) -> str | None:
    """Where a sweep launched from this folder is tracked; null where ``MLFLOW_TRACKING_URI`` decides."""
    uri = spec.tracking.uri
    if uri is not None:
        relative = uri.startswith("sqlite:///") and not uri.startswith("sqlite:////")
        return f"sqlite:///{working_directory / uri.removeprefix('sqlite:///')}" if relative else uri
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    return f"sqlite:///{working_directory / 'mlflow.db'}"
