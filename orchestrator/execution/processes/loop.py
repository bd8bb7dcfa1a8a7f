"""Run a sweep in worker processes: the queue hands out trials, workers train them, each result is recorded and decided.

What is recorded and decided is that of a sweep on Ray, in the same order, by the same functions.
"""

from __future__ import annotations

import functools
import logging
import socket
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from orchestrator.execution.processes.lanes import ALONE
from orchestrator.execution.processes.places import Attempt, Place, place_for, program_in
from orchestrator.execution.processes.pool import Lost
from orchestrator.execution.trials.attempt_recorder import AttemptRecorder
from orchestrator.execution.trials.rung_check import continues_after
from orchestrator.execution.trials.starting_point import latest_checkpoint, parent_checkpoint
from orchestrator.execution.trials.sweep_training import LEAVING
from orchestrator.execution.trials.trial_queue import TrialQueue
from orchestrator.execution.trials.worker_error import WorkerError
from orchestrator.state.trial import CHECKPOINTS_KEPT
from trainables.trial_training import DONE, SHOULD_CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.execution.processes.pool import Message, Worker, WorkerPool
    from orchestrator.execution.processes.slots import Slot
    from orchestrator.orders.acts import Workers
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_folder import SweepFolder

logger = logging.getLogger(__name__)
POLL_S = 0.1


