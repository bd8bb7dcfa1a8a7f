"""A sweep as a Ray job: what must hold before it is submitted, and what the job is."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import SpecError, quoted
from orchestrator.execution.cluster.authentication import MODE, uses_token
from orchestrator.execution.cluster.sent_code import CODE_SENT, copy_files
from orchestrator.planning.folders import FOLDERS
from orchestrator.redaction import secret_problem
from orchestrator.storage.locations import is_remote
from search_spaces import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.spec.model import SweepSpec

SPEC_FILE = "sweep.json"
SHARED = "--shared-results"
TRACKING = "MLFLOW_TRACKING_URI"
STOP_WAIT_S = 30
"""Seconds from SIGTERM to SIGKILL when a job is stopped; Ray's 3 are too few for the last events to reach MLflow."""


@dataclass(frozen=True)
class Submission:
    """A job: its id, the command that it runs, and the folder and environment that Ray makes for it."""

    id: str
    entrypoint: str
    runtime_env: Mapping[str, Any]


def check_submission(spec: SweepSpec, *, storage: str, tracking: str | None, shared_results: bool) -> None:
    """Refuse a sweep that would lose what it writes, or find nothing, as its job runs in a folder of its own.

    Args:
        spec: the spec to be submitted.
        storage: the storage of the sweep.
        tracking: its tracking store; None if ``MLFLOW_TRACKING_URI`` decides.
        shared_results: the storage is on a disk that every node of the cluster mounts.

    Raises:
        SpecError: lists every problem.
    """
    problems = [
        *_storage_problems(storage, shared_results=shared_results),
        *_tracking_problems(tracking, os.environ.get(TRACKING)),
        *_folder_problems(spec),
    ]
    if problems:
        raise SpecError(problems)


def _storage_problems(uri: str, *, shared_results: bool) -> Iterator[Problem]:
    if is_remote(uri):
        return
    if not shared_results:
        options = f"must be s3://BUCKET/PREFIX, or a folder on a disk that every node mounts; then add {SHARED}"
        yield Problem("storage.uri", f"{options}; got {quoted(uri)}, which each machine has for itself")
    elif not Path(uri).is_absolute():
        yield Problem("storage.uri", f"must be the absolute path of a folder on the shared disk, got {quoted(uri)}")


def _tracking_problems(uri: str | None, variable: str | None) -> Iterator[Problem]:
    place, address = ("tracking.uri", uri) if uri is not None else (TRACKING, variable)
    requirement = "must be the address of an MLflow server, or sqlite:////ABSOLUTE/PATH on a shared disk"
    if not address:
        yield Problem("tracking.uri", f"{requirement}; a file of the job's own folder is lost with the job")
        return
    if address.startswith("sqlite:") and not address.startswith("sqlite:////"):
        yield Problem(place, f"{requirement}, got {quoted(address)}")
    if uri is None and secret_problem(address) is not None:
        remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD on the nodes of the cluster"
        yield Problem(
            place, f"must have no password, as the environment of a job can be read in the dashboard; {remedy}"
        )


def _folder_problems(spec: SweepSpec) -> Iterator[Problem]:
    for name in FOLDERS:
        domain = spec.space.parameters.get(name)
        fixed = [(f"trial.{name}", spec.trial.get(name))]
        searched = [(f"space.parameters.{name}", value) for value in getattr(domain, "options", ())]
        for place, value in [*fixed, *searched]:
            if isinstance(value, str) and not is_remote(value) and not Path(value).is_absolute():
                requirement = "must be an absolute path, the same on every node, or s3://BUCKET/PREFIX"
                yield Problem(place, f"{requirement}, as a job has a folder of its own; got {quoted(value)}")


@contextmanager
def launch_job(spec: SweepSpec, sweep: str, files: Mapping[str, Path]) -> Iterator[Submission]:
    """Lay out the job that launches a sweep; the folder is removed at the end.

    Args:
        spec: the spec, with its overrides.
        sweep: the id that the sweep gets, which is that of the job.
        files: users' own modules, by their path below the folder of imports.
    """
    with _folder(files) as folder:
        (folder / SPEC_FILE).write_text(json.dumps(spec.document(), indent=1), encoding="utf-8")
        words = ("launch", SPEC_FILE, "--address", "auto", "--id", sweep)
        yield Submission(sweep, _entrypoint(words), _runtime_env(folder, files))


@contextmanager
def resume_job(uri: str, job: str, files: Mapping[str, Path]) -> Iterator[Submission]:
    """Lay out the job that resumes the sweep at an address; see ``launch_job``."""
    with _folder(files) as folder:
        yield Submission(job, _entrypoint(("resume", uri, "--address", "auto")), _runtime_env(folder, files))


@contextmanager
def _folder(files: Mapping[str, Path]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ravel-job-") as name:
        copy_files(files, Path(name))
        yield Path(name)


def _entrypoint(words: tuple[str, ...]) -> str:
    return f"exec ravel {shlex.join(words)}"


def _runtime_env(folder: Path, files: Mapping[str, Path]) -> dict[str, Any]:
    """Return Ray's runtime environment; it has no secret, as every user of the dashboard can read it."""
    variables = {"PYTHONUNBUFFERED": "1", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
    if files:
        variables[CODE_SENT] = "1"
    if not uses_token():
        variables[MODE] = os.environ[MODE]
    if address := os.environ.get(TRACKING):
        variables[TRACKING] = address
    return {"working_dir": str(folder), "env_vars": variables}
