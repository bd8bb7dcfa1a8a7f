"""Choose what is checked, in the order in which it is printed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.doctor import buckets, environment, folders, gpus, machine, packages, probes, token, tracking
from orchestrator.doctor.examination import Examination, examine
from orchestrator.doctor.finding import SPEC, Finding, fail, ok, skipped
from orchestrator.errors import SpecError
from orchestrator.execution.cluster.addresses import kind_of
from orchestrator.planning.loading import load_spec
from orchestrator.planning.plan import tracking_store
from orchestrator.state.sweep_folder import DEFAULT_STORAGE
from orchestrator.storage.locations import is_remote
from orchestrator.tracking.store.store import store_here

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.doctor.finding import Diagnosis

DISK_S, TRACKING_S, BUCKET_S, SPEC_S, RAY_S = 20.0, 35.0, 60.0, 180.0, 240.0
GRACE_S = 15.0
"""Seconds more than a process of its own has, which is ended first."""


@dataclass(frozen=True)
class Subject:
    """Subject of an examination.

    Args:
        spec: file of a spec, or None.
        overrides: ``PATH=VALUE`` for the spec.
        address: of Ray.
        storage: of sweeps; None: that of the spec, else ``results``.
        start_ray: start a private Ray, if ``address`` is ``local``.
    """

    spec: str | None = None
    overrides: Sequence[str] = ()
    address: str = "local"
    storage: str | None = None
    start_ray: bool = False


def check_up(subject: Subject) -> Diagnosis:
    """Check everything, at the same time as far as it waits, and return what was seen. Never raises for a fault."""
    problems, storage, uri = _of_spec(subject)
    examinations = [
        Examination("Python and packages", [packages.package_findings]),
        Examination(
            "This machine",
            [partial(machine.machine_findings, storage), gpus.gpu_findings],
            limit_s=DISK_S,
            fix="see which disk hangs: df",
        ),
        Examination("Environment", [partial(environment.environment_findings, os.environ)]),
        _storage_examination(storage),
        Examination(
            "MLflow",
            [partial(tracking.tracking_findings, uri, os.environ)],
            limit_s=TRACKING_S,
            fix="check the address, the network and the firewall",
        ),
        _workers_examination(subject, storage),
    ]
    if subject.spec is not None:
        checks = [lambda: problems] if problems else [partial(_spec_findings, subject)]
        examinations.append(Examination(SPEC, checks, SPEC_S + GRACE_S))
    return examine(examinations)


def _storage_examination(storage: str) -> Examination:
    if is_remote(storage):
        fix = "check AWS_ENDPOINT_URL_S3, the network and the proxy settings"
        return Examination(f"Storage {storage}", [partial(buckets.bucket_findings, storage)], BUCKET_S, fix)
    fix = "its disk hangs: see if its file server is up, or choose another folder (storage.uri)"
    return Examination("Storage", [partial(folders.folder_findings, storage)], DISK_S, fix)


def _of_spec(subject: Subject) -> tuple[list[Finding], str, str]:
    """Return the mistakes of the spec, the storage and the tracking store; without a spec, those of a launch here."""
    storage, uri = subject.storage or DEFAULT_STORAGE, os.environ.get("MLFLOW_TRACKING_URI") or store_here()
    if subject.spec is None:
        return [], storage, uri
    try:
        spec = load_spec(subject.spec, subject.overrides)
    except SpecError as error:
        fix = "correct the spec: ravel check shows the same"
        return [fail(problem.path, problem.message, fix) for problem in error.problems], storage, uri
    return [], subject.storage or spec.storage.uri, tracking_store(spec, Path.cwd()) or uri


def _spec_findings(subject: Subject) -> Iterator[Finding]:
    yield ok("text", f"{subject.spec} is valid")
    arguments = {"spec": subject.spec, "overrides": list(subject.overrides), "address": subject.address}
    fix = "import your modules by hand to see what they wait for, and download data sets before the launch"
    yield from probes.findings_of("spec", arguments, limit_s=SPEC_S, fix=fix)


def _workers_examination(subject: Subject, storage: str) -> Examination:
    if kind_of(subject.address) == "processes":
        arguments, fix = {"address": subject.address, "storage": storage}, "see what keeps this machine busy"
        probe = partial(probes.findings_of, "ray", arguments, limit_s=RAY_S, fix=fix)
        return Examination("Worker processes", [probe], RAY_S + GRACE_S)
    checks = [partial(token.token_findings, subject.address), *_ray(subject, storage)]
    return Examination("Ray", checks, RAY_S + GRACE_S)


def _ray(subject: Subject, storage: str) -> list[partial[Iterator[Finding]]]:
    if subject.address == "local" and not subject.start_ray:
        return [partial(_not_started)]
    arguments = {"address": subject.address, "storage": storage}
    fix = "see if its processes hang (`ray status` on the head), and restart Ray"
    return [partial(probes.findings_of, "ray", arguments, limit_s=RAY_S, fix=fix)]


def _not_started() -> Iterator[Finding]:
    if packages.installed("ray") is None:
        yield skipped("ray", "not installed: pip install 'ravel-sweeps[tune]'")
    else:
        yield skipped("ray", "not started; --start-ray starts a private one, --address asks a cluster")
