"""Account of slot time, from the log of a sweep: when slots began, what their epochs took, and what lay between."""

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.analysis.figures.running import intervals
from orchestrator.state.events import EpochReported, Event, SweepStarted


@dataclass(frozen=True)
class Epoch:
    """Epoch of an attempt in a slot, by the clock of the log: `steps_s` of its `epoch_s` were training steps."""

    slot: int
    attempt: tuple[str, int]
    reported: float
    epoch_s: float
    steps_s: float

    @property
    def began(self) -> float:
        """Time of its first step: when it was reported, less what it took."""
        return self.reported - self.epoch_s


def epochs_of(events: Sequence[Event], *, images: int) -> list[Epoch]:
    """Return the epochs of a log in their order, each with the slot that its attempt held; each trains on `images`."""
    slots = {(attempt.trial, attempt.attempt): attempt.slot for attempt in intervals(events)}
    return [
        Epoch(
            slot=slots[event.trial, event.attempt],
            attempt=(event.trial, event.attempt),
            reported=event.time,
            epoch_s=event.metrics.get("time/epoch_s") or 0.0,
            steps_s=images / (event.metrics.get("time/images_per_s") or float("inf")),
        )
        for event in events
        if isinstance(event, EpochReported)
    ]


def shares(epochs: Iterable[Epoch]) -> dict[str, float]:
    """Return the shares of slot time in training steps and in whole epochs, which end with an evaluation.

    The time of a slot is from its first report to its last: its start is measured by itself, and at the end of a sweep
    a slot has no trial. What is no epoch is reports, decisions, checkpoints, and changes of trials.

    >>> one = [Epoch(0, ("t0", 1), time, 2.0, 1.5) for time in (10.0, 12.5, 15.0)]
    >>> shares(one)
    {'steps': 0.6, 'epochs': 0.8, 'epoch_s': 2.0}
    """
    held = steps = whole = 0.0
    later = list[float]()
    for own in _by_slot(epochs).values():
        held += own[-1].reported - own[0].reported
        steps += sum(epoch.steps_s for epoch in own[1:])
        whole += sum(epoch.epoch_s for epoch in own[1:])
        later += [epoch.epoch_s for epoch in own[1:]]
    if not held:
        raise ValueError("epochs: a slot must have reported two or more; give the sweep more trials or epochs")
    return {"steps": steps / held, "epochs": whole / held, "epoch_s": statistics.median(later)}


def changes(epochs: Iterable[Epoch]) -> dict[str, float]:
    """Return what a further attempt in a slot costs, of another trial or a paused one; nothing where a slot had one.

    `change_s` is from the last report of the attempt before to its first step, `first_epoch` the median time of its
    first epoch to that of later ones.
    """
    pairs = [pair for own in _by_slot(epochs).values() for pair in itertools.pairwise(own)]
    changed = [(before, after) for before, after in pairs if before.attempt != after.attempt]
    stayed = [after.epoch_s for before, after in pairs if before.attempt == after.attempt]
    if not (changed and stayed):
        return {}
    return {
        "change_s": statistics.median(after.began - before.reported for before, after in changed),
        "first_epoch": statistics.median(after.epoch_s for _, after in changed) / statistics.median(stayed),
    }


def start(events: Sequence[Event], *, began: float, slots: int) -> dict[str, float]:
    """Return the seconds from the start of a command to the steps of its sweep.

    `driver_s` is to the first event, `first_step_s` to the first step of the first slot, `filled_s` to that of the
    last one of `slots`.

    Raises:
        ValueError: fewer slots have reported an epoch.
    """
    firsts = sorted(own[0].began for own in _by_slot(epochs_of(events, images=0)).values())
    if len(firsts) < slots:
        raise ValueError(f"slots: {slots} must have reported an epoch, got {len(firsts)}")
    driver = next(event.time for event in events if isinstance(event, SweepStarted))
    return {"driver_s": driver - began, "first_step_s": firsts[0] - began, "filled_s": firsts[slots - 1] - began}


def _by_slot(epochs: Iterable[Epoch]) -> Mapping[int, list[Epoch]]:
    slots: dict[int, list[Epoch]] = {}
    for epoch in sorted(epochs, key=lambda epoch: epoch.reported):
        slots.setdefault(epoch.slot, []).append(epoch)
    return slots
