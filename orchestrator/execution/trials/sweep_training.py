"""Training of a sweep's trials in a worker: download data and checkpoints from S3 to its machine, then train.

The configuration has these keys in addition to those of ``trainables.trial_training``:

    ravel.checkpoint         may be a list of addresses in S3, newest first: the first readable one is used
    ravel.parent             may have an address in S3 as `checkpoint`; it is downloaded if none of the above is there
    ravel.storage            the driver's S3 settings, without any secret
    ravel.system_metrics     true to measure the machine with each epoch
    ravel.working_directory  folder in which users' own modules are looked up first
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from orchestrator.execution.cluster.local_data import settings_of, with_local_data
from orchestrator.state.s3_mirror import download_folder
from orchestrator.storage.locations import is_remote
from orchestrator.storage.patience import patiently
from orchestrator.storage.s3 import Bucket, Location, Settings
from trainables.engine import checkpoint as checkpoints
from trainables.errors import CheckpointError
from trainables.metrics import SYSTEM_METRICS
from trainables.trial_training import TrialTraining

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from trainables.engine.epoch_report import EpochReport

logger = logging.getLogger(__name__)
LEAVING = "leaving"
"""Key of a result whose worker is about to end, with the reason."""


class SweepTraining(TrialTraining):
    """Training of the trials of a sweep, of any task; it waits while S3 is away.

    A transfer that fails all the same ends the attempt, which the driver retries.
    """

    saved_bytes = 0
    """Size of the last checkpoint."""
    _downloaded: Path | None = None
    _is_leaving = False
    _measures_system = False
    _has_warned_system = False

    def leave_at_sigterm(self) -> None:
        """Have SIGTERM end the trial here with its epoch, so that it goes on elsewhere."""
        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, self.leave)

    def leave(self, *_: object) -> None:
        """Have the trial go on elsewhere after this epoch; Ray's own handler would break it off at once."""
        self._is_leaving = True

    def begin(self, config: Mapping[str, Any]) -> None:
        """Release the last trial, download data and checkpoint, then begin the trial."""
        self._remove_download()
        super().begin(self._with_local_files(config))

    def reported(self, epoch: Callable[[], EpochReport | None]) -> dict[str, Any]:
        """Return the result of an epoch; add system metrics if the sweep asks for them, and say if the worker ends."""
        result = super().reported(epoch)
        if self._measures_system and "event" in result:
            event = json.loads(result["event"])
            event["metrics"].update(self._system_metrics())
            result["event"] = json.dumps(event, allow_nan=False)
        if self._is_leaving:
            result[LEAVING] = "its worker got SIGTERM"
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the checkpoint, and measure it before it leaves this machine."""
        super().save_checkpoint(checkpoint_dir)
        self.saved_bytes = sum(path.stat().st_size for path in Path(checkpoint_dir).rglob("*") if path.is_file())

    def cleanup(self) -> None:
        """Release the trial, and remove what was downloaded for it."""
        super().cleanup()
        self._remove_download()

    def _with_local_files(self, config: Mapping[str, Any]) -> dict[str, Any]:
        self._asked = dict(config)
        self._measures_system = bool(config.get("ravel.system_metrics"))
        local, start = with_local_data(config), config.get("ravel.checkpoint")
        if isinstance(start, list):
            local["ravel.checkpoint"] = self._first_readable(start, settings_of(config))
        parent = config.get("ravel.parent")
        if parent is not None and local.get("ravel.checkpoint") is None and is_remote(parent["checkpoint"]):
            local["ravel.parent"] = {**parent, "checkpoint": self._download(parent["checkpoint"], settings_of(config))}
        return local

    def _download(self, uri: str, settings: Settings) -> str:
        """Return the folder on this machine to which a checkpoint in S3 was copied."""
        self._remove_download()
        self._downloaded = folder = Path(tempfile.mkdtemp(prefix="ravel-checkpoint-"))
        patiently(partial(download_folder, Bucket(Location.parse(uri), settings), folder))
        return str(folder)

    def _first_readable(self, addresses: Iterable[str], settings: Settings) -> str | None:
        for uri in addresses:
            folder = self._download(uri, settings)
            try:
                checkpoints.load(folder)
            except CheckpointError as error:
                logger.warning("%s: %s; an older one is used", uri, error)
            else:
                return folder
        return None

    def _system_metrics(self) -> dict[str, float]:
        """Return the system metrics; none if they cannot be measured, which must not cost the epoch."""
        try:
            return system_metrics()
        except Exception as error:  # noqa: BLE001  drivers of machines raise anything
            if not self._has_warned_system:
                reason = f"{type(error).__name__}: {error}"
                logger.warning("system metrics unavailable (%s); continuing without them", reason)
            self._has_warned_system = True
            return {}

    def _remove_download(self) -> None:
        if self._downloaded is not None:
            shutil.rmtree(self._downloaded, ignore_errors=True)
            self._downloaded = None


def system_metrics() -> dict[str, float]:
    """Measure this machine: CPU use since the last call, memory in use (MB), and memory in use on the GPU (MB)."""
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415  a dependency of Ray

    cpu, memory, gpu = SYSTEM_METRICS
    used = {cpu: float(psutil.cpu_percent()), memory: psutil.virtual_memory().used / 1e6}
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        used[gpu] = (total - free) / 1e6
    return used
