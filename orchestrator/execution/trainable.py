"""Trainables of a sweep's trials: download data and checkpoints from S3 to the worker's machine, then train.

The configuration has these keys in addition to those of ``trainables.tune``:

    ravel.checkpoint         may be a list of addresses in S3, newest first: the first readable one is used
    ravel.parent             may have an address in S3 as `checkpoint`; it is downloaded if none of the above is there
    ravel.storage            the driver's S3 settings, without any secret
    ravel.system_metrics     true to measure the machine with each epoch
    ravel.working_directory  folder in which users' own modules are looked up first

A trial that was given several bundles has a worker in each: this one is rank 0, and the others are its `Peer`s.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import tempfile
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from orchestrator.errors import StorageError
from orchestrator.execution.cluster.local_data import settings_of, with_local_data
from orchestrator.execution.peers import Peers, nodes_of_reservation
from orchestrator.redaction import one_line
from orchestrator.state.s3_mirror import download_folder
from orchestrator.storage.locations import is_remote
from orchestrator.storage.patience import patiently
from orchestrator.storage.s3 import Bucket, Location, Settings
from trainables.engine import checkpoint as checkpoints
from trainables.engine import process_group
from trainables.engine.share import Share
from trainables.errors import CheckpointError
from trainables.metrics import SYSTEM_METRICS
from trainables.tune import TrialTrainable, open_trial

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trainables.engine.epoch_loop import EpochLoop, TrialRun
    from trainables.engine.epoch_report import EpochReport

logger = logging.getLogger(__name__)
LEAVING = "leaving"
"""Key of a result whose worker is about to end, with the reason."""
SIZE = "size_bytes"
"""Attribute of a checkpoint on its way from worker to driver: Tune hands its callbacks nothing else."""


class SweepTrainable(TrialTrainable):
    """Trains one trial of a sweep, of any task.

    It waits while S3 is away, and while its checkpoints find no room. A transfer that fails all the same ends the
    attempt, which the driver retries.
    """

    _downloaded: Path | None = None
    _peers: Peers | None = None
    _is_leaving = False
    _measures_system = False
    _has_warned_system = False
    _saved_bytes = 0

    def setup(self, config: dict[str, Any]) -> None:
        """Download data and checkpoint, then set up the trial; SIGTERM ends it with its epoch."""
        if self.trial_resources is not None:  # in a worker of Tune
            with suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGTERM, self._leave)
        super().setup(self._with_local_files(config))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Release the finished trial, then set up the next one."""
        self._remove_download()
        return super().reset_config(self._with_local_files(new_config))

    def step(self) -> dict[str, Any]:
        """Train one epoch; add system metrics to its event if the sweep asks for them, and say if the worker ends."""
        result = super().step()
        if self._measures_system and "event" in result:
            event = json.loads(result["event"])
            event["metrics"].update(self._system_metrics())
            result["event"] = json.dumps(event, allow_nan=False)
        if self._is_leaving:
            result[LEAVING] = "its worker got SIGTERM"
        return result

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Save a checkpoint where the sweep is kept, and report its size; wait while S3 is away or a disk is full.

        Raises:
            StorageError: it could not be stored for longer than ``PATIENCE_S``.
            OSError: the place of the checkpoints is gone, or closed to this worker.
        """
        result = self._stored(checkpoint_dir)
        setattr(result.checkpoint, SIZE, self._saved_bytes)
        return result

    def _stored(self, checkpoint_dir: str | None) -> Any:
        if self._storage is None or checkpoint_dir is not None:
            return super().save(checkpoint_dir)
        index = self._storage.current_checkpoint_index

        def store(folder: str) -> Any:
            self._storage.current_checkpoint_index = index  # a failed try has counted its folder
            try:
                return super(SweepTrainable, self).save(folder)
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                raise
            except OSError as error:
                raise StorageError(f"a checkpoint cannot be stored: {one_line(error)}") from error

        with tempfile.TemporaryDirectory(prefix="ravel-checkpoint-") as folder:
            return patiently(partial(store, folder))

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the checkpoint, and measure it before it leaves this machine."""
        super().save_checkpoint(checkpoint_dir)
        self._saved_bytes = sum(path.stat().st_size for path in Path(checkpoint_dir).rglob("*") if path.is_file())

    def node_ids(self) -> list[str]:
        """Return Ray's ids of the nodes that this trial's workers run on, that of this actor first."""
        others = nodes_of_reservation() if self._has_peers else []
        return list(dict.fromkeys([self.node_id(), *others]))

    def cleanup(self) -> None:
        """Release the trial, and end its other workers."""
        super().cleanup()
        if self._peers is not None:
            self._peers.end()
            self._peers = None
        self._remove_download()

    def _opened(self, checkpoint: str | None) -> EpochLoop[TrialRun]:
        """Return the trial; where it has several workers, start them, and join them in one process group."""
        if not self._has_peers:
            return super()._opened(checkpoint)
        self._peers = peers = self._peers or Peers(self.trial_resources.bundles)
        file = None if checkpoint is None else Path(checkpoint, checkpoints.FILE_NAME)
        saved = file.read_bytes() if file is not None and file.is_file() else None  # else rank 0 says what is wrong
        share = Share(0, peers.world_size)
        with peers.working("prepare", self._asked, saved):
            loop = open_trial(self._point, checkpoint, share=share)
        address = peers.address()
        store = process_group.open_store(address, world_size=share.world_size)
        with peers.working("join", address, store.port):
            process_group.join(store, *share.numbers, device=loop.run.placement.device, address=address)
        return loop

    def _trained(self, loop: EpochLoop[TrialRun]) -> EpochReport:
        """Train one epoch; where the trial has several workers, all do."""
        with nullcontext() if self._peers is None else self._peers.working("train"):
            return super()._trained(loop)

    @property
    def _has_peers(self) -> bool:
        """True if the trial has several workers."""
        return self.trial_resources is not None and len(self.trial_resources.bundles) > 1

    def _leave(self, *_: object) -> None:
        """Have the trial go on elsewhere after this epoch; Ray's own handler would break it off at once."""
        self._is_leaving = True

    def _with_local_files(self, config: dict[str, Any]) -> dict[str, Any]:
        self._asked = config
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