class ProcessLoop:
    """Loop that runs every trial of a sweep which is not over.

    The trials of a worker train an epoch together, once each of them has been answered: it continues, or has left. A
    trial that takes the place of one that left is waited for, an empty lane is not. So what is trained together does
    not depend on the speed of the driver.

    Args:
        decisions: State of the sweep.
        store: Event store to append to.
        folder: Files of the sweep.
        pool: Worker processes.
        slots: Slots of this machine.
        batch: Trials that a worker has at a time.
    """

    def __init__(
        self,
        decisions: DecisionState,
        store: EventStore,
        folder: SweepFolder,
        *,
        pool: WorkerPool,
        slots: Sequence[Slot],
        batch: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._decisions, self._store, self._folder, self._pool = decisions, store, folder, pool
        self._clock = clock
        self._places = [Place(slot, batch) for slot in slots]
        self._num_lanes = batch * len(slots)
        self._alone: set[str] = set()
        """Trials that failed together, by the fault of any of them: each trains by itself from then on."""
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
                self._end_drained()
                self._fill()
                if self._queue.is_finished:
                    return
                for place in self._places:
                    self._train(place)
                for worker, message in self._pool.messages(timeout_s=POLL_S):
                    self._take(worker, message)
        finally:
            self._pool.release(place.worker for place in self._places if place.attempts and place.worker)

    def stop(self, trial: str) -> bool:
        """End the attempt of a trial; return False if no worker has it.

        The worker of one trial is killed, so that its slot is free at once: it would answer only after its epoch. Of
        several trials of a worker, this one leaves it when their epoch ends. The end that was ordered is logged then.
        """
        attempts = (
            (place, lane, attempt)
            for place in self._places
            for lane, attempt in place.attempts.items()
            if attempt.trial == trial
        )
        place, lane, attempt = next(attempts, (None, 0, None))
        if place is None or attempt is None or place.worker is None:
            self._queue.dequeue(trial)
            return False
        attempt.is_ordered_out = True
        if attempt.is_ready:
            self._leave(place, place.worker, lane)
        elif len(place.attempts) == 1 and not attempt.is_killed:
            attempt.is_killed = place.is_draining = True
            self._pool.kill(place.worker)
        return True

    def enqueue(self, trial: str) -> None:
        """Have a free worker continue a trial."""
        self._queue.enqueue(trial)

    def _limit(self) -> int:
        return min(self._num_lanes, self._decisions.plan.spec.resources.max_concurrent or self._num_lanes)

    def _fill(self) -> None:
        """Give each free lane a trial."""
        while any(place.has_room for place in self._places) and (config := self._queue.next_config()) is not None:
            is_alone = config["ravel.trial"] in self._alone
            program = None if self._num_lanes == len(self._places) or is_alone else program_in(config)
            place = place_for(program, self._places)
            attempt = Attempt({**config, ALONE: True} if is_alone else config, program=program, lanes=place.lanes)
            lane = place.add(attempt)
            place.worker = place.worker or self._pool.start(place.slot)
            folder = str((self._folder.tune / attempt.folder).resolve())
            place.worker.send({"begin": lane, "config": attempt.config, "folder": folder})

    def _end_drained(self) -> None:
        """End the workers that get no further trial, and have none."""
        for place in self._places:
            if place.is_draining and not place.attempts and place.worker is not None:
                self._pool.discard(place.worker)
                place.vacate()

    def _train(self, place: Place) -> None:
        """Have a worker train an epoch, if all its trials wait for it."""
        if place.worker is None or not place.is_ready:
            return
        for attempt in place.attempts.values():
            attempt.is_ready = False
        place.worker.send({"step": [lane for lane, _ in place.in_order]})

    def _take(self, worker: Worker, message: Message) -> None:
        """Record a message, and what follows from it."""
        place = next(place for place in self._places if place.worker is worker)
        if isinstance(message, Lost):
            self._lose(place, message)
            return
        replies, num_trials = message.get("results", [message]), len(place.attempts)
        self._heed_shared_failure(place, replies)
        for reply in replies:
            attempt = place.attempts.get(reply["lane"])
            if attempt is not None and not attempt.is_killed:
                self._take_reply(place, worker, reply, num_trials)

    def _take_reply(self, place: Place, worker: Worker, reply: dict[str, Any], num_trials: int) -> None:
        lane = reply["lane"]
        attempt = place.attempts[lane]
        if "error" in reply:
            place.is_draining = True
            worker.send({"end": lane})
            shared_by = num_trials if "shared" in reply else None
            self._fail(place, lane, WorkerError(**reply["error"]), shared_by=shared_by)
        elif "result" in reply:
            self._take_result(place, worker, lane, reply["result"])
        elif "saved" in reply:
            path = f"{self._folder.tune.name}/{attempt.saved[-1]}"
            self._recorder.saved(attempt.trial, epoch=attempt.epoch, path=path, size_bytes=reply["saved"])
            self._drop_old(worker, lane, attempt)
            self._go_on(place, worker, lane)
        else:
            self._start(attempt)
            self._go_on(place, worker, lane)

    def _start(self, attempt: Attempt) -> None:
        attempt.has_begun = True
        self._recorder.started(attempt.trial, host=self._host, batched=attempt.batched)

    def _take_result(self, place: Place, worker: Worker, lane: int, result: dict[str, Any]) -> None:
        attempt = place.attempts[lane]
        attempt.epoch = int(result["epoch"])
        trial = self._recorder.reported(attempt.trial, result)
        attempt.is_over = (
            bool(result[DONE])
            or attempt.is_ordered_out
            or not continues_after(
                trial,
                attempt.epoch,
                decisions=self._decisions,
                store=self._store,
                diverge=self._recorder.diverge,
                clock=self._clock,
            )
        )
        if not attempt.is_over and LEAVING in result:
            self._recorder.move(attempt.trial, result[LEAVING])
            attempt.is_over = True
        place.is_draining = place.is_draining or LEAVING in result
        if result.get(SHOULD_CHECKPOINT) or self._recorder.is_leaving(attempt.trial):
            attempt.saved.append(f"{attempt.folder}/checkpoint_{len(attempt.saved):06d}")
            worker.send({"save": lane, "place": self._address(attempt.saved[-1])})
        else:
            self._go_on(place, worker, lane)

    def _go_on(self, place: Place, worker: Worker, lane: int) -> None:
        """Have a trial wait for the next epoch, unless it leaves its worker."""
        attempt = place.attempts[lane]
        if attempt.is_over or attempt.is_ordered_out:
            self._leave(place, worker, lane)
        else:
            attempt.is_ready = True

    def _leave(self, place: Place, worker: Worker, lane: int) -> None:
        attempt = place.attempts.pop(lane)
        worker.send({"end": lane})
        self._recorder.left(attempt.trial, attempt.config)

    def _fail(self, place: Place, lane: int, error: WorkerError, *, shared_by: int | None = None) -> None:
        attempt = place.attempts.pop(lane)
        if not attempt.has_begun:
            self._start(attempt)
        self._recorder.failed(attempt.trial, error, shared_by=shared_by)

    def _lose(self, place: Place, lost: Lost) -> None:
        """Record that a worker is lost, with all its trials; any of several may be at fault, or their number."""
        num_trials = len(place.attempts)
        is_shared = lost.is_own and num_trials > 1
        if is_shared:
            self._halve(place)
        place.vacate()
        for lane, _ in reversed(place.in_order):  # each returns to the head of the queue
            self._fail(place, lane, lost.error, shared_by=num_trials if is_shared else None)

    def _heed_shared_failure(self, place: Place, replies: Iterable[Mapping[str, Any]]) -> None:
        """Have trials that failed together go on with fewer of them, or by themselves."""
        kinds = {reply["lane"]: reply["shared"] for reply in replies if "shared" in reply}
        if "memory" in kinds.values():
            self._halve(place)
        self._alone |= {place.attempts[lane].trial for lane, kind in kinds.items() if kind == "error"}

    @staticmethod
    def _halve(place: Place) -> None:
        if not place.is_halved:
            place.halve()
            logger.warning("slot %d: it continues with %d trials at a time", place.slot.number, place.lanes)

    def _drop_old(self, worker: Worker, lane: int, attempt: Attempt) -> None:
        """Have the worker delete the checkpoint that is one too many."""
        if len(attempt.saved) > CHECKPOINTS_KEPT:
            worker.send({"drop": lane, "places": [self._address(attempt.saved[-CHECKPOINTS_KEPT - 1])]})

    def _address(self, checkpoint: str) -> str:
        """Return the place of a checkpoint, as the worker finds it."""
        if self._folder.remote is not None:
            return self._folder.remote.uri(f"{self._folder.tune.name}/{checkpoint}")
        return str((self._folder.tune / checkpoint).resolve())
