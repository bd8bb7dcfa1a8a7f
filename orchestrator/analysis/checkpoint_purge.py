"""Purge of checkpoints: drop by hand those of a sweep without a driver, all but the best trials' own.

Those that killed drivers left, and that no event names, go with them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.decisions.retention import RetentionIndex
from orchestrator.errors import OrchestratorError, SweepLocked
from orchestrator.execution.checkpoints.deletion import all_dropped, delete, left_over
from orchestrator.execution.checkpoints.orphans import orphans
from orchestrator.formatting import shown_bytes
from orchestrator.orders.order import author
from orchestrator.planning.changes.original import require_original
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import CheckpointsDropped
from orchestrator.state.s3_mirror import Mirror, pull
from orchestrator.state.sweep_folder import reference, require_writable
from orchestrator.state.sweep_lock import acquire, is_held
from orchestrator.state.sweep_state import SweepState

if TYPE_CHECKING:
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_folder import SweepFolder

MAX_NAMED = 10


@dataclass(frozen=True)
class CheckpointPurge:
    """Checkpoints to drop: the trials that lose theirs, those that keep theirs, and the size of what goes.

    ``num_orphans`` checkpoints that no event names go too; their size is not in that of the others.
    """

    dropped: tuple[str, ...]
    kept: tuple[str, ...]
    num_bytes: int
    num_orphans: int = 0
    orphan_bytes: int = 0

    @property
    def lines(self) -> list[str]:
        """Lines for confirmation."""
        size = f", {shown_bytes(self.num_bytes)}" if self.num_bytes else ""
        what = f"checkpoints of {len(self.dropped)} trials{size}: {_named(self.dropped)}" if self.dropped else "nothing"
        count = f"{self.num_orphans} checkpoint{'' if self.num_orphans == 1 else 's'}"
        left = f"to delete: {count} that a killed driver left, {shown_bytes(self.orphan_bytes)}: no event names them"
        kept = f"kept: those of {_named(self.kept)}" if self.kept else "kept: none"
        return [f"to delete: {what}", *([left] if self.num_orphans else []), kept]


def find(plan: SweepPlan, folder: SweepFolder, *, keep_best: int) -> CheckpointPurge:
    """Find the checkpoints to drop; change nothing.

    Raises:
        SweepCopied: the folder is a copy of the sweep's.
        SweepLocked: its driver runs.
        OrchestratorError: its driver was killed, or its log is damaged.
        OSError: a folder cannot be read.
        StorageError: the folder cannot be written, or S3 does not answer.
    """
    require_original(plan, folder)
    require_writable(folder, purpose="delete checkpoints")
    if is_held(folder):
        order = f"ravel extend {reference(folder)} --set storage.keep_best={keep_best}"
        raise SweepLocked(f"{folder.sweep}: its driver runs, and deletes checkpoints itself; order it to: {order}")
    state = _state_of(folder)
    dropped = tuple(RetentionIndex(state).droppable(plan.spec.objective, keep_best=keep_best))
    stored = [saved for name in dropped for saved in state.trials[name].stored]
    kept = tuple(trial.id for trial in state.trials.values() if trial.checkpoints and trial.id not in dropped)
    left = orphans(state, folder, now=time.time())
    return CheckpointPurge(dropped, kept, sum(saved.size_bytes or 0 for saved in stored), left.count, left.num_bytes)


def carry_out(plan: SweepPlan, folder: SweepFolder, *, keep_best: int, now: float | None = None) -> CheckpointPurge:
    """Drop checkpoints in the log, then delete them, and any that an earlier driver dropped or left.

    Raises:
        OrchestratorError, StorageError: as ``find``; after the log has it, a second call deletes the rest.
        OSError: a file cannot be deleted.
    """
    chosen = find(plan, folder, keep_best=keep_best)
    lock = acquire(folder)
    try:
        with lock.renewing(on_lost=lambda: None):  # checked below, before files go
            with EventLog(folder.events, generation=lock.generation) as log:
                for name in chosen.dropped:
                    time_ = time.time() if now is None else now
                    log.append(CheckpointsDropped(time=time_, trial=name, keep_best=keep_best, author=author()))
            if folder.remote is not None:
                Mirror(folder, folder.remote).catch_up()
            if lock.is_lost():
                raise SweepLocked(f"{folder.sweep}: another driver took it meanwhile; it deletes what is dropped")
            state = SweepState.read(folder.events)
            left = orphans(state, folder, now=time.time())
            delete(folder, [*left_over(folder, list(all_dropped(state, folder))), *left.attempts])
    finally:
        lock.release()
    return chosen


def _state_of(folder: SweepFolder) -> SweepState:
    pull(folder)
    state = SweepState.read(folder.events)
    if state.ended is None:
        remedy = f"ravel resume {reference(folder)}, and stop it again if it is to go no further"
        raise OrchestratorError(f"{folder.sweep}: must have ended, and its driver was killed; {remedy}")
    return state


def _named(trials: tuple[str, ...]) -> str:
    more = f" and {len(trials) - MAX_NAMED} more" if len(trials) > MAX_NAMED else ""
    return ", ".join(trials[:MAX_NAMED]) + more
