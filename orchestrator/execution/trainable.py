"""Trainable of a sweep's trials on Ray Tune: training as in any worker, checkpoints to where Tune keeps them.

A trial that was given several bundles has a worker in each: this one is rank 0, and the others are its `Peer`s.
"""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import StorageError
from orchestrator.execution.peers import Peers, nodes_of_reservation
from orchestrator.execution.trials.sweep_training import SweepTraining
from orchestrator.redaction import one_line
from orchestrator.storage.patience import patiently
from trainables.engine import checkpoint as checkpoints
from trainables.engine import process_group
from trainables.engine.share import Share
from trainables.trial_training import open_trial
from trainables.tune import TrialTrainable

if TYPE_CHECKING:
    from trainables.engine.epoch_loop import EpochLoop, TrialRun
    from trainables.engine.epoch_report import EpochReport

SIZE = "size_bytes"
"""Attribute of a checkpoint on its way from worker to driver: Tune hands its callbacks nothing else."""


class SweepTrainable(SweepTraining, TrialTrainable):
    """Trains one trial of a sweep, of any task.

    It waits while its checkpoints find no room. One that cannot be stored all the same ends the attempt, which the
    driver retries.
    """

    _peers: Peers | None = None

    def setup(self, config: dict[str, Any]) -> None:
        """Set up the process and the trial; SIGTERM ends it with its epoch."""
        if self.trial_resources is not None:  # in a worker of Tune
            self.leave_at_sigterm()
        super().setup(config)

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Save a checkpoint where the sweep is kept, and report its size; wait while S3 is away or a disk is full.

        Raises:
            StorageError: it could not be stored for longer than ``PATIENCE_S``.
            OSError: the place of the checkpoints is gone, or closed to this worker.
        """
        result = self._stored(checkpoint_dir)
        setattr(result.checkpoint, SIZE, self.saved_bytes)
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
