"""Driver: run the trials of a sweep, new or resumed, and record its end."""

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

from orchestrator.decisions.promotion import next_promotion
from orchestrator.decisions.trial_views import DecisionState
from orchestrator.errors import Interrupted, SweepLocked
from orchestrator.execution import preflight, ray_cluster
from orchestrator.execution.exporters import exporters_of, flush, lagging
from orchestrator.execution.progress import ProgressCallback, notify
from orchestrator.execution.signals import StopSignals
from orchestrator.planning.original import require_original
from orchestrator.planning.plan import SweepPlan, make_plan
from orchestrator.planning.validation import check_spec
from orchestrator.state import sweep_lock
from orchestrator.state.event_log import EventLog
from orchestrator.state.event_store import EventStore
from orchestrator.state.events import SweepEnded, SweepStarted, TrialEnded
from orchestrator.state.s3_mirror import pull
from orchestrator.state.sweep_folder import SweepFolder, reference
from orchestrator.state.sweep_lookup import create_folder
from orchestrator.state.sweep_state import SweepState, missing_ends

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.spec.model import SweepSpec

logger = logging.getLogger(__name__)
FLUSH_S = 60.0
FLUSH_INTERRUPTED_S = 4.0
DriverResult: TypeAlias = tuple[SweepPlan, SweepState, SweepFolder]


def run_new(spec: SweepSpec, *, address: str, callback: ProgressCallback | None) -> DriverResult:
    """Plan a new sweep and run it to its end; see ``orchestrator.launch``."""
    spec = check_spec(spec)
    preflight.check_here(spec, address=address)
    callback = callback or ProgressCallback()
    notify(callback.on_connect, address)
    stop = StopSignals()
    with stop.installed(), ray_cluster.connect(address) as capacity:
        stop.install()
        gpus = capacity.gpus_per_trial(spec.resources)
        slots = capacity.slots(spec.resources, gpus)
        preflight.check_gpu_seconds(spec, gpus=gpus)
        folder = create_folder(spec.storage.uri, spec.name, now=datetime.now(UTC))
        plan = make_plan(spec, folder, slots=slots, now=time.time(), working_directory=Path.cwd())
        plan.save(folder)
        with _locked(folder) as lock:
            decisions = DecisionState(plan, SweepState())
            return _drive(decisions, folder, lock=lock, capacity=capacity, stop=stop, callback=callback)


def run_remaining(folder: SweepFolder, *, address: str, callback: ProgressCallback | None) -> DriverResult:
    """Run the rest of an interrupted or killed sweep; see ``orchestrator.resume``."""
    plan, stop, callback = SweepPlan.load(folder), StopSignals(), callback or ProgressCallback()
    require_original(plan, folder)
    with stop.installed(), _locked(folder) as lock, ExitStack() as stack:
        pull(folder)  # events that the last driver sent before it released its lock
        capacity, decisions = None, DecisionState(plan, SweepState.read(folder.events))
        if _has_work(decisions, now=time.time()):
            # MLflow is not checked: if it is away, the exporter sends its events later.
            preflight.check(plan.spec, folder.uri.rpartition("/")[0], launched_from=Path(plan.working_directory))
            notify(callback.on_connect, address)
            capacity = stack.enter_context(ray_cluster.connect(address))
            stop.install()
        return _drive(decisions, folder, lock=lock, capacity=capacity, stop=stop, callback=callback)


@contextmanager
def _locked(folder: SweepFolder) -> Iterator[sweep_lock.SweepLock]:
    lock = sweep_lock.acquire(folder)
    try:
        yield lock
    finally:
        lock.release()


