"""Lineage of a trial that population based training made: the schedule of its values, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.formatting import shown

if TYPE_CHECKING:
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.events import TrialCreated
    from orchestrator.state.sweep_state import SweepState, Trial


@dataclass(frozen=True, slots=True)
class Segment:
    """Part of a schedule: a trial, its point, and the last epoch before it, 0 of the first."""

    trial: str
    epoch: int
    point: dict[str, Any]


def schedule(state: SweepState, name: str) -> list[Segment]:
    """Return the segments that trained a trial's weights, the first ancestor first.

    A trial that descends from no other has one.
    """
    segments, trial = list[Segment](), state.trials[name]
    while trial.descent is not None:
        segments.append(Segment(trial.id, trial.descent.epoch, trial.point))
        trial = state.trials[trial.descent.parent]
    return [Segment(trial.id, 0, trial.point), *reversed(segments)]


def schedule_lines(plan: SweepPlan, state: SweepState, trial: Trial) -> list[str]:
    """Return the schedule of a trial for people, a line for each segment; nothing of one that descends from no other.

    Only the parameters that differ between its segments are shown.
    """
    segments = schedule(state, trial.id)
    if len(segments) == 1:
        return []
    points = [segment.point for segment in segments]
    changed = [
        name for name in plan.spec.space.names if any(point.get(name) != points[0].get(name) for point in points)
    ]
    ends = [segment.epoch for segment in segments[1:]] + [max(trial.epoch, segments[-1].epoch)]
    lines = ["  schedule, as its weights were trained:"]
    for segment, end in zip(segments, ends, strict=True):
        values = ", ".join(f"{name} {shown(segment.point.get(name))}" for name in changed)
        lines.append(f"    epochs {segment.epoch + 1} to {end} as {segment.trial}: {values or 'the same values'}")
    return lines


def perturbation(event: TrialCreated) -> str:
    """Return what a descendant continues, in whose place, and with which other values, in words."""
    descent = event.descent
    if descent is None:
        return "begins"
    values = ", ".join(f"{name} {shown(event.point.get(name))} ({how})" for name, how in descent.changes.items())
    return (
        f"continues {descent.parent} from epoch {descent.epoch} in the place of {descent.replaces}: "
        f"{values or 'the same values'}"
    )
