"""Driver: run the trials of a sweep, new or resumed, and record how it ended."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from orchestrator.decisions.promotion import next_turn
from orchestrator.errors import Interrupted, LeaseHeld
from orchestrator.execution import preflight
from orchestrator.execution import ray_cluster as cluster
from orchestrator.execution.exporters import behind, flush, followers_of
from orchestrator.execution.progress import Watch
from orchestrator.execution.signals import Stop
from orchestrator.planning import plan as planning
from orchestrator.planning.budget import is_spent, unstarted
from orchestrator.planning.plan import SweepPlan
from orchestrator.planning.validation import check_spec
from orchestrator.state import sweep_lock as lease
from orchestrator.state.event_log import EventLog
from orchestrator.state.event_store import Journal
from orchestrator.state.events import SweepEnded, SweepStarted, TrialEnded
from orchestrator.state.s3_mirror import pull
from orchestrator.state.sweep_folder import SweepFolder, reference
from orchestrator.state.sweep_lookup import create_folder
from orchestrator.state.sweep_state import SweepHistory, settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.spec.model import SweepSpec

logger = logging.getLogger(__name__)
FLUSH_S = 60.0
FLUSH_INTERRUPTED_S = 4.0
Driven: TypeAlias = tuple[SweepPlan, SweepHistory, SweepFolder]


def run_new(spec: SweepSpec, *, address: str, watch: Watch | None) -> Driven:
    """Plan a new sweep and run it to its end; see ``orchestrator.launch``."""
    spec = check_spec(spec)
    preflight.check_here(spec, address=address)
    stop = Stop()
    with stop.listening(), cluster.connect(address) as capacity:
        stop.listen_again()
        gpus = capacity.gpus_per_trial(spec.resources)
        slots = capacity.slots(spec.resources, gpus)
        preflight.check_gpu_seconds(spec, gpus=gpus)
        folder = create_folder(spec.storage.uri, spec.name, now=datetime.now(UTC))
        plan = planning.make(spec, folder, slots=slots, now=time.time(), working_directory=Path.cwd())
        plan.save(folder)
        with _holding(folder) as held:
            return _drive(plan, folder, held=held, capacity=capacity, stop=stop, watch=watch or Watch())


def run_remaining(folder: SweepFolder, *, address: str, watch: Watch | None) -> Driven:
    """Run what is left of an interrupted or killed sweep; see ``orchestrator.resume``."""
    plan, stop = SweepPlan.load(folder), Stop()
    with stop.listening(), _holding(folder) as held, ExitStack() as stack:
        pull(folder)  # what the last driver sent until it let go
        capacity = None
        if _has_work(plan, SweepHistory.read(folder.events), now=time.time()):
            launched_from = Path(plan.working_directory)
            kept_in = folder.uri.rpartition("/")[0]
            preflight.check(plan.spec, kept_in, launched_from=launched_from)  # MLflow may be away: it is sent later
            capacity = stack.enter_context(cluster.connect(address))
            stop.listen_again()
        return _drive(plan, folder, held=held, capacity=capacity, stop=stop, watch=watch or Watch())


@contextmanager
def _holding(folder: SweepFolder) -> Iterator[lease.Lease]:
    held = lease.acquire(folder)
    try:
        yield held
    finally:
        held.release()


def _drive(
    plan: SweepPlan,
    folder: SweepFolder,
    *,
    held: lease.Lease,
    capacity: cluster.Capacity | None,
    stop: Stop,
    watch: Watch,
) -> Driven:
    """Run what is left of a sweep, and leave it so that the next driver can go on."""
    with stop.waited_for(), ExitStack() as stack:
        lost = threading.Event()

        def leave() -> None:
            lost.set()
            stop.ask()

        stack.enter_context(held.renewing(on_lost=leave))
        log = EventLog(folder.events, generation=held.generation)
        journal = Journal(log, SweepHistory.read(folder.events), listeners=(watch.see,))
        stack.callback(journal.close)
        host, pid = socket.gethostname(), os.getpid()
        journal.append(SweepStarted(time=time.time(), generation=held.generation, host=host, pid=pid))
        for end in settle(journal.history, pauses=plan.pauses, now=time.time()):
            journal.append(end)
        followers = followers_of(plan, folder)
        for follower in followers.values():
            follower.start()
        watch.begin(plan, journal, lambda: behind(followers, journal.history.num_events))
        crash = None
        try:
            if capacity is not None and not stop.asked:
                _fit(plan, journal, folder, capacity=capacity, stop=stop)
        except BaseException as error:
            crash = f"{type(error).__name__}: {error}"
            raise
        finally:
            watch.end()
            if lost.is_set():
                for follower in followers.values():
                    follower.cancel()
            else:
                _close(plan, journal, interrupted=stop.asked, crash=crash)
                patience = FLUSH_INTERRUPTED_S if stop.asked else FLUSH_S
                for name, why in flush(followers, timeout_s=patience, progressing=not stop.asked):
                    logger.warning("%s is behind (%s); later: ravel sync %s", name, why, reference(folder))
    if lost.is_set():
        raise LeaseHeld(
            f"{folder.sweep}: this driver was silent for too long, and another took the sweep; it goes on there, "
            "without what this one measured since"
        )
    if journal.history.ended is not None and journal.history.ended.status == "interrupted":
        go_on = f"ravel resume {reference(folder)}"
        raise Interrupted(f"interrupted; nothing measured is lost. Go on with: {go_on}")
    return plan, journal.history, folder


def _fit(plan: SweepPlan, journal: Journal, folder: SweepFolder, *, capacity: cluster.Capacity, stop: Stop) -> None:
    try:
        from orchestrator.execution import tune_run as tuner  # noqa: PLC0415  imports Ray and torch: only a driver with work pays it

        with stop.passed_to_tune():
            if not stop.asked:
                tuner.fit(plan, journal, folder, capacity)
    except KeyboardInterrupt:
        if not stop.asked:
            raise


def _has_work(plan: SweepPlan, history: SweepHistory, *, now: float) -> bool:
    if history.with_status("waiting", "running", "interrupted"):
        return True
    left = unstarted(plan, history, now=now)
    return left > 0 or next_turn(history, plan, unstarted=left, now=now) is not None


def _close(plan: SweepPlan, journal: Journal, *, interrupted: bool, crash: str | None) -> None:
    """Write down how the driver left: trials still running are interrupted, and go on when the sweep is resumed."""
    now, history = time.time(), journal.history
    for trial in history.with_status("running"):
        journal.append(TrialEnded(time=now, trial=trial.id, status="interrupted", reason="the driver was stopped"))
    if crash is None and not _has_work(plan, history, now=now):
        for trial in history.with_status("paused"):
            journal.append(TrialEnded(time=now, trial=trial.id, status="stopped", rung=trial.stopping_rung))
    journal.append(_end_of(plan, history, now=now, interrupted=interrupted, crash=crash))


def _end_of(plan: SweepPlan, history: SweepHistory, *, now: float, interrupted: bool, crash: str | None) -> SweepEnded:
    failed, allowed = len(history.with_status("failed")), plan.spec.failures.allowed
    if crash is not None:
        return SweepEnded(time=now, status="failed", reason=crash)
    if interrupted or _has_work(plan, history, now=now):
        return SweepEnded(time=now, status="interrupted")
    if failed > allowed:
        return SweepEnded(time=now, status="failed", reason=f"{failed} trials failed, failures.allowed is {allowed}")
    short = len(history.trials) < plan.spec.search.num_trials or (plan.pauses and is_spent(plan, history, now=now))
    return SweepEnded(time=now, status="completed", reason="its budget is spent" if short else None)
