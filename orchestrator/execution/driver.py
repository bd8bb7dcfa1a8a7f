"""Driver: run the trials of a sweep, new or resumed, and record its end."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from orchestrator.decisions.promotion import next_promotion
from orchestrator.decisions.trial_views import DecisionState
from orchestrator.errors import Interrupted, PreflightError, RayLost, SweepLocked
from orchestrator.execution import preflight, ray_cluster, ray_watch
from orchestrator.execution.cluster import node_checks
from orchestrator.execution.exporters import exporters_of, flush, lagging
from orchestrator.execution.order_desk import OrderDesk
from orchestrator.execution.progress import ProgressCallback, notify
from orchestrator.execution.signals import Ended, Leave, StopSignals
from orchestrator.orders.book import book_of, unanswered
from orchestrator.planning.declared_metrics import declared_metrics
from orchestrator.planning.extension import in_force
from orchestrator.planning.original import require_original
from orchestrator.planning.own_modules import code_changes, own_modules
from orchestrator.planning.plan import SweepPlan, make_plan
from orchestrator.planning.provenance import code_folder, find_own_code
from orchestrator.planning.validation import check_spec
from orchestrator.state import sweep_lock
from orchestrator.state.event_log import EventLog
from orchestrator.state.event_store import EventStore
from orchestrator.state.events import SweepEnded, SweepStarted, TrialEnded
from orchestrator.state.s3_mirror import pull
from orchestrator.state.sweep_folder import SweepFolder, reference
from orchestrator.state.sweep_lookup import create_folder, new_id
from orchestrator.state.sweep_state import SweepState, missing_ends

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.execution.cluster.capacity import Capacity
    from orchestrator.execution.exporters import Exporter
    from orchestrator.execution.tune.thread import FitThread
    from orchestrator.planning.plan import Parent
    from orchestrator.spec.model import SweepSpec

logger = logging.getLogger(__name__)
FLUSH_S = 60.0
FLUSH_INTERRUPTED_S = 4.0
LEAVE_LOOP_S = 2.0
"""Wait for Tune to leave its loop; it takes a tenth of a second, unless a call of Ray does not return."""
RELEASE_ACTORS_S = 15.0
DISCONNECT_S = 20.0
_DRIVING = threading.Lock()
DriverResult: TypeAlias = tuple[SweepPlan, SweepState, SweepFolder]


@dataclass(frozen=True)
class RaySession:
    """Connection to Ray: what the cluster has, and the servers without which the driver cannot continue."""

    capacity: Capacity
    servers: tuple[ray_watch.Server, ...]


def run_new(
    spec: SweepSpec,
    *,
    address: str,
    callback: ProgressCallback | None,
    sweep: str | None = None,
    parent: Parent | None = None,
) -> DriverResult:
    """Plan a new sweep and run it to its end; see ``orchestrator.launch``."""
    with _only_driver_of_this_process():
        spec = check_spec(spec)
        preflight.check_here(spec, address=address)
        callback = callback or ProgressCallback()
        stop = StopSignals()
        with stop.installed(), _connected(address, spec, Path.cwd(), callback) as session:
            stop.install()
            gpus = session.capacity.gpus_per_trial(spec.resources)
            slots = session.capacity.slots(spec.resources, gpus)
            preflight.check_gpu_seconds(spec, gpus=gpus)
            folder = create_folder(spec.storage.uri, sweep or new_id(spec.name, now=datetime.now(UTC)))
            plan = make_plan(
                spec,
                folder,
                slots=slots,
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
        has_work = _has_work(decisions, now=time.time()) or _has_orders(folder, state)
        if has_work and not only_orders:
            # MLflow is not checked: if it is away, the exporter sends its events later.
            preflight.check(plan.spec, folder.uri.rpartition("/")[0], launched_from=Path(plan.working_directory))
            for line in code_changes(plan.provenance, plan.spec, code_in):
                logger.warning(line)
            session = stack.enter_context(_connected(address, plan.spec, code_in, callback))
            stop.install()
        return _drive(decisions, folder, lock=lock, session=session, stop=stop, callback=callback)


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
def _connected(address: str, spec: SweepSpec, code_in: Path, callback: ProgressCallback) -> Iterator[RaySession]:
    """Connect to Ray; disconnect in a thread, since that does not return while Ray's GCS is stopped."""
    code = preflight.files_to_send(spec, code_in, address=address)
    notify(callback.on_connect, address)
    with ray_watch.settings():
        connection = ray_cluster.connect(address, code=code)
        capacity = connection.__enter__()
        try:
            servers = ray_watch.servers(private=address == "local")
            if address != "local":
                notify(callback.on_joined, servers[0].address, capacity)
                gpus = capacity.gpus_per_trial(spec.resources)
                node_checks.check_nodes(own_modules(spec), cpus=spec.resources.cpus, gpus=gpus)
            yield RaySession(capacity, servers)
        finally:
            leaving = threading.Thread(
                target=connection.__exit__, args=(None, None, None), name="ravel-ray", daemon=True
            )
            leaving.start()
            leaving.join(DISCONNECT_S)
            if leaving.is_alive():
                logger.warning(
                    "Ray did not stop within %.0f s; what is left of it ends with this process", DISCONNECT_S
                )


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
    session: RaySession | None,
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
        for exporter in exporters.values():
            exporter.start()
        notify(callback.on_start, decisions.plan, store, lambda: lagging(exporters, store.state.num_events))
        crash, has_work = None, True
        try:
            leave = _run_trials(decisions, store, folder, session=session, stop=stop, stack=stack, desk=desk)
            has_work = leave is not None or _has_work(decisions, now=time.time())
        except BaseException as error:
            crash = f"{type(error).__name__}: {error}"
            raise
        finally:
            notify(callback.on_end)
            if is_lost.is_set():
                for exporter in exporters.values():
                    exporter.cancel()
            else:
                _close(decisions, store, leave=leave, crash=crash, has_work=has_work)
                for name, reason in _flush(exporters, stop, leave):
                    logger.warning(
                        "%s lags (%s); later: ravel sync %s", name, reason or "not waited for", reference(folder)
                    )
    _raise_if_interrupted(store.state, folder, leave, is_lost=is_lost.is_set())
    return decisions.plan, store.state, folder


