"""Output of ``ravel replay``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.analysis.replay import Replay
    from orchestrator.analysis.result import SweepResult
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.scheduling.simulator import Outcome


def replay_text(sweep: str, replayed: Replay) -> str:
    """Return how many decisions were repeated, and each that came out otherwise."""
    counts = ", ".join(f"{count} {kind}" for kind, count in replayed.counts.items())
    if not replayed.differences:
        return f"{sweep}: every decision came out as recorded ({counts})"
    total, differences = sum(replayed.counts.values()), replayed.differences
    lines = [f"  line {diff.event}, {diff.kind}: recorded {diff.recorded}, now {diff.replayed}" for diff in differences]
    return "\n".join([f"{sweep}: {len(differences)} of {total} decisions came out otherwise ({counts})", *lines])


def what_if_text(result: SweepResult, other: SweepPlan, outcome: Outcome, *, as_json: bool) -> str:
    """Return what other settings would have done: where each trial ends, and which of them is the best."""
    from orchestrator.analysis.replay import winner  # noqa: PLC0415

    best = winner(outcome)
    unknown = [trial for _, trial, decision, _ in outcome.decisions if decision == "unknown"]
    ends = {trial: view.level for trial, view in outcome.views.items()}
    recorded = {trial.id: trial.epoch for trial in result.state.trials.values()}
    if as_json:
        plain = {"rungs": other.rungs, "epochs": outcome.spent, "best": best, "unknown": unknown, "ended_at": ends}
        return json.dumps({**plain, "recorded_at": recorded}, indent=1)
    by_epoch = sorted((epoch, trial) for trial, epoch in ends.items() if epoch != recorded[trial])
    lines = [
        f"  {trial}: {epoch} epochs instead of {recorded[trial]}{' or more' if trial in unknown else ''}"
        for epoch, trial in by_epoch
    ]
    same = sum(epoch == recorded[trial] and trial not in unknown for trial, epoch in ends.items())
    rungs = ", ".join(map(str, other.rungs)) or "none"
    spent = f"{outcome.spent} epochs (recorded: {result.state.epochs_run})"
    return "\n".join(
        [
            f"{result.sweep} with other settings: rungs {rungs}, {spent}",
            f"best of those trained to their end: {best or 'none'} (recorded: {result.best().trial.id})",
            f"{same} of {len(ends)} trials end at the same epoch",
            *lines,
            *([f"unknown after their last recorded epoch: {', '.join(unknown)}"] if unknown else []),
        ]
    )
