"""The trainables of a sweep's trials: what lies in S3 is brought to the worker's machine first.

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
import time
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.backoff import JITTER, pause_s
from orchestrator.errors import ObjectMissing, StorageError
from orchestrator.state.s3_mirror import download_folder
from orchestrator.storage.locations import is_remote
from orchestrator.storage.s3 import Bucket, Location, Settings
from trainables.config.trial import DataConfig
from trainables.data import cache_folder
from trainables.engine import checkpoint as state
from trainables.errors import CheckpointError
from trainables.metrics import SYSTEM_METRICS
from trainables.tasks.registry import CLASSIFIER, GAN, TASK
from trainables.tune import ClassifierTrainable, GanTrainable, TrialTrainable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from random import Random

T = TypeVar("T")
logger = logging.getLogger(__name__)
PATIENCE_S = 600.0
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 30.0


class OnWorker(TrialTrainable):
    """Trains one trial of a sweep, whatever it is.

    While S3 is away, it waits. What it cannot get even so ends the attempt, and Tune tries again.
    """

    _fetched: Path | None = None
    _measures_system = False
    _told_no_system = False

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
            event["metrics"].update(self._system_metrics())
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
        local = {name: value for name, value in config.items() if name != TASK}  # said by the class
        if isinstance(start, list):
            local["ravel.checkpoint"] = self._first_readable(start, settings)
        if root is not None and is_remote(root):
            cache = cache_folder(DataConfig(cache=config.get("data.cache")))
            local["data.root"] = str(patiently(partial(_staged, root, cache, settings)))
        return local

    def _first_readable(self, checkpoints: Iterable[str], settings: Settings) -> str | None:
        for uri in checkpoints:
            self._forget()
            self._fetched = fetched = Path(tempfile.mkdtemp(prefix="ravel-checkpoint-"))
            source = Bucket(Location.parse(uri), settings)
            patiently(partial(download_folder, source, fetched))
            try:
                state.load(fetched)
            except CheckpointError as error:
                logger.warning("%s: %s; an older one is used", uri, error)
            else:
                return str(fetched)
        return None

    def _system_metrics(self) -> dict[str, float]:
        """How the machine is used; nothing where it cannot be measured, which must not cost the epoch."""
        try:
            return system_metrics()
        except Exception as error:  # noqa: BLE001  whatever a driver of the machine raises
            if not self._told_no_system:
                logger.warning("the machine is not measured (%s: %s); epochs go without", type(error).__name__, error)
            self._told_no_system = True
            return {}

    def _forget(self) -> None:
        if self._fetched is not None:
            shutil.rmtree(self._fetched, ignore_errors=True)
            self._fetched = None


class SweepTrainable(OnWorker, ClassifierTrainable):
    """Trains one classifier of a sweep."""


class SweepGanTrainable(OnWorker, GanTrainable):
    """Trains one generative adversarial network of a sweep."""


TRAINABLES: Mapping[str, type[OnWorker]] = MappingProxyType(
    {CLASSIFIER.name: SweepTrainable, GAN.name: SweepGanTrainable}
)
"""By task."""


def patiently(
    fetch: Callable[[], T],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    rng: Random = JITTER,
) -> T:
    """What ``fetch`` returns, tried again with growing pauses while S3 is away.

    Args:
        fetch: may be called again after it failed.
        clock: seconds that never go back.
        sleep: waits so many of them.
        rng: source of the jitter of the pauses.

    Raises:
        ObjectMissing: at once, since waiting brings nothing back.
        StorageError: S3 was away for longer than ``PATIENCE_S``.
    """
    deadline, failures = clock() + PATIENCE_S, 0
    while True:
        try:
            return fetch()
        except ObjectMissing:
            raise
        except StorageError as error:
            left_s = deadline - clock()
            if left_s <= 0:
                raise
            failures += 1
            if failures == 1:
                logger.warning("%s; waiting, for up to %.0f s", error, PATIENCE_S)
        sleep(min(left_s, pause_s(failures, shortest_s=SHORTEST_PAUSE_S, longest_s=LONGEST_PAUSE_S, rng=rng)))


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
