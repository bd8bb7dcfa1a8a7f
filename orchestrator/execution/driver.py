"""Driver: run the trials of a sweep, new or resumed, and record its end."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from orchestrator import timeouts
from orchestrator.decisions.trial_views import DecisionState
from orchestrator.errors import PreflightError
from orchestrator.execution import preflight, ray_session
from orchestrator.execution.checkpoints.retention import CheckpointRetention
from orchestrator.execution.cluster.addresses import kind_of
from orchestrator.execution.cluster.own_modules import code_changes
from orchestrator.execution.exporters import exporters_of, flush, lagging
from orchestrator.execution.order_desk import OrderDesk
from orchestrator.execution.processes import session as processes
from orchestrator.execution.processes.limits import check_unbatched
from orchestrator.execution.progress import ProgressCallback, notify
from orchestrator.execution.signals import Ended, Leave, StopSignals
from orchestrator.execution.sweep_end import close, has_orders, has_work, raise_if_interrupted
from orchestrator.execution.trials.loop_thread import LoopThread
from orchestrator.planning.batch_choice import batch_of, trials_at_once
from orchestrator.planning.changes.extension import in_force
from orchestrator.planning.changes.original import require_original
from orchestrator.planning.declared_metrics import declared_metrics
from orchestrator.planning.plan import SweepPlan, make_plan
from orchestrator.planning.provenance import code_folder, find_own_code
from orchestrator.planning.validation import check_spec
from orchestrator.state import sweep_lock
from orchestrator.state.event_log import EventLog
from orchestrator.state.event_store import EventStore
from orchestrator.state.events import SweepStarted
from orchestrator.state.s3_mirror import pull
from orchestrator.state.sweep_folder import SweepFolder, reference
from orchestrator.state.sweep_lookup import create_folder, new_id
from orchestrator.state.sweep_state import SweepState, missing_ends

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from orchestrator.execution.exporters import Exporter
    from orchestrator.execution.trials.session import Session
    from orchestrator.orders.acts import Workers
    from orchestrator.planning.plan import Parent
    from orchestrator.spec.model import SweepSpec

logger = logging.getLogger(__name__)
FLUSH_S = 60.0
FLUSH_INTERRUPTED_S = 4.0
LEAVE_LOOP_S = 2.0
"""Wait for the loop to end; it takes a tenth of a second, unless a call of Ray does not return."""
RELEASE_WORKERS_S = 15.0
_DRIVING = threading.Lock()
DriverResult: TypeAlias = tuple[SweepPlan, SweepState, SweepFolder]


def run_new(
    spec: SweepSpec,
    *,
    address: str,
    callback: ProgressCallback | None,
    sweep: str | None = None,
    parent: Parent | None = None,
) -> DriverResult:
    """Plan a new sweep and run it to its end; see ``orchestrator.launch``."""
    spec, callback, stop = check_spec(spec), callback or ProgressCallback(), StopSignals()
    with _only_driver_of_this_process(), stop.installed(), _opening(address, spec) as connected:
        preflight.check_here(spec, address=address)
        with connected(spec, Path.cwd(), callback, stop=stop) as session:
            gpus = session.capacity.gpus_per_trial(spec.resources)
            workers = session.capacity.slots(spec.resources, gpus)
            preflight.check_gpu_seconds(spec, gpus=gpus)
            choice = session.batch_choice(spec)
            folder = create_folder(spec.storage.uri, sweep or new_id(spec.name, now=datetime.now(UTC)))
            plan = make_plan(
                spec,
                folder,
                slots=trials_at_once(workers, batch_of(spec.resources, choice), spec.resources),
                batch_choice=choice,
                now=time.time(),
                working_directory=Path.cwd(),
                metrics=declared_metrics(spec),
                parent=parent,
            )
            plan.save(folder)
            with _locked(folder) as lock:
                decisions = DecisionState(plan, SweepState())
                return _drive(decisions, folder, lock=lock, session=session, stop=stop, callback=callback)


def run_remaining(
    folder: SweepFolder, *, address: str, callback: ProgressCallback | None, only_orders: bool = False
) -> DriverResult:
    """Run the rest of an interrupted or killed sweep; see ``orchestrator.resume``.

    With ``only_orders`` the orders are answered and recorded, and no trial runs.
    """
    plan, stop, callback = SweepPlan.load(folder), StopSignals(), callback or ProgressCallback()
    code_in = code_folder(plan.working_directory)
    require_original(plan, folder)
    find_own_code(plan.spec, Path(plan.working_directory))
    with _only_driver_of_this_process(), stop.installed(), _locked(folder) as lock, ExitStack() as stack:
        pull(folder)  # events that the last driver sent before it released its lock
        state = SweepState.read(folder.events)
        session, decisions = None, DecisionState(in_force(plan, state), state)
        is_unfinished = has_work(decisions, now=time.time()) or has_orders(folder, state)
        if is_unfinished and not only_orders:
            connected = stack.enter_context(_opening(address, plan.spec))
            # MLflow is not checked: if it is away, the exporter sends its events later.
            preflight.check(plan.spec, folder.uri.rpartition("/")[0], launched_from=Path(plan.working_directory))
            for line in code_changes(plan.provenance, plan.spec, code_in):
                logger.warning(line)
            session = stack.enter_context(connected(plan.spec, code_in, callback, stop=stop))
        return _drive(decisions, folder, lock=lock, session=session, stop=stop, callback=callback)


@contextmanager
def _opening(address: str, spec: SweepSpec) -> Iterator[Callable[..., AbstractContextManager[Session]]]:
    """Start what takes long and can start while the machine is checked; yield the function that opens the session.

    Raises:
        PreflightError: the spec asks for what worker processes, or those of Ray, cannot do.
    """
    if kind_of(address) != "processes":
        check_unbatched(spec.resources, address)
        yield partial(ray_session.connected, address)
        return
    with processes.pool_for(spec) as pool:
        yield partial(processes.connected, pool)


@contextmanager
def _only_driver_of_this_process() -> Iterator[None]:
    if not _DRIVING.acquire(blocking=False):
        reason = "this process runs a sweep already, and Ray allows one connection for each process"
        raise PreflightError([f"{reason}; run this one in another process, or when that sweep has ended"])
    try:
        yield
    finally:
        _DRIVING.release()


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
    session: Session | None,
    stop: StopSignals,
    callback: ProgressCallback,
) -> DriverResult:
    """Run the rest of a sweep, and leave it so that the next driver can continue."""
    stop.defer()
    leave, is_lost = None, threading.Event()

    def on_lost() -> None:
        is_lost.set()
        stop.inbox.put(Leave("lock", "another driver took the sweep over"))

    with ExitStack() as stack:
        stack.enter_context(lock.renewing(on_lost=on_lost))
        log = EventLog(folder.events, generation=lock.generation)
        store = EventStore(log, decisions.state, folds=(decisions,), listeners=(callback.on_event,))
        stack.callback(store.close)
        host, pid = socket.gethostname(), os.getpid()
        store.append(SweepStarted(time=time.time(), generation=lock.generation, host=host, pid=pid))
        for end in missing_ends(store.state, pauses=decisions.plan.pauses, now=time.time()):
            store.append(end)
        desk = OrderDesk(folder, decisions, store, leave=stop.inbox.put)
        desk.open()
        exporters = exporters_of(decisions.plan, folder)
        retention = CheckpointRetention.of_driver(decisions, store, folder, exporters=exporters, is_lost=lock.is_lost)
        retention.open()
        for exporter in exporters.values():
            exporter.start()
        notify(callback.on_start, decisions.plan, store, lambda: lagging(exporters, store.state.num_events))
        crash, is_unfinished = None, True
        try:
            leave = _run_trials(
                decisions, store, folder, session=session, stop=stop, stack=stack, desk=desk, retention=retention
            )
            is_unfinished = leave is not None or has_work(decisions, now=time.time())
        except BaseException as error:
            crash = f"{type(error).__name__}: {error}"
            raise
        finally:
            notify(callback.on_end)
            if is_lost.is_set():
                retention.cancel()
                for exporter in exporters.values():
                    exporter.cancel()
            else:
                close(decisions, store, retention, leave=leave, crash=crash, is_unfinished=is_unfinished)
                for name, reason in _flush(exporters, stop, leave):
                    logger.warning(
                        "%s lags (%s); later: ravel sync %s", name, reason or "not waited for", reference(folder)
                    )
                _finish_deletions(retention, stop, leave)
    raise_if_interrupted(store.state, folder, leave, is_lost=is_lost.is_set())
    return decisions.plan, store.state, folder


def _run_trials(
    decisions: DecisionState,
    store: EventStore,
    folder: SweepFolder,
    *,
    session: Session | None,
    stop: StopSignals,
    stack: ExitStack,
    desk: OrderDesk,
    retention: CheckpointRetention,
) -> Leave | None:
    """Run trials until all are over; return the reason if the driver must leave before.

    The thread that runs them ends with the ``stack``: it releases its workers while the exporters send the last events.
    """
    if session is None or not stop.inbox.empty():
        return _leave_of(None if stop.inbox.empty() else stop.inbox.get(), session)

    def serve(workers: Workers) -> None:
        desk.serve(workers)
        retention.serve()

    def loop(before_step: Callable[[], None]) -> None:
        session.run_trials(decisions, store, folder, before_step=before_step, orders=serve)

    thread = LoopThread(loop, on_end=lambda error: stop.inbox.put(Ended(error)))
    with session.watching(lambda reason: stop.inbox.put(Leave("ray", reason))), desk.reading():
        thread.start()
        leave = _leave_of(stop.inbox.get(), session)
    if leave is not None:
        thread.leave(releasing_workers=leave.cause != "ray", timeout_s=LEAVE_LOOP_S)
        stack.callback(_join, thread, session, stop)
    return leave


def _leave_of(message: Leave | Ended | None, session: Session | None) -> Leave | None:
    """Return the reason to leave in a message, or raise its error, unless the error is that Ray is gone."""
    if not isinstance(message, Ended):
        return message
    if message.error is None:
        return None
    reason = None if session is None else session.loss()
    if reason is None:
        raise message.error
    return Leave("ray", reason)


def _join(thread: LoopThread, session: Session, stop: StopSignals) -> None:
    with suppress(KeyboardInterrupt), stop.skippable():
        timeouts.ends(thread, RELEASE_WORKERS_S)
    if thread.is_alive():
        session.abandon()


def _flush(exporters: dict[str, Exporter], stop: StopSignals, leave: Leave | None) -> list[tuple[str, str | None]]:
    """Send the last events; return the name and error of each exporter that lags. Each signal shortens the wait."""
    timeouts_s = (FLUSH_S, FLUSH_INTERRUPTED_S) if leave is None or leave.cause == "ray" else (FLUSH_INTERRUPTED_S,)
    for timeout_s in timeouts_s:
        with suppress(KeyboardInterrupt), stop.skippable():
            return list(flush(exporters, timeout_s=timeout_s, progressing=leave is None and timeout_s == FLUSH_S))
    return list(flush(exporters, timeout_s=0.0))


def _finish_deletions(retention: CheckpointRetention, stop: StopSignals, leave: Leave | None) -> None:
    """Wait for the deletion of dropped checkpoints, for a limited time that a signal ends."""
    with suppress(KeyboardInterrupt), stop.skippable():
        retention.finish(timeout_s=FLUSH_S if leave is None else FLUSH_INTERRUPTED_S)
    retention.warn_of_rest()
