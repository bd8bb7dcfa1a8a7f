"""Lanes of a worker process: the trials that are in it, of which those of one program train an epoch together.

A worker has a lane for each trial, and mostly one. An epoch is a step of all trials that the driver names. Those of one
program (`trainables.batched.refusals.program_key`) are trained as one, and all else one after another.
"""

from __future__ import annotations

import os
import platform
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, cast

from orchestrator.execution.processes.checkpoint_place import CheckpointPlace
from orchestrator.execution.trials.sweep_training import SweepTraining
from orchestrator.execution.trials.worker_error import raised_error
from trainables.batched.refusals import program_key
from trainables.batched.trials import BatchedTrials
from trainables.config.trial import TrialConfig
from trainables.engine.epoch_report import EpochReport
from trainables.engine.faults import fault_of, first_line
from trainables.engine.guards import release_memory
from trainables.errors import OutOfSharedMemory, WorkerUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from trainables.batched.trials import Outcome
    from trainables.engine.epoch_loop import EpochLoop
    from trainables.tasks.classifier.run import ClassifierRun

ALONE = "ravel.alone"
"""Key of a configuration whose trial trains by itself, though it could be batched."""
MEMORY_REMEDY = "they go on with fewer of them at a time; lower resources.batch, batch_size or model.width"


@dataclass
class Lane:
    """Trial in a lane, the place of its checkpoints, and the folder of what it prints."""

    training: SweepTraining
    place: CheckpointPlace
    folder: Path
    is_alone: bool
    num_steps: int = 0
    is_open: bool = False
    program: str | None = None
    """Program of a trial that is open; None if it trains by itself."""


