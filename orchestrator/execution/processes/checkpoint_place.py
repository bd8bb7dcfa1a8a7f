"""Place of a trial's checkpoints, as a worker process writes them: a folder, or a prefix in S3."""

from __future__ import annotations

import logging
import shutil
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import StorageError
from orchestrator.execution.cluster.local_data import settings_of
from orchestrator.redaction import one_line
from orchestrator.storage.locations import is_remote
from orchestrator.storage.patience import patiently
from orchestrator.storage.s3 import Bucket, Location

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.execution.trials.sweep_training import SweepTraining
    from orchestrator.storage.s3 import Settings

logger = logging.getLogger(__name__)
PARTIAL = ".partial"
"""End of the name of a checkpoint that is being written; it is renamed when it is whole."""


@dataclass(frozen=True)
class CheckpointPlace:
    """Way to the checkpoints of a trial; with S3 settings if they are kept there."""

    settings: Settings | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> CheckpointPlace:
        """Return the way to the checkpoints of the trial with a configuration."""
        return cls(settings_of(config))

    def store(self, training: SweepTraining, place: str) -> None:
        """Save a checkpoint at a place, whole or not at all; wait while S3 is away or a disk is full.

        Raises:
            StorageError: it could not be stored for longer than ``PATIENCE_S``.
            OSError: the place is gone, or closed to this worker.
        """
        patiently(partial(self._upload if is_remote(place) else _write, training, place))

    def drop(self, places: Iterable[str]) -> None:
        """Delete checkpoints; one that cannot be deleted takes room until ``ravel purge``."""
        for place in places:
            try:
                if is_remote(place):
                    self._bucket(place).delete_prefix()
                else:
                    shutil.rmtree(place)
            except FileNotFoundError:
                continue
            except (OSError, StorageError) as error:
                logger.warning("%s: an old checkpoint could not be deleted, it takes room (%s)", place, one_line(error))

    def _upload(self, training: SweepTraining, place: str) -> None:
        bucket = self._bucket(place)
        with tempfile.TemporaryDirectory(prefix="ravel-checkpoint-") as folder:
            training.save_checkpoint(folder)
            for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
                bucket.upload(path, path.relative_to(folder).as_posix())

    def _bucket(self, place: str) -> Bucket:
        return Bucket(Location.parse(place), self.settings)


def _write(training: SweepTraining, place: str) -> None:
    written = Path(f"{place}{PARTIAL}")
    try:
        shutil.rmtree(written, ignore_errors=True)
        written.mkdir()
        training.save_checkpoint(str(written))
        written.rename(place)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        raise
    except OSError as error:
        raise StorageError(f"a checkpoint cannot be stored: {one_line(error)}") from error
