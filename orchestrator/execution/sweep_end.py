"""End of a driver's work: what is left to do, the events that record the end, and the error that reports it."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from orchestrator.decisions.promotion import next_step
from orchestrator.errors import Interrupted, RayLost, StorageError, SweepLocked
from orchestrator.orders.book import book_of, unanswered
from orchestrator.state.events import SweepEnded, TrialEnded
from orchestrator.state.sweep_folder import reference

if TYPE_CHECKING:
    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.execution.checkpoints.retention import CheckpointRetention
    from orchestrator.execution.signals import Leave
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_state import SweepState


def has_orders(folder: SweepFolder, state: SweepState) -> bool:
    """Return True if an order is left to answer or to carry out; those that cannot be read delay no sweep."""
    if state.to_stop or state.to_reopen:
        return True
    with suppress(StorageError):  # the order desk warns
        return any(True for _ in unanswered(book_of(folder), state.orders))
    return False


def has_work(decisions: DecisionState, *, now: float) -> bool:
    """Return True if a trial is left to run."""
    if decisions.state.with_status("waiting", "running", "interrupted"):
        return True
    return decisions.budget.unstarted(now=now) > 0 or next_step(decisions, now=now) is not None


def close(
    decisions: DecisionState,
    store: EventStore,
    retention: CheckpointRetention,
    *,
    leave: Leave | None,
    crash: str | None,
    is_unfinished: bool,
) -> None:
    """Record the end: running trials are interrupted until the sweep resumes; paused ones stop if it is finished.

    No scheduler is asked here, so that no error of a user's own one can keep the end from the log.
    """
    now, state = time.time(), store.state
    with store.lock:  # Tune's thread may be in the middle of an event; it appends none after the end
        reason = "the driver was stopped" if leave is None else leave.reason
        for trial in state.with_status("running"):
            store.append(TrialEnded(time=now, trial=trial.id, status="interrupted", reason=reason))
        if not is_unfinished:
            for trial in state.with_status("paused"):
                store.append(TrialEnded(time=now, trial=trial.id, status="stopped", rung=trial.stopping_rung))
        retention.serve()
        store.append(_end_of(decisions, now=now, leave=leave, crash=crash, is_unfinished=is_unfinished))


def _end_of(
    decisions: DecisionState, *, now: float, leave: Leave | None, crash: str | None, is_unfinished: bool
) -> SweepEnded:
    plan, state = decisions.plan, decisions.state
    failed, allowed = len(state.with_status("failed")), plan.spec.failures.allowed
    if crash is not None:
        return SweepEnded(time=now, status="failed", reason=crash)
    if leave is not None:
        return SweepEnded(time=now, status="interrupted", reason=leave.reason)
    if is_unfinished:
        return SweepEnded(time=now, status="interrupted")
    if failed > allowed:
        return SweepEnded(time=now, status="failed", reason=f"{failed} trials failed, failures.allowed is {allowed}")
    is_spent = (plan.pauses or decisions.is_seeded) and decisions.budget.is_spent(now=now)
    short = len(decisions.searched.trials) < plan.spec.search.num_trials or is_spent
    return SweepEnded(time=now, status="completed", reason="its budget is spent" if short else None)


def raise_if_interrupted(state: SweepState, folder: SweepFolder, leave: Leave | None, *, is_lost: bool) -> None:
    """Return if the sweep has run to its end.

    Raises:
        SweepLocked: the lock is lost.
        RayLost: Ray died.
        Interrupted: it was stopped.
    """
    if is_lost:
        raise SweepLocked(
            f"{folder.sweep}: this driver sent no heartbeat for too long, and another driver took the sweep over; what "
            f"this driver measured since then is discarded; see `ravel status {reference(folder)}`"
        )
    if state.ended is not None and state.ended.status == "interrupted":
        remedy = f"nothing measured is lost. Continue with: ravel resume {reference(folder)}"
        if leave is not None and leave.cause == "ray":
            raise RayLost(f"{leave.reason}; the sweep was interrupted, {remedy}")
        what = leave.reason if leave is not None and leave.cause == "order" else "interrupted"
        raise Interrupted(f"{what}; {remedy}")