def _drive(
    decisions: DecisionState,
    folder: SweepFolder,
    *,
    lock: sweep_lock.SweepLock,
    capacity: ray_cluster.Capacity | None,
    stop: StopSignals,
    callback: ProgressCallback,
) -> DriverResult:
    """Run the rest of a sweep, and leave it so that the next driver can continue."""
    plan = decisions.plan
    with stop.deferred(), ExitStack() as stack:
        lost = threading.Event()

        def on_lost() -> None:
            lost.set()
            stop.request()

        stack.enter_context(lock.renewing(on_lost=on_lost))
        log = EventLog(folder.events, generation=lock.generation)
        store = EventStore(log, decisions.state, folds=(decisions,), listeners=(callback.on_event,))
        stack.callback(store.close)
        host, pid = socket.gethostname(), os.getpid()
        store.append(SweepStarted(time=time.time(), generation=lock.generation, host=host, pid=pid))
        for end in missing_ends(store.state, pauses=plan.pauses, now=time.time()):
            store.append(end)
        exporters = exporters_of(plan, folder)
        for exporter in exporters.values():
            exporter.start()
        notify(callback.on_start, plan, store, lambda: lagging(exporters, store.state.num_events))
        crash = None
        try:
            if capacity is not None and not stop.requested:
                _fit(decisions, store, folder, capacity=capacity, stop=stop)
        except BaseException as error:
            crash = f"{type(error).__name__}: {error}"
            raise
        finally:
            notify(callback.on_end)
            if lost.is_set():
                for exporter in exporters.values():
                    exporter.cancel()
            else:
                _close(decisions, store, interrupted=stop.requested, crash=crash)
                timeout_s = FLUSH_INTERRUPTED_S if stop.requested else FLUSH_S
                for name, reason in flush(exporters, timeout_s=timeout_s, progressing=not stop.requested):
                    logger.warning("%s lags (%s); later: ravel sync %s", name, reason, reference(folder))
    if lost.is_set():
        raise SweepLocked(
            f"{folder.sweep}: this driver sent no heartbeat for too long, and another driver took the sweep over; what "
            f"this driver measured since then is discarded; see `ravel status {reference(folder)}`"
        )
    if store.state.ended is not None and store.state.ended.status == "interrupted":
        command = f"ravel resume {reference(folder)}"
        raise Interrupted(f"interrupted; nothing measured is lost. Continue with: {command}")
    return plan, store.state, folder


def _fit(
    decisions: DecisionState,
    store: EventStore,
    folder: SweepFolder,
    *,
    capacity: ray_cluster.Capacity,
    stop: StopSignals,
) -> None:
    try:
        from orchestrator.execution import tune_run  # noqa: PLC0415  imports Ray and torch, for drivers with work only

        with stop.forwarded_to_tune():
            if not stop.requested:
                tune_run.fit(decisions, store, folder, capacity)
    except KeyboardInterrupt:
        if not stop.requested:
            raise


def _has_work(decisions: DecisionState, *, now: float) -> bool:
    if decisions.state.with_status("waiting", "running", "interrupted"):
        return True
    return decisions.budget.unstarted(now=now) > 0 or next_promotion(decisions, now=now) is not None


def _close(decisions: DecisionState, store: EventStore, *, interrupted: bool, crash: str | None) -> None:
    """Record the end: running trials are interrupted until the sweep resumes; paused ones stop if it is finished."""
    now, state = time.time(), store.state
    for trial in state.with_status("running"):
        store.append(TrialEnded(time=now, trial=trial.id, status="interrupted", reason="the driver was stopped"))
    if crash is None and not _has_work(decisions, now=now):
        for trial in state.with_status("paused"):
            store.append(TrialEnded(time=now, trial=trial.id, status="stopped", rung=trial.stopping_rung))
    store.append(_end_of(decisions, now=now, interrupted=interrupted, crash=crash))


def _end_of(decisions: DecisionState, *, now: float, interrupted: bool, crash: str | None) -> SweepEnded:
    plan, state = decisions.plan, decisions.state
    failed, allowed = len(state.with_status("failed")), plan.spec.failures.allowed
    if crash is not None:
        return SweepEnded(time=now, status="failed", reason=crash)
    if interrupted or _has_work(decisions, now=now):
        return SweepEnded(time=now, status="interrupted")
    if failed > allowed:
        return SweepEnded(time=now, status="failed", reason=f"{failed} trials failed, failures.allowed is {allowed}")
    short = len(state.trials) < plan.spec.search.num_trials or (plan.pauses and decisions.budget.is_spent(now=now))
    return SweepEnded(time=now, status="completed", reason="its budget is spent" if short else None)
