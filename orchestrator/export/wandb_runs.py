"""Sweep as offline runs of Weights & Biases, a run for each trial, which ``wandb sync`` uploads later.

wandb writes into its caches, the home folder and the temporary folder, takes settings and keys from the environment,
and starts a server process. So it runs in a process of its own, with an environment and a home that are removed after
it. No key is passed on, and no host is contacted.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from orchestrator.errors import OrchestratorError, visible
from search_spaces.errors import MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.export.history import SweepHistory, TrialHistory

WRITER = "orchestrator.export.wandb_writer"
RUNS = "wandb"
PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT")
LONGEST_ID = 64
TIMEOUT_S = 1800.0


def write_runs(history: SweepHistory, folder: Path) -> None:
    """Write ``wandb/offline-run-*`` into a folder.

    Raises:
        MissingExtraError: wandb is not installed; names the extra.
        OrchestratorError: wandb failed.
    """
    try:
        version("wandb")
    except PackageNotFoundError:
        raise MissingExtraError("wandb", extra="wandb") from None
    documents = "\n".join(json.dumps(run_of(entry, history)) for entry in history.trials)
    with tempfile.TemporaryDirectory(prefix="ravel-") as home:
        done = subprocess.run(  # noqa: S603  our own module
            [sys.executable, "-m", WRITER],
            input=documents,
            env=environment(folder, home),
            cwd=home,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise OrchestratorError(f"wandb {version('wandb')} failed, nothing was exported: {visible(lines[-1])}")
    _tidy(folder / RUNS)


def run_of(entry: TrialHistory, history: SweepHistory) -> dict[str, Any]:
    """Return a trial as plain data: ``init`` are arguments of ``wandb.init``, ``steps`` its history, ``summary``."""
    trial, sweep = entry.trial, history.plan.sweep
    objectives = {
        f"objective/{item.metric}": entry.score(item, history.epoch)
        for item in history.plan.spec.objective.all
        if history.epoch is not None or trial.status == "completed"
    }
    more = {"status": trial.status, "cause": entry.cause, "reason": entry.reason, "attempts": trial.attempts}
    return {
        "init": {
            "project": history.plan.spec.name,
            "id": run_id(sweep, trial.id),
            "name": trial.id,
            "group": sweep,
            "job_type": "trial",
            "tags": [trial.status, trial.origin],
            "config": {**trial.config, "ravel.sweep": sweep, "ravel.trial": trial.id},
        },
        "host": next((report.host for report in entry.reports.values() if report.host), "unknown"),
        "steps": [
            [epoch, {"epoch": epoch, "_timestamp": report.time, **_finite_or_nan(report.metrics)}]
            for epoch, report in sorted(entry.reports.items())
        ],
        "summary": {name: value for name, value in {**objectives, **more}.items() if value is not None},
    }


def run_id(sweep: str, trial: str) -> str:
    """Return the id of a run: the same at each export, so that a second upload replaces the first.

    >>> run_id("digits-1", "t003"), len(run_id("digits-" * 20, "t003"))
    ('digits-1-t003', 64)
    """
    name = f"{sweep}-{trial}"
    if len(name) <= LONGEST_ID:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: LONGEST_ID - len(digest) - len(trial) - 2]}-{digest}-{trial}"


def environment(folder: Path, home: str) -> dict[str, str]:
    """Return the environment of the process: no key, no setting of the user, and every folder below these two."""
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    places = dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"), home)
    return {
        **passed_on,
        **places,
        "WANDB_CONFIG_DIR": home,
        "WANDB_ARTIFACT_DIR": home,
        "WANDB_DIR": str(folder),
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path),  # noqa: PTH100  "" is the cwd
    }


def _finite_or_nan(metrics: dict[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in metrics.items()}


def _tidy(runs: Path) -> None:
    """Keep what ``wandb sync`` reads: logs, and links to the last run and to the home that is gone, are removed."""
    for path in runs.iterdir():
        if path.is_symlink() or path.is_file():
            path.unlink()
        else:
            for rest in ("logs", "tmp"):
                shutil.rmtree(path / rest, ignore_errors=True)
