"""The main path: spec -> plan -> driver -> result; ``launch`` and ``resume`` differ in where the plan comes from."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import lease, preflight, storage
from orchestrator import plan as planning
from orchestrator.errors import Interrupted
from orchestrator.events import EventLog, SweepEnded, SweepStarted, TrialEnded
from orchestrator.follower import Follower
from orchestrator.history import SweepHistory, settle
from orchestrator.journal import Journal
from orchestrator.loading import check_spec
from orchestrator.plan import SweepPlan
from orchestrator.result import SweepResult
from orchestrator.tracking import Tracker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.events import Event
    from orchestrator.spec import SweepSpec
    from orchestrator.storage import SweepFolder

logger = logging.getLogger(__name__)
ASKING = (signal.SIGINT, signal.SIGTERM)
FLUSH_S = 60.0
FLUSH_INTERRUPTED_S = 4.0


class Watch:
    """What wants to see a sweep while it runs; this one looks away. ``orchestrator.display`` has the terminal's."""

    def begin(self, plan: SweepPlan, journal: Journal) -> None:
        """The driver is about to start trials."""

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
    root = preflight.check_here(spec)
    folder = storage.create_folder(root, spec.name, now=datetime.now(UTC))
    plan = planning.make(spec, folder, now=time.time(), working_directory=Path.cwd())
    plan.save(folder)
    return _drive(plan, folder, address=address, watch=watch or Watch())


def resume(folder: SweepFolder, *, address: str = "local", watch: Watch | None = None) -> SweepResult:
    """Go on with an interrupted or killed sweep: no trial is lost, none is run twice.

    Raises:
        LeaseHeld: its driver still runs.
        Interrupted: Ctrl-C or SIGTERM, again.
    """
    return _drive(SweepPlan.load(folder), folder, address=address, watch=watch or Watch())


def _drive(plan: SweepPlan, folder: SweepFolder, *, address: str, watch: Watch) -> SweepResult:
    with ExitStack() as stack:
        held = lease.acquire(folder)
        stack.callback(held.release)
        log = EventLog(folder.events)
        journal = Journal(log, SweepHistory.read(folder.events), listeners=(watch.see,))
        stack.callback(journal.close)
        host, pid = socket.gethostname(), os.getpid()
        journal.append(SweepStarted(time=time.time(), generation=held.generation, host=host, pid=pid))
        for end in settle(journal.history, now=time.time()):
            journal.append(end)
        follower = Follower(Tracker(plan, folder), on_tick=held.renew)
        follower.start()
        watch.begin(plan, journal)
        stop = Stop()
        crash = None
        try:
            with stop.listening():
                _fit(plan, journal, folder, address=address, stop=stop)
        except BaseException as error:
            crash = f"{type(error).__name__}: {error}"
            raise
        finally:
            _close(plan, journal, interrupted=stop.asked, crash=crash)
            watch.end()
            if not follower.stop(timeout_s=FLUSH_INTERRUPTED_S if stop.asked else FLUSH_S):
                logger.warning("MLflow is behind (%s); later: ravel sync %s", follower.error, plan.sweep)
    if stop.asked:
        raise Interrupted(f"interrupted; nothing measured is lost. Go on with: ravel resume {plan.sweep}")
    return SweepResult(plan, journal.history, folder)


def _fit(plan: SweepPlan, journal: Journal, folder: SweepFolder, *, address: str, stop: Stop) -> None:
    if not _has_work(plan, journal.history):
        return
    from orchestrator import cluster  # noqa: PLC0415  reads its environment when imported

    try:
        with cluster.connect(address) as capacity:
            from orchestrator import tuner  # noqa: PLC0415  imports Ray, torch: only a driver with work pays it

            with stop.passed_to_tune():
                tuner.fit(plan, journal, folder, capacity)
    except KeyboardInterrupt:
        if not stop.asked:
            raise


def _has_work(plan: SweepPlan, history: SweepHistory) -> bool:
    unfinished = history.with_status("waiting", "running", "interrupted")
    return bool(unfinished) or len(history.trials) < plan.spec.search.num_trials


def _close(plan: SweepPlan, journal: Journal, *, interrupted: bool, crash: str | None) -> None:
    """Write down how the driver left: trials still running are interrupted, and go on when the sweep is resumed."""
    now, history = time.time(), journal.history
    for trial in history.with_status("running"):
        journal.append(TrialEnded(time=now, trial=trial.id, status="interrupted", reason="the driver was stopped"))
    failed = len(history.with_status("failed"))
    allowed = plan.spec.failures.allowed
    if crash is not None:
        journal.append(SweepEnded(time=now, status="failed", reason=crash))
    elif interrupted or history.with_status("waiting", "interrupted"):
        journal.append(SweepEnded(time=now, status="interrupted"))
    elif failed > allowed:
        reason = f"{failed} trials failed, failures.allowed is {allowed}"
        journal.append(SweepEnded(time=now, status="failed", reason=reason))
    else:
        journal.append(SweepEnded(time=now, status="completed"))


class Stop:
    """The user's wish to stop: SIGINT (Ctrl-C) and SIGTERM, which Kubernetes and Slurm send, mean the same."""

    def __init__(self) -> None:
        self.asked = False
        self._tune_listens = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals over; only a main thread can, elsewhere they stay as they are."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (*ASKING, signal.SIGUSR1)}
        self._listen()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def passed_to_tune(self) -> Iterator[None]:
        """While Tune runs, it is told by the signal it always listens to, and leaves its loop between two events."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._listen()  # once more: connecting to Ray put a handler of its own on SIGTERM
        self._tune_listens = True
        try:
            yield
        finally:
            self._tune_listens = False

    def _listen(self) -> None:
        for number in ASKING:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: object) -> None:  # noqa: ARG002
        first, self.asked = not self.asked, True
        if first and self._tune_listens and signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL:
            signal.raise_signal(signal.SIGUSR1)
        else:
            raise KeyboardInterrupt
