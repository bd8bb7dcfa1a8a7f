"""Run a sweep in worker processes: the queue hands out trials, workers train them, each result is recorded and decided.

What is recorded and decided is that of a sweep on Ray, in the same order, by the same functions.
"""

from __future__ import annotations

import functools
import socket
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.execution.processes.pool import Lost
from orchestrator.execution.trials.attempt_recorder import AttemptRecorder
from orchestrator.execution.trials.rung_check import continues_after
from orchestrator.execution.trials.starting_point import attempt_folder, latest_checkpoint, parent_checkpoint
from orchestrator.execution.trials.sweep_training import LEAVING
from orchestrator.execution.trials.trial_queue import TrialQueue
from orchestrator.execution.trials.worker_error import WorkerError
from orchestrator.state.trial import CHECKPOINTS_KEPT
from trainables.trial_training import DONE, SHOULD_CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.execution.processes.pool import Message, Worker, WorkerPool
    from orchestrator.execution.processes.slots import Slot
    from orchestrator.orders.acts import Workers
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_folder import SweepFolder

POLL_S = 0.1


class Attempt:
    """Attempt of a trial in a worker."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config, self.trial = config, str(config["ravel.trial"])
        self.folder = attempt_folder(config)
        self.epoch = 0
        self.has_begun = self.is_over = self.is_killed = self.ends_worker = False
        self.saved: list[str] = []


@dataclass(eq=False)
class Place:
    """Slot of this machine, with the worker and the attempt that are in it."""

    slot: Slot
    worker: Worker | None = None
    attempt: Attempt | None = None


class ProcessLoop:
    """Loop that runs every trial of a sweep which is not over.

    Args:
        decisions: State of the sweep.
        store: Event store to append to.
        folder: Files of the sweep.
        pool: Worker processes.
        slots: Slots of this machine.
    """

    def __init__(
        self,
        decisions: DecisionState,
        store: EventStore,
        folder: SweepFolder,
        *,
        pool: WorkerPool,
        slots: Sequence[Slot],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._decisions, self._store, self._folder, self._pool = decisions, store, folder, pool
        self._clock = clock
        self._places = [Place(slot) for slot in slots]
        self._queue = TrialQueue(
            decisions,
            store,
            limit=self._limit,
            device="cpu" if slots[0].gpu is None else None,
            storage=None if folder.remote is None else asdict(folder.remote.settings),
            checkpoint_of=functools.partial(latest_checkpoint, folder),
            parent_of=functools.partial(parent_checkpoint, folder, store.state),
            clock=clock,
        )
        self._recorder = AttemptRecorder(decisions, store, self._queue, clock=clock)
        self._host = f"{socket.gethostname()} (127.0.0.1)"

    def run(self, *, before_step: Callable[[], None], orders: Callable[[Workers], None]) -> None:
        """Run all trials to their ends; return then, or raise what ``before_step`` raises."""
        self._folder.tune.mkdir(exist_ok=True)
        try:
            while True:
                before_step()
                orders(self)
                self._fill()
                if self._queue.is_finished:
                    return
                for worker, message in self._pool.messages(timeout_s=POLL_S):
                    self._take(worker, message)
        finally:
            self._pool.release(place.worker for place in self._places if place.attempt and place.worker)

    def stop(self, trial: str) -> bool:
        """Kill the worker of a trial, so that its slot is free at once; return False if none has the trial.

        A worker in the middle of an epoch would answer only after it. The end that was ordered is logged with its loss.
        """
        place = next((place for place in self._places if place.attempt and place.attempt.trial == trial), None)
        if place is None or place.attempt is None or place.worker is None:
            self._queue.dequeue(trial)
            return False
        if not place.attempt.is_killed:
            place.attempt.is_killed = True
            self._pool.kill(place.worker)
        return True

    def enqueue(self, trial: str) -> None:
        """Have a free worker continue a trial."""
        self._queue.enqueue(trial)

    def _limit(self) -> int:
        return min(len(self._places), self._decisions.plan.spec.resources.max_concurrent or len(self._places))

    def _fill(self) -> None:
        """Give each free slot a trial, those with an idle worker first."""
        free = [place for place in self._places if place.attempt is None]
        for place in sorted(free, key=lambda place: place.worker is None):
            config = self._queue.next_config()
            if config is None:
                return
            place.attempt = attempt = Attempt(config)
            place.worker = place.worker or self._pool.start(place.slot)
            place.worker.send({"begin": config, "folder": str((self._folder.tune / attempt.folder).resolve())})

    def _take(self, worker: Worker, message: Message) -> None:
        """Record a message, and send the worker its next request."""
        place = next(place for place in self._places if place.worker is worker)
        attempt = place.attempt
        if isinstance(message, Lost):
            place.worker = None
            if attempt is not None:
                self._fail(place, attempt, message.error)
        elif attempt is None or attempt.is_killed:
            return
        elif "error" in message:
            self._pool.discard(worker)
            place.worker = None
            self._fail(place, attempt, WorkerError(**message["error"]))
        elif "result" in message:
            self._take_result(place, worker, attempt, message["result"])
        elif "saved" in message:
            path = f"{self._folder.tune.name}/{attempt.saved[-1]}"
            self._recorder.saved(attempt.trial, epoch=attempt.epoch, path=path, size_bytes=message["saved"])
            self._drop_old(worker, attempt)
            self._go_on(place, worker, attempt)
        else:
            self._start(attempt)
            worker.send({"step": True})

    def _start(self, attempt: Attempt) -> None:
        attempt.has_begun = True
        self._recorder.started(attempt.trial, host=self._host)

    def _take_result(self, place: Place, worker: Worker, attempt: Attempt, result: dict[str, Any]) -> None:
        attempt.epoch = int(result["epoch"])
        trial = self._recorder.reported(attempt.trial, result)
        attempt.is_over = bool(result[DONE]) or not continues_after(
            trial,
            attempt.epoch,
            decisions=self._decisions,
            store=self._store,
            diverge=self._recorder.diverge,
            clock=self._clock,
        )
        if not attempt.is_over and LEAVING in result:
            self._recorder.move(attempt.trial, result[LEAVING])
            attempt.is_over = True
        attempt.ends_worker = LEAVING in result
        if result.get(SHOULD_CHECKPOINT) or self._recorder.is_leaving(attempt.trial):
            attempt.saved.append(f"{attempt.folder}/checkpoint_{len(attempt.saved):06d}")
            worker.send({"save": self._address(attempt.saved[-1])})
        else:
            self._go_on(place, worker, attempt)

    def _go_on(self, place: Place, worker: Worker, attempt: Attempt) -> None:
        """Have the worker train the next epoch, unless its trial leaves it."""
        if not attempt.is_over:
            worker.send({"step": True})
            return
        place.attempt = None
        if attempt.ends_worker:
            self._pool.discard(worker)
            place.worker = None
        self._recorder.left(attempt.trial, attempt.config)

    def _fail(self, place: Place, attempt: Attempt, error: WorkerError) -> None:
        place.attempt = None
        if not attempt.has_begun:
            self._start(attempt)
        self._recorder.failed(attempt.trial, error)

    def _drop_old(self, worker: Worker, attempt: Attempt) -> None:
        """Have the worker delete the checkpoint that is one too many."""
        if len(attempt.saved) > CHECKPOINTS_KEPT:
            worker.send({"drop": [self._address(attempt.saved[-CHECKPOINTS_KEPT - 1])]})

    def _address(self, checkpoint: str) -> str:
        """Return the place of a checkpoint, as the worker finds it."""
        if self._folder.remote is not None:
            return self._folder.remote.uri(f"{self._folder.tune.name}/{checkpoint}")
        return str((self._folder.tune / checkpoint).resolve())
