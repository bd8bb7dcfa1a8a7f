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

from orchestrator.decisions.promotion import next_promotion
from orchestrator.errors import Interrupted, SweepLocked
from orchestrator.execution import preflight
from orchestrator.execution import ray_cluster as cluster
from orchestrator.execution.exporters import behind, exporters_of, flush
from orchestrator.execution.progress import ProgressCallback
from orchestrator.execution.signals import StopSignals
from orchestrator.planning.budget import is_spent, unstarted
from orchestrator.planning.plan import SweepPlan, make_plan
from orchestrator.planning.validation import check_spec
from orchestrator.state import sweep_lock as lease
from orchestrator.state.event_log import EventLog
from orchestrator.state.event_store import EventStore
from orchestrator.state.events import SweepEnded, SweepStarted, TrialEnded
from orchestrator.state.s3_mirror import pull
from orchestrator.state.sweep_folder import SweepFolder, reference
from orchestrator.state.sweep_lookup import create_folder
from orchestrator.state.sweep_state import SweepState, settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.spec.model import SweepSpec

logger = logging.getLogger(__name__)
FLUSH_S = 60.0
FLUSH_INTERRUPTED_S = 4.0
Driven: TypeAlias = tuple[SweepPlan, SweepState, SweepFolder]


def run_new(spec: SweepSpec, *, address: str, watch: ProgressCallback | None) -> Driven:
    """Plan a new sweep and run it to its end; see ``orchestrator.launch``."""
    spec = check_spec(spec)
    preflight.check_here(spec, address=address)
    stop = StopSignals()
    with stop.listening(), cluster.connect(address) as capacity:
        stop.listen_again()
        gpus = capacity.gpus_per_trial(spec.resources)
        slots = capacity.slots(spec.resources, gpus)
        preflight.check_gpu_seconds(spec, gpus=gpus)
        folder = create_folder(spec.storage.uri, spec.name, now=datetime.now(UTC))
        plan = make_plan(spec, folder, slots=slots, now=time.time(), working_directory=Path.cwd())
        plan.save(folder)
        with _holding(folder) as held:
            return _drive(plan, folder, held=held, capacity=capacity, stop=stop, watch=watch or ProgressCallback())


def run_remaining(folder: SweepFolder, *, address: str, watch: ProgressCallback | None) -> Driven:
    """Run what is left of an interrupted or killed sweep; see ``orchestrator.resume``."""
    plan, stop = SweepPlan.load(folder), StopSignals()
    with stop.listening(), _holding(folder) as held, ExitStack() as stack:
        pull(folder)  # what the last driver sent until it let go
        capacity = None
        if _has_work(plan, SweepState.read(folder.events), now=time.time()):
            launched_from = Path(plan.working_directory)
            kept_in = folder.uri.rpartition("/")[0]
            preflight.check(plan.spec, kept_in, launched_from=launched_from)  # MLflow may be away: it is sent later
            capacity = stack.enter_context(cluster.connect(address))
            stop.listen_again()
        return _drive(plan, folder, held=held, capacity=capacity, stop=stop, watch=watch or ProgressCallback())


@contextmanager
def _holding(folder: SweepFolder) -> Iterator[lease.SweepLock]:
    held = lease.acquire(folder)
    try:
        yield held
    finally:
        held.release()


def _drive(
    plan: SweepPlan,
    folder: SweepFolder,
    *,
    held: lease.SweepLock,
    capacity: cluster.Capacity | None,
    stop: StopSignals,
    watch: ProgressCallback,
) -> Driven:
    """Run what is left of a sweep, and leave it so that the next driver can go on."""
    with stop.waited_for(), ExitStack() as stack:
        lost = threading.Event()

        def leave() -> None:
            lost.set()
            stop.ask()

        stack.enter_context(held.renewing(on_lost=leave))
        log = EventLog(folder.events, generation=held.generation)
        store = EventStore(log, SweepState.read(folder.events), listeners=(watch.see,))
        stack.callback(store.close)
        host, pid = socket.gethostname(), os.getpid()
        store.append(SweepStarted(time=time.time(), generation=held.generation, host=host, pid=pid))
        for end in settle(store.state, pauses=plan.pauses, now=time.time()):
            store.append(end)
        exporters = exporters_of(plan, folder)
        for exporter in exporters.values():
            exporter.start()
        watch.begin(plan, store, lambda: behind(exporters, store.state.num_events))
        crash = None
        try:
            if capacity is not None and not stop.asked:
                _fit(plan, store, folder, capacity=capacity, stop=stop)
        except BaseException as error:
            crash = f"{type(error).__name__}: {error}"
            raise
        finally:
            watch.end()
            if lost.is_set():
                for exporter in exporters.values():
                    exporter.cancel()
            else:
                _close(plan, store, interrupted=stop.asked, crash=crash)
                patience = FLUSH_INTERRUPTED_S if stop.asked else FLUSH_S
                for name, why in flush(exporters, timeout_s=patience, progressing=not stop.asked):
                    logger.warning("%s is behind (%s); later: ravel sync %s", name, why, reference(folder))
    if lost.is_set():
        raise SweepLocked(
            f"{folder.sweep}: this driver was silent for too long, and another took the sweep; it goes on there, "
            "without what this one measured since"
        )
    if store.state.ended is not None and store.state.ended.status == "interrupted":
        go_on = f"ravel resume {reference(folder)}"
        raise Interrupted(f"interrupted; nothing measured is lost. Go on with: {go_on}")
    return plan, store.state, folder


def _fit(
    plan: SweepPlan, store: EventStore, folder: SweepFolder, *, capacity: cluster.Capacity, stop: StopSignals
) -> None:
    try:
        from orchestrator.execution import tune_run as tuner  # noqa: PLC0415  imports Ray and torch: only a driver with work pays it

        with stop.passed_to_tune():
            if not stop.asked:
                tuner.fit(plan, store, folder, capacity)
    except KeyboardInterrupt:
        if not stop.asked:
            raise


def _has_work(plan: SweepPlan, state: SweepState, *, now: float) -> bool:
    if state.with_status("waiting", "running", "interrupted"):
        return True
    left = unstarted(plan, state, now=now)
    return left > 0 or next_promotion(state, plan, unstarted=left, now=now) is not None


def _close(plan: SweepPlan, store: EventStore, *, interrupted: bool, crash: str | None) -> None:
    """Write down how the driver left: trials still running are interrupted, and go on when the sweep is resumed."""
    now, state = time.time(), store.state
    for trial in state.with_status("running"):
        store.append(TrialEnded(time=now, trial=trial.id, status="interrupted", reason="the driver was stopped"))
    if crash is None and not _has_work(plan, state, now=now):
        for trial in state.with_status("paused"):
            store.append(TrialEnded(time=now, trial=trial.id, status="stopped", rung=trial.stopping_rung))
    store.append(_end_of(plan, state, now=now, interrupted=interrupted, crash=crash))


def _end_of(plan: SweepPlan, state: SweepState, *, now: float, interrupted: bool, crash: str | None) -> SweepEnded:
    failed, allowed = len(state.with_status("failed")), plan.spec.failures.allowed
    if crash is not None:
        return SweepEnded(time=now, status="failed", reason=crash)
    if interrupted or _has_work(plan, state, now=now):
        return SweepEnded(time=now, status="interrupted")
    if failed > allowed:
        return SweepEnded(time=now, status="failed", reason=f"{failed} trials failed, failures.allowed is {allowed}")
    short = len(state.trials) < plan.spec.search.num_trials or (plan.pauses and is_spent(plan, state, now=now))
    return SweepEnded(time=now, status="completed", reason="its budget is spent" if short else None)
