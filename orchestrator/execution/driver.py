"""The main path: spec -> plan -> driver -> result; ``launch`` and ``resume`` differ in where the plan comes from."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from orchestrator import storage
from orchestrator.analysis.result import SweepResult
from orchestrator.decisions.promotion import next_turn
from orchestrator.errors import Interrupted, LeaseHeld
from orchestrator.execution import preflight
from orchestrator.execution import ray_cluster as cluster
from orchestrator.execution.exporters import behind, flush, followers_of
from orchestrator.planning import plan as planning
from orchestrator.planning.plan import SweepPlan, is_spent, unstarted
from orchestrator.planning.validation import check_spec
from orchestrator.state import sweep_lock as lease
from orchestrator.state.event_log import EventLog
from orchestrator.state.event_store import Journal
from orchestrator.state.events import SweepEnded, SweepStarted, TrialEnded
from orchestrator.state.sweep_state import SweepHistory, settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.spec.model import SweepSpec
    from orchestrator.state.events import Event
    from orchestrator.storage import SweepFolder

logger = logging.getLogger(__name__)
Copies: TypeAlias = Callable[[], list[str]]
ASKING = (signal.SIGINT, signal.SIGTERM)
FLUSH_S = 60.0
FLUSH_INTERRUPTED_S = 4.0


class Watch:
    """Progress callback of a driver; this one does nothing. ``orchestrator.cli.live_display`` has the terminal's."""

    def begin(self, plan: SweepPlan, journal: Journal, copies: Copies) -> None:
        """The driver is about to start trials; ``copies`` says which copies of the log are behind."""

    def see(self, event: Event) -> None:
        """An event was logged."""

    def end(self) -> None:
        """The driver has left the sweep."""


def launch(spec: SweepSpec, *, address: str = "local", watch: Watch | None = None) -> SweepResult:
    """Run a new sweep to its end.

    Args:
        spec: from ``load_spec``, or made in Python.
        address: ``local`` (a Ray of our own), ``auto`` or ``host:port`` (a running cluster).
        watch: sees the sweep while it runs; none by default.

    Raises:
        SpecError: the spec cannot run; nothing was started.
        PreflightError: the machine cannot do what the spec asks; nothing was started.
        Interrupted: Ctrl-C or SIGTERM; ``resume`` goes on.

    Example:
        >>> from orchestrator import load_spec
        >>> launch(load_spec("examples/digits.yaml")).best().score  # doctest: +SKIP
        0.9916
    """
    spec = check_spec(spec)
    preflight.check_here(spec, address=address)
    stop = Stop()
    with stop.listening(), cluster.connect(address) as capacity:
        stop.listen_again()
        gpus = capacity.gpus_per_trial(spec.resources)
        slots = capacity.slots(spec.resources, gpus)
        preflight.check_gpu_seconds(spec, gpus=gpus)
        folder = storage.create_folder(spec.storage.uri, spec.name, now=datetime.now(UTC))
        plan = planning.make(spec, folder, slots=slots, now=time.time(), working_directory=Path.cwd())
        plan.save(folder)
        with _holding(folder) as held:
            return _drive(plan, folder, held=held, capacity=capacity, stop=stop, watch=watch or Watch())


def resume(folder: SweepFolder, *, address: str = "local", watch: Watch | None = None) -> SweepResult:
    """Go on with an interrupted or killed sweep: no trial is lost, none is run twice.

    Raises:
        LeaseHeld: its driver still runs.
        PreflightError: the machine cannot do what the spec asks.
        Interrupted: Ctrl-C or SIGTERM, again.
    """
    plan, stop = SweepPlan.load(folder), Stop()
    with stop.listening(), _holding(folder) as held, ExitStack() as stack:
        storage.pull(folder)  # what the last driver sent until it let go
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
) -> SweepResult:
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
                    logger.warning("%s is behind (%s); later: ravel sync %s", name, why, storage.reference(folder))
    if lost.is_set():
        raise LeaseHeld(
            f"{folder.sweep}: this driver was silent for too long, and another took the sweep; it goes on there, "
            "without what this one measured since"
        )
    if journal.history.ended is not None and journal.history.ended.status == "interrupted":
        go_on = f"ravel resume {storage.reference(folder)}"
        raise Interrupted(f"interrupted; nothing measured is lost. Go on with: {go_on}")
    return SweepResult(plan, journal.history, folder)


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


class Stop:
    """The user's wish to stop: SIGINT (Ctrl-C) and SIGTERM, which Kubernetes and Slurm send, mean the same.

    The first leaves Tune's loop and writes everything down, within seconds; the second is patience, the third gives up.
    Where a driver opens or closes its sweep, the first is only noted: it looks at ``asked`` when it is done.
    """

    def __init__(self) -> None:
        self.asked = False
        self._times = 0
        self._tune_listens = False
        self._waits = False

    def ask(self) -> None:
        """Stop as if the user had asked; from any thread."""
        os.kill(os.getpid(), signal.SIGTERM)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals over; only a main thread can, elsewhere they stay as they are."""
        if not _in_main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (*ASKING, signal.SIGUSR1)}
        self.listen_again()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def listen_again(self) -> None:
        """Take them back: connecting to Ray puts a handler of its own on SIGTERM."""
        if _in_main_thread():
            for number in ASKING:
                signal.signal(number, self._handle)

    @contextmanager
    def waited_for(self) -> Iterator[None]:
        """What is begun inside is finished, but for what ``passed_to_tune`` surrounds."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    @contextmanager
    def passed_to_tune(self) -> Iterator[None]:
        """While Tune runs, it is told by the signal it always listens to, and leaves its loop between two events."""
        self._tune_listens, self._waits = _in_main_thread(), False
        try:
            yield
        finally:
            self._tune_listens, self._waits = False, True

    def _handle(self, number: int, frame: object) -> None:  # noqa: ARG002
        self.asked = True
        self._times += 1
        if self._times == 2 or (self._times == 1 and self._waits):
            return
        if self._times == 1 and self._tune_listens and callable(signal.getsignal(signal.SIGUSR1)):
            signal.raise_signal(signal.SIGUSR1)
        else:
            raise KeyboardInterrupt


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