def _run_trials(
    decisions: DecisionState,
    store: EventStore,
    folder: SweepFolder,
    *,
    session: RaySession | None,
    stop: StopSignals,
    stack: ExitStack,
    desk: OrderDesk,
) -> Leave | None:
    """Run Tune until it is done; return the reason if the driver must leave it before.

    The thread of Tune ends with the ``stack``: it releases its actors while the exporters send the last events.
    """
    if session is None or not stop.inbox.empty():
        return _leave_of(None if stop.inbox.empty() else stop.inbox.get(), session)
    from orchestrator.execution.tune import run, thread  # noqa: PLC0415  import Ray and torch, for drivers with work

    def fit(before_step: Callable[[], None]) -> None:
        run.fit(decisions, store, folder, session.capacity, before_step=before_step, orders=desk.serve)

    fitting = thread.FitThread(fit, on_end=lambda error: stop.inbox.put(Ended(error)))
    lost = ray_watch.watching(session.servers, on_lost=lambda reason: stop.inbox.put(Leave("ray", reason)))
    with lost, desk.reading():
        fitting.start()
        leave = _leave_of(stop.inbox.get(), session)
    if leave is not None:
        fitting.leave(releasing_actors=leave.cause != "ray", timeout_s=LEAVE_LOOP_S)
        stack.callback(_join, fitting, stop)
    return leave


def _leave_of(message: Leave | Ended | None, session: RaySession | None) -> Leave | None:
    """Return the reason to leave in a message, or raise its error, unless the error is that Ray is gone."""
    if not isinstance(message, Ended):
        return message
    if message.error is None:
        return None
    reason = None if session is None else ray_watch.refusing(session.servers)
    if reason is None:
        raise message.error
    return Leave("ray", reason)


