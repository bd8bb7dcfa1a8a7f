"""Where trials run: a Ray of our own on this machine, or a cluster somebody started."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import PreflightError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.spec import Resources

QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # trials without a GPU keep the environment's view of them
    "RAY_AIR_NEW_OUTPUT": "0",  # its start-up box is printed even at verbose=0
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same everywhere
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our event log holds what they would write, at a third of the cost
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the driver owns its signals
    "TUNE_FORCE_TRIAL_CLEANUP_S": "3",  # an interrupt does not wait for an epoch to end
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's state files are never read
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the event log holds every traceback
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

OBJECT_STORE_BYTES = 200_000_000  # trials exchange a few numbers; the default would take a third of the memory


@dataclass(frozen=True)
class Capacity:
    """What a cluster has in all."""

    cpus: float
    gpus: float

    def slots(self, resources: Resources, gpus_per_trial: float) -> int:
        """How many trials run at once.

        Raises:
            PreflightError: not even one does; says what is missing.
        """
        by_cpu = int(self.cpus / resources.cpus)
        by_gpu = int(self.gpus / gpus_per_trial + 1e-9) if gpus_per_trial else by_cpu
        fits = min(by_cpu, by_gpu)
        if fits == 0:
            asked = f"{resources.cpus:g} CPUs and {gpus_per_trial:g} GPUs"
            there = f"{self.cpus:g} and {self.gpus:g}"
            raise PreflightError(
                [f"resources: one trial takes {asked}, the cluster has {there}; ask for less, or add nodes"]
            )
        return min(fits, resources.max_concurrent or fits)

    def gpus_per_trial(self, resources: Resources) -> float:
        """``auto``: one GPU for each trial where there are any, else none."""
        if resources.gpus == "auto":
            return 1.0 if self.gpus else 0.0
        return resources.gpus


@contextmanager
def connect(address: str) -> Iterator[Capacity]:
    """Connect to Ray for the length of a sweep.

    ``local`` starts a Ray of our own, with its own folder, gone at the end. Ray listens on every interface whatever it
    is told, so its processes share a fresh token that nobody else knows.
    ``auto`` or ``host:port`` joins a running cluster.

    Raises:
        PreflightError: there is no cluster at that address.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    import ray  # noqa: PLC0415  reads the settings above when imported

    folder = Path(tempfile.mkdtemp(prefix="ravel-ray-")) if address == "local" else None
    try:
        _start(address, folder)
        total = ray.cluster_resources()
        yield Capacity(cpus=total.get("CPU", 0.0), gpus=total.get("GPU", 0.0))
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _start(address: str, folder: Path | None) -> None:
    import ray  # noqa: PLC0415

    quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    if folder is not None:
        # With a token and no RAY_AUTH_MODE, ray.init turns token authentication on for itself and all it starts; set
        # here, the mode would come too late for a process that has imported Ray already.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        ray.init(address="local", _temp_dir=str(folder), object_store_memory=OBJECT_STORE_BYTES, **quiet)
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except ConnectionError as error:
        hint = "is RAY_AUTH_MODE=token with RAY_AUTH_TOKEN needed there?"
        raise PreflightError([f"--address {address}: no Ray cluster answers ({error}); {hint}"]) from None
