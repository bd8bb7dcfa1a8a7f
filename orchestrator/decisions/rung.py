"""A rung's decision as the log has it: a function of the history and the plan alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.decisions.promotion import is_audited
from orchestrator.decisions.trial_views import board_of

if TYPE_CHECKING:
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_state import SweepHistory


def judge(history: SweepHistory, plan: SweepPlan, trial: str, level: int) -> dict[str, Any] | None:
    """The fields of ``RungDecided`` for a trial that has just measured a level; None where nothing is decided.

    A trial that is stopped for good may be drawn for the audit at once; one that waits, when the sweep is over.
    """
    board = board_of(history, plan)
    verdict = plan.rule.judge(board, trial, level)
    if verdict is None:
        return None
    sign = 1 if plan.spec.objective.mode == "max" else -1
    return {
        "trial": trial,
        "rung": level,
        "value": sign * board.standings[trial].values[level][0],
        "cutoff": None if verdict.cutoff is None else sign * verdict.cutoff[0],
        "competitors": verdict.competitors,
        "kept": verdict.kept,
        "rungs": verdict.rungs,
        "audited": not verdict.kept and not plan.pauses and is_audited(plan, trial),
    }
