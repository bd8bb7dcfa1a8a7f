"""The trainable of a sweep's trials: what lies in S3 is brought to the worker's machine first.

More keys of the orchestrator's stand in its configuration:

    ravel.checkpoint         may be a list of addresses in S3, newest first: the first that can be read is used
    ravel.storage            how the driver reached S3, without any secret
    ravel.system_metrics     true where each epoch also measures the machine
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.storage import download_folder, is_remote
from orchestrator.storage.s3 import Bucket, Location, Settings
from trainables import state
from trainables.config import DataConfig
from trainables.data import cache_folder
from trainables.errors import CheckpointError
from trainables.metrics import SYSTEM_METRICS
from trainables.tune import ClassifierTrainable

if TYPE_CHECKING:
    from collections.abc import Iterable

logger = logging.getLogger(__name__)


class SweepTrainable(ClassifierTrainable):
    """Trains one classifier of a sweep; what it cannot get from S3 ends the attempt, and Tune tries again."""

    _fetched: Path | None = None
    _measures_system = False

    def setup(self, config: dict[str, Any]) -> None:
        """Bring what is needed, and note the configuration."""
        super().setup(self._with_local_files(config))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Let go of the finished trial, and bring what the next one needs."""
        self._forget()
        return super().reset_config(self._with_local_files(new_config))

    def step(self) -> dict[str, Any]:
        """Train one epoch; where the sweep asks for it, its event also says how the machine is used."""
        result = super().step()
        if self._measures_system and "event" in result:
            event = json.loads(result["event"])
            if event["metrics"]:
                event["metrics"].update(system_metrics())
                result["event"] = json.dumps(event, allow_nan=False)
        return result

    def cleanup(self) -> None:
        """Let go of the trial."""
        super().cleanup()
        self._forget()

    def _with_local_files(self, config: dict[str, Any]) -> dict[str, Any]:
        driver = config.get("ravel.storage")
        settings = Settings.from_environment() if driver is None else Settings(**driver)
        start, root = config.get("ravel.checkpoint"), config.get("data.root")
        self._measures_system = bool(config.get("ravel.system_metrics"))
        local = dict(config)
        if isinstance(start, list):
            local["ravel.checkpoint"] = self._first_readable(start, settings)
        if root is not None and is_remote(root):
            local["data.root"] = str(_staged(root, cache_folder(DataConfig(cache=config.get("data.cache"))), settings))
        return local

    def _first_readable(self, checkpoints: Iterable[str], settings: Settings) -> str | None:
        for uri in checkpoints:
            self._forget()
            self._fetched = Path(tempfile.mkdtemp(prefix="ravel-checkpoint-"))
            download_folder(Bucket(Location.parse(uri), settings), self._fetched)
            try:
                state.load(self._fetched)
            except CheckpointError as error:
                logger.warning("%s: %s; an older one is used", uri, error)
            else:
                return str(self._fetched)
        return None

    def _forget(self) -> None:
        if self._fetched is not None:
            shutil.rmtree(self._fetched, ignore_errors=True)
            self._fetched = None


@lru_cache
def _staged(root: str, cache: Path, settings: Settings) -> Path:
    """Where a data set of S3 is on this machine; looked after once in the life of a worker."""
    from orchestrator.storage.staging import stage  # noqa: PLC0415  only who stages data needs it

    return stage(root, cache, settings)


def system_metrics() -> dict[str, float]:
    """Use of this machine: processors since the last call, memory now, and the memory of the process's GPU."""
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415  Ray brings it along
    import torch  # noqa: PLC0415

    cpu, memory, gpu = SYSTEM_METRICS
    used = {cpu: float(psutil.cpu_percent()), memory: psutil.virtual_memory().used / 1e6}
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        used[gpu] = (total - free) / 1e6
    return used