def _join(thread: FitThread, stop: StopSignals) -> None:
    with suppress(KeyboardInterrupt), stop.skippable():
        thread.join(RELEASE_ACTORS_S)
    if thread.is_alive():
        thread.abandon()


def _flush(exporters: dict[str, Exporter], stop: StopSignals, leave: Leave | None) -> list[tuple[str, str | None]]:
    """Send the last events; return the name and error of each exporter that lags. Each signal shortens the wait."""
    timeouts_s = (FLUSH_S, FLUSH_INTERRUPTED_S) if leave is None or leave.cause == "ray" else (FLUSH_INTERRUPTED_S,)
    for timeout_s in timeouts_s:
        with suppress(KeyboardInterrupt), stop.skippable():
            return list(flush(exporters, timeout_s=timeout_s, progressing=leave is None and timeout_s == FLUSH_S))
    return list(flush(exporters, timeout_s=0.0))


def _raise_if_interrupted(state: SweepState, folder: SweepFolder, leave: Leave | None, *, is_lost: bool) -> None:
    if is_lost:
        raise SweepLocked(
            f"{folder.sweep}: this driver sent no heartbeat for too long, and another driver took the sweep over; what "
            f"this driver measured since then is discarded; see `ravel status {reference(folder)}`"
        )
    if state.ended is not None and state.ended.status == "interrupted":
        remedy = f"nothing measured is lost. Continue with: ravel resume {reference(folder)}"
        if leave is not None and leave.cause == "ray":
            raise RayLost(f"{leave.reason}; the sweep was interrupted, {remedy}")
        raise Interrupted(f"interrupted; {remedy}")


def _has_orders(folder: SweepFolder, state: SweepState) -> bool:
    return bool(state.to_stop or state.to_reopen) or any(True for _ in unanswered(book_of(folder), state.orders))


def _has_work(decisions: DecisionState, *, now: float) -> bool:
    if decisions.state.with_status("waiting", "running", "interrupted"):
        return True
    return decisions.budget.unstarted(now=now) > 0 or next_promotion(decisions, now=now) is not None


def _close(
    decisions: DecisionState, store: EventStore, *, leave: Leave | None, crash: str | None, has_work: bool
) -> None:
    """Record the end: running trials are interrupted until the sweep resumes; paused ones stop if it is finished.

    Nothing is decided here, so that no error of a user's own scheduler can keep the end from the log.
    """
    now, state = time.time(), store.state
    with store.lock:  # Tune's thread may be in the middle of an event; it appends none after the end
        reason = "the driver was stopped" if leave is None else leave.reason
        for trial in state.with_status("running"):
            store.append(TrialEnded(time=now, trial=trial.id, status="interrupted", reason=reason))
        if not has_work:
            for trial in state.with_status("paused"):
                store.append(TrialEnded(time=now, trial=trial.id, status="stopped", rung=trial.stopping_rung))
        store.append(_end_of(decisions, now=now, leave=leave, crash=crash, has_work=has_work))


def _end_of(
    decisions: DecisionState, *, now: float, leave: Leave | None, crash: str | None, has_work: bool
) -> SweepEnded:
    plan, state = decisions.plan, decisions.state
    failed, allowed = len(state.with_status("failed")), plan.spec.failures.allowed
    if crash is not None:
        return SweepEnded(time=now, status="failed", reason=crash)
    if leave is not None:
        return SweepEnded(time=now, status="interrupted", reason=leave.reason)
    if has_work:
        return SweepEnded(time=now, status="interrupted")
    if failed > allowed:
        return SweepEnded(time=now, status="failed", reason=f"{failed} trials failed, failures.allowed is {allowed}")
    short = len(state.trials) < plan.spec.search.num_trials or (plan.pauses and decisions.budget.is_spent(now=now))
    return SweepEnded(time=now, status="completed", reason="its budget is spent" if short else None)