class Lanes:
    """Trials in this process, by number of their lane.

    Args:
        shares_gpu: This process has a part of a GPU. Several trials of one process share its GPU in any case.
        print_to: Called with the folder of a trial before anything is done for it.
    """

    def __init__(self, *, shares_gpu: bool, print_to: Callable[[Path], None]) -> None:
        self._shares_gpu, self._print_to = shares_gpu, print_to
        self._lanes: dict[int, Lane] = {}
        self._is_leaving = False

    def leave(self) -> None:
        """Have all trials go on elsewhere after their epoch, and those that are still to begin."""
        self._is_leaving = True
        for lane in self._lanes.values():
            lane.training.leave()

    def begin(self, lane: int, config: Mapping[str, Any], folder: Path) -> None:
        """Put a trial into a lane; its first epoch validates its configuration, so that errors in it are its own."""
        self._print_to(folder)
        training = SweepTraining()
        self._lanes[lane] = Lane(training, CheckpointPlace.of(config), folder, bool(config.get(ALONE)))
        if self._is_leaving:
            training.leave()
        training.begin(config)

    def end(self, lane: int) -> None:
        """Release the trial of a lane."""
        ended = self._lanes.pop(lane, None)
        if ended is not None:
            ended.training.cleanup()

    def end_all(self) -> None:
        """Release all trials."""
        for lane in list(self._lanes):
            self.end(lane)

    def save(self, lane: int, place: str) -> int:
        """Save the trial of a lane, and return the size of its checkpoint."""
        saved = self._lanes[lane]
        self._print_to(saved.folder)
        saved.place.store(saved.training, place)
        return saved.training.saved_bytes

    def drop(self, lane: int, places: Iterable[str]) -> None:
        """Delete checkpoints of the trial of a lane."""
        self._lanes[lane].place.drop(places)

    def step(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Train an epoch of these lanes; return a ``result`` or an ``error`` of each, with its ``lane``."""
        programs: dict[str, list[int]] = {}
        replies: dict[int, dict[str, Any]] = {}
        for number in numbers:
            if len(numbers) > 1 and self._open(number, replies) and (program := self._lanes[number].program):
                programs.setdefault(program, []).append(number)
        together = [members for members in programs.values() if len(members) > 1]
        for number in numbers:
            members = next((members for members in together if members[0] == number), [])
            if members:
                replies |= self._step_together(members)
            elif number not in replies and not any(number in members for members in together):
                replies[number] = self._reply(number, self._lanes[number].training.step)
        return [{"lane": number, **replies[number]} for number in numbers]

    def _open(self, number: int, replies: dict[int, dict[str, Any]]) -> bool:
        """Open the trial of a lane, and note its program; note the error if it has one, and return False."""
        lane = self._lanes[number]
        try:
            loop = self._begin_work(lane).opened()
        except Exception as error:  # noqa: BLE001  the driver decides what follows
            replies[number] = self._failed(error)
            return False
        if not lane.is_open and loop is not None and isinstance(loop.config, TrialConfig) and not lane.is_alone:
            lane.program = program_key(loop.config)
        lane.is_open = True
        return loop is not None

    def _step_together(self, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Train an epoch of these lanes as one program."""
        try:
            self._begin_work(self._lanes[numbers[0]])
            outcomes = self._trained(numbers)
        except Exception as error:  # noqa: BLE001  the driver decides what follows
            replies = common_replies(error, numbers)
            for number in numbers:  # their states are no longer those between two epochs
                self._lanes[number].training.cleanup()
            release_memory(error)
            return replies
        return {number: self._outcome(number, outcomes[str(number)]) for number in numbers}

    def _trained(self, numbers: Sequence[int]) -> Mapping[str, Outcome]:
        trials = BatchedTrials()
        for number in numbers:
            loop = self._lanes[number].training.opened()
            assert loop is not None, "it was open a moment ago"  # noqa: S101  our own bookkeeping
            trials.join(str(number), cast("EpochLoop[ClassifierRun]", loop))
        return trials.run_epoch()

    def _outcome(self, number: int, outcome: Outcome) -> dict[str, Any]:
        training = self._lanes[number].training
        if isinstance(outcome, EpochReport):
            return self._reply(number, lambda: training.reported(lambda: outcome))
        return self._reply(number, lambda: training.reported(lambda: _raise(outcome)))

    def _reply(self, number: int, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the reply with the result of a lane, or its error."""
        lane = self._lanes[number]
        try:
            self._begin_work(lane)
            result = work()
        except Exception as error:  # noqa: BLE001  the driver decides what follows
            return self._failed(error)
        lane.num_steps += 1
        identity = {"hostname": platform.node(), "pid": os.getpid(), "iterations_since_restore": lane.num_steps}
        return {"result": {**result, **identity}}

    def _begin_work(self, lane: Lane) -> SweepTraining:
        """Print to the folder of a lane from here on, and return its trial, which may share its GPU."""
        self._print_to(lane.folder)
        lane.training.shares_gpu = self._shares_gpu or len(self._lanes) > 1
        return lane.training

    def _failed(self, error: Exception) -> dict[str, Any]:
        """Return the reply to an error of one lane; if memory ran out, it may be the fault of any of several."""
        is_shared = isinstance(error, OutOfSharedMemory) and len(self._lanes) > 1
        return {**reply_of(error), **({"shared": "memory"} if is_shared else {})}


def reply_of(error: Exception) -> dict[str, Any]:
    """Return the reply to a request that raised."""
    return {"error": raised_error(error, "".join(traceback.format_exception(error)))._asdict()}


def common_replies(error: Exception, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return the replies of lanes for an error of all of them, which may be the fault of any.

    ``shared`` says what follows: with ``memory`` they go on with fewer at a time; with ``error`` each by itself.
    """
    fault, text = fault_of(error), "".join(traceback.format_exception(error))
    is_memory = fault in {"device memory", "host memory"}
    reason = f"{len(numbers)} batched trials failed together: {first_line(error)}"
    reason = f"{reason}; {MEMORY_REMEDY}" if is_memory else reason
    reply = {"error": raised_error(WorkerUnusable(reason, text), text)._asdict()}
    kind = "memory" if is_memory else "error" if fault == "trial" else None
    return {number: {**reply, **({} if kind is None else {"shared": kind})} for number in numbers}


def _raise(error: Exception) -> NoReturn:
    raise error
