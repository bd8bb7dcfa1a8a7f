"""Answer to an order: an event, computed from the order and the state alone, but for the checkpoints that exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.decisions.budget import BudgetUse
from orchestrator.errors import SpecError, quoted
from orchestrator.orders.book import Unreadable
from orchestrator.planning.changes.extension import extension
from orchestrator.planning.fields import did_you_mean
from orchestrator.state.events import OrderAccepted, OrderRefused
from orchestrator.state.sweep_state import OVER
from search_spaces import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.orders.order import Order
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_state import SweepState, Trial

WITHOUT_TRAINING = frozenset(
    {
        "failures.infrastructure",
        "failures.user",
        "failures.allowed",
        "resources.max_concurrent",
        "storage.keep_best",
    }
)
"""Settings after which no trial that is over has more to do."""
MAX_NAMED = 5


def answer(
    order: Order | Unreadable, decisions: DecisionState, *, has_checkpoint: Callable[[Trial], bool], now: float
) -> OrderAccepted | OrderRefused:
    """Return the answer to an order; it changes nothing.

    Args:
        order: Order from the book.
        decisions: State of the sweep, with the plan in force.
        has_checkpoint: Returns True if the checkpoint of a trial's last epoch still exists.
        now: Time of the answer.
    """
    if isinstance(order, Unreadable):
        return OrderRefused(time=now, order=order.id, action=None, author="", reasons=(f"order: {order.reason}",))
    try:
        if order.action == "stop":
            return _stopped(order, decisions.state, now=now)
        return _extended(order, decisions, has_checkpoint=has_checkpoint, now=now)
    except SpecError as error:
        return refusal(order, map(str, error.problems), now=now)


def refusal(order: Order, reasons: Iterable[str], *, now: float) -> OrderRefused:
    """Return the refusal of an order, with every reason."""
    return OrderRefused(time=now, order=order.id, action=order.action, author=order.author, reasons=tuple(reasons))


def _stopped(order: Order, state: SweepState, *, now: float) -> OrderAccepted:
    problems = [problem for name in order.trials if (problem := _stop_problem(name, state)) is not None]
    if not order.trials and order.generation != state.generation:
        requirement = f"must be an order to the driver that runs, {state.generation}"
        problems.append(Problem("stop", f"{requirement}; got one to driver {order.generation}, which is gone"))
    if problems:
        raise SpecError(problems)
    what = f"stops {', '.join(order.trials)}" if order.trials else "stops the sweep; ravel resume continues it"
    return OrderAccepted(
        time=now,
        order=order.id,
        action="stop",
        author=order.author,
        trials=tuple(dict.fromkeys(order.trials)),
        notes=(what,),
    )


def _stop_problem(name: str, state: SweepState) -> Problem | None:
    trial = state.trials.get(name)
    if trial is None:
        known = f"one of {len(state.trials)} trials" if state.trials else "a trial, and none was created yet"
        return Problem(f"trial {name}", f"must be {known}, got {quoted(name)}{did_you_mean(name, state.trials)}")
    if trial.status in OVER:
        remedy = "ravel logs SWEEP TRIAL says why it ended"
        return Problem(f"trial {name}", f"must run or wait to be stopped, it is over: {trial.status}; {remedy}")
    if name in state.to_stop:
        return Problem(f"trial {name}", f"is being stopped by order of {state.to_stop[name].author}")
    return None


def _extended(
    order: Order, decisions: DecisionState, *, has_checkpoint: Callable[[Trial], bool], now: float
) -> OrderAccepted:
    state, plan = decisions.state, decisions.plan
    if state.is_imported:
        reason = "must be a sweep that was launched, and this one was imported from MLflow: its trials have no models"
        raise SpecError([Problem("sweep", f"{reason}; use its best points in a new spec: ravel import-mlflow")])
    num_proposed = sum(trial.descent is None for trial in decisions.searched.trials.values())
    new = extension(plan, order.wish, num_existing=num_proposed)
    failed = [trial for trial in state.trials.values() if trial.status == "failed"] if order.retry_failed else []
    trains = bool(new.settings.keys() - WITHOUT_TRAINING) or (decisions.is_seeded and bool(failed))
    completed: list[Trial] = []
    gone: list[Trial] = []
    if new.plan.max_epochs > plan.max_epochs:
        for trial in sorted(state.with_status("completed"), key=lambda trial: trial.ended_at):
            (completed if has_checkpoint(trial) else gone).append(trial)
    stopped = [trial for trial in state.with_status("stopped") if was_paused(trial, plan)] if trains else []
    paused = [trial for trial in stopped if not trial.is_dropped]
    _require_effect(order, bool(new.settings), failed)
    if trains or failed:
        _require_budget(new.plan, state, now=now)
    reopened = {"retried": failed, "reopened": completed, "paused once more": paused}
    notes = [f"{_named(trials)} {words}" for words, trials in reopened.items() if trials]
    notes += _notes_on_lost(gone, stopped, failed, max_epochs=plan.max_epochs)
    return OrderAccepted(
        time=now,
        order=order.id,
        action="extend",
        author=order.author,
        trials=tuple(trial.id for trial in (*paused, *completed, *failed)),
        settings=new.settings,
        plan=new.fields if new.settings else {},
        config=new.config,
        notes=(*new.notes, *notes),
    )


def _notes_on_lost(gone: list[Trial], stopped: list[Trial], failed: list[Trial], *, max_epochs: int) -> list[str]:
    """Return what happens to the trials without a checkpoint, a line each."""
    dropped = "their checkpoints were dropped (storage.keep_best, or ravel purge)"
    remedy = "to train a point once more: ravel extend SWEEP --add-point FILE"
    lines = {
        f"stay at {max_epochs} epochs: their last checkpoint is gone": [
            trial for trial in gone if not trial.is_dropped
        ],
        f"stay at {max_epochs} epochs: {dropped}; {remedy}": [trial for trial in gone if trial.is_dropped],
        f"stay stopped: {dropped}; {remedy}": [trial for trial in stopped if trial.is_dropped],
        f"start from their first epoch: {dropped}": [trial for trial in failed if trial.is_dropped],
    }
    return [f"{_named(trials)} {words}" for words, trials in lines.items() if trials]


def was_paused(trial: Trial, plan: SweepPlan) -> bool:
    """Return True if a trial is stopped because it was paused at a rung when its sweep ended."""
    return plan.pauses and trial.end is not None and trial.end.rung is not None and trial.end.reason is None


def _require_effect(order: Order, has_settings: bool, failed: list[Trial]) -> None:  # noqa: FBT001  a fact
    if order.retry_failed and not failed:
        raise SpecError([Problem("--retry-failed", "must have failed trials to retry, and none has failed")])
    if not has_settings and not failed:
        options = "--trials, --epochs, --add-point, --retry-failed or --set"
        raise SpecError(
            [Problem("extend", f"must change something: the sweep has these values already; give {options}")]
        )


def _require_budget(plan: SweepPlan, state: SweepState, *, now: float) -> None:
    spent = BudgetUse(plan, state).spent(now=now)
    if spent is not None:
        place, required, limit = spent
        remedy = f"extend it too: --set {place}=..."
        raise SpecError([Problem(place, f"must be {required}, or no trial may start; got {limit:g}; {remedy}")])


def _named(trials: list[Trial]) -> str:
    names = ", ".join(trial.id for trial in trials[:MAX_NAMED])
    return f"{names} and {len(trials) - MAX_NAMED} more" if len(trials) > MAX_NAMED else names
