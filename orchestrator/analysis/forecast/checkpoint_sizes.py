"""Sizes of a sweep's checkpoints: now, at its end, and at most on the way, from what its log has."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from orchestrator.decisions.retention import most_stored, num_stored
from orchestrator.formatting import shown_bytes
from orchestrator.state.sweep_state import OVER

if TYPE_CHECKING:
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_state import SweepState, Trial


@dataclass(frozen=True, slots=True)
class CheckpointSizes:
    """Sizes of the checkpoints of a sweep; null where the log has no size, as older ones.

    ``at_most_bytes`` is the largest size until the end; ``free_bytes`` is the room on the sweep's disk, null in S3.
    """

    trials: int
    now_bytes: float | None
    at_end_bytes: float | None
    at_most_bytes: float | None
    free_bytes: int | None = None

    @property
    def is_too_large(self) -> bool:
        """True if the disk has less room than the sweep will take."""
        if self.now_bytes is None or self.at_most_bytes is None or self.free_bytes is None:
            return False
        return self.at_most_bytes - self.now_bytes > self.free_bytes

    def as_json(self) -> dict[str, Any]:
        """Return plain data for ``--json``, in whole bytes."""
        return {name: None if value is None else round(value) for name, value in asdict(self).items()}


def checkpoint_sizes(
    plan: SweepPlan, state: SweepState, *, is_finished: bool, free: int | None = None
) -> CheckpointSizes:
    """Return the sizes of a sweep's checkpoints.

    The forecast takes trials to come to be as large as those that left their worker so far were on average.

    Args:
        plan: Plan in force.
        state: State of the sweep.
        is_finished: True if nothing is left to run.
        free: Free bytes on the disk of the sweep.
    """
    known = [saved.size_bytes for trial in state.trials.values() for saved in trial.stored if saved.size_bytes]
    if not known:
        with_some = sum(bool(trial.stored) for trial in state.trials.values())
        empty = None if with_some else 0.0
        return CheckpointSizes(with_some, empty, empty if is_finished else None, empty if is_finished else None, free)
    mean = fmean(known)
    sizes = {name: _size(trial, mean) for name, trial in state.trials.items() if trial.stored}
    now = sum(sizes.values())
    if is_finished:
        return CheckpointSizes(len(sizes), now, now, now, free)
    left = [size for name, size in sizes.items() if state.trials[name].status in OVER | {"paused"}]
    typical, live = fmean(left or sizes.values()), len(state.with_status("running", "waiting", "interrupted"))
    search, keep_best = plan.spec.search, plan.spec.storage.keep_best
    num_trials = search.num_trials * search.seeds
    most = most_stored(num_trials, keep_best=keep_best, pauses=plan.pauses, live=live) * typical
    if keep_best is None:
        to_come = [typical] * (num_trials - len(sizes))
        at_end = now + sum(to_come)
        most = at_end
    else:
        at_end = num_stored(num_trials, keep_best=keep_best) * typical
    return CheckpointSizes(len(sizes), now, at_end, max(now, most), free)


def free_on_disk(folder: SweepFolder) -> int | None:
    """Return the free room on the disk of a sweep; None for one in S3, or if the disk does not say."""
    if folder.remote is not None:
        return None
    try:
        return shutil.disk_usage(folder.path).free
    except OSError:
        return None


def size_line(sizes: CheckpointSizes) -> str | None:
    """Return the sizes in one line; None before there is one.

    >>> size_line(CheckpointSizes(trials=34, now_bytes=1.2e9, at_end_bytes=2.0e9, at_most_bytes=3.1e9))
    'checkpoints: 1.2 GB of 34 trials, about 2.0 GB at the end, up to 3.1 GB before'
    """
    if not sizes.trials:
        return None
    now, at_end, at_most = sizes.now_bytes, sizes.at_end_bytes, sizes.at_most_bytes
    if now is None:
        return f"checkpoints: of {sizes.trials} trials; the log of this sweep has no sizes yet"
    line = f"checkpoints: {shown_bytes(now)} of {sizes.trials} trials"
    if at_end is None or at_most is None or at_end == at_most == now:
        return line
    line += f", about {shown_bytes(at_end)} at the end"
    return line if at_most <= at_end else f"{line}, up to {shown_bytes(at_most)} before"


def room_line(sizes: CheckpointSizes, *, remedy: str) -> str | None:
    """Return a warning if the disk has less room than the sweep will take, else None."""
    if not sizes.is_too_large or sizes.free_bytes is None or sizes.at_most_bytes is None:
        return None
    return f"only {shown_bytes(sizes.free_bytes)} are free on its disk; {remedy}"


def _size(trial: Trial, mean: float) -> float:
    """Return the size of a trial's checkpoints; one that an older version saved is taken to be of mean size."""
    return sum(mean if saved.size_bytes is None else saved.size_bytes for saved in trial.stored)
