"""Leaderboard of a sweep, its best trial, and its events in words: functions of the plan and the state alone."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.table import Table

from orchestrator.analysis.claims.intervals import student_interval
from orchestrator.analysis.comparison.comparison import compare
from orchestrator.analysis.comparison.epochs import epoch_of_best
from orchestrator.analysis.lineage import perturbation, schedule_lines
from orchestrator.analysis.sweep_progress import headline, progress
from orchestrator.errors import OrchestratorError
from orchestrator.formatting import shown
from orchestrator.planning.points import num_trials
from orchestrator.planning.seeds import configurations_of, searched_state, seed_trial_id
from orchestrator.spec.baseline import strengths_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.sweep_counts import SweepCounts
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.scheduling.configurations import Configuration
    from orchestrator.spec.objective import Objective
    from orchestrator.state.events import Event
    from orchestrator.state.sweep_state import SweepState, Trial

NAMES = {
    "completed": "full budget",
    "stopped": "stopped",
    "paused": "paused",
    "diverged": "diverged",
    "failed": "failed",
}

MAX_WORD = 10
"""Characters of a name in one line of a column's header."""

LEGEND = "* baseline: every searched method off · rung N: stopped · paused N: may resume"
"""Meaning of the marks in the columns of trials and statuses."""


def table(plan: SweepPlan, state: SweepState, *, top: int) -> Table:
    """Return the leaderboard; it fits 80 columns. A star marks the baseline, see ``LEGEND``.

    Trials are ranked at equal epochs: those that ran longest first, and among trials of the same epoch the best first.
    With several seeds a row is a configuration: its mean, the seeds of that epoch, and Student's 95 % of the mean.
    """
    objective = plan.spec.objective
    parameters = shown_parameters(plan)
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    grid.add_column("#", justify="right")
    grid.add_column("trial")
    unit = plan.unit_of(objective.metric)
    grid.add_column(header(objective.metric, "/") + (f"\n({unit})" if unit else ""), justify="right")
    configurations = configurations_of(plan, state)
    if configurations:
        grid.add_column("seeds", justify="right")
        grid.add_column("95 % ±", justify="right")
    grid.add_column("epoch", justify="right")
    grid.add_column("status")
    for name in parameters:
        grid.add_column(header(name, "."), justify="right")
    for rank, trial in enumerate(by_epoch(searched_state(plan, state), objective)[:top], start=1):
        grid.add_row(
            str(rank),
            trial.id + ("*" if trial.origin == "baseline" else ""),
            f"{trial.score(objective):.4f}",
            *_over_seeds(configurations, trial),
            f"{trial.epoch}/{trial.budget}",
            short_status(trial),
            *(shown(trial.config.get(name)) for name in parameters),
            style="bold" if rank == 1 else None,
        )
    return grid


def _over_seeds(configurations: Mapping[str, Configuration], trial: Trial) -> list[str]:
    """Return the seeds behind a configuration's value of those it may have, and half of the interval of its mean."""
    if not configurations:
        return []
    configuration = configurations[trial.id]
    values = [value[0] for value in configuration.values(trial.epoch).values()]
    half = (student_interval(values).high - math.fsum(values) / len(values)) if len(values) > 1 else None
    return [f"{len(values)}/{configuration.seeds}", "" if half is None else f"{half:.4f}"]


def by_epoch(state: SweepState, objective: Objective) -> list[Trial]:
    """Return the trials that measured the objective, those that did so at the highest epoch first, the best first."""
    return sorted(state.ranked(objective), key=lambda trial: -max(trial.values(objective.metric)))


def comparison_of_best(plan: SweepPlan, state: SweepState) -> Comparison | None:
    """Return the comparison at the epoch of the best trial, see ``epoch_of_best``; None before any value."""
    try:
        return compare(plan, state, epoch=epoch_of_best(plan, state))
    except OrchestratorError:
        return None


def comparison_lines(plan: SweepPlan, state: SweepState) -> list[str]:
    """Return the set of trials that cannot be told apart from the best, and its interval; nothing without a value."""
    compared = comparison_of_best(plan, state)
    return [] if compared is None else compared.lines()


def header(name: str, separator: str) -> str:
    r"""Return a name in lines: its group, then the rest, a word a line if it is long.

    >>> header("optimizer.lr", "."), header("gan.discriminator_snnl", ".")
    ('optimizer.\nlr', 'gan.\ndiscriminator_\nsnnl')
    """
    group, separator, rest = name.partition(separator)
    lines = rest if len(rest) <= MAX_WORD else rest.replace("_", "_\n")
    return f"{group}{separator}\n{lines}" if separator else name


def short_status(trial: Trial) -> str:
    """Return the status in a word or two, with the rung of a stopped or paused trial."""
    if trial.status == "completed" and trial.blind_from is not None:
        return f"audit of {trial.blind_from}"
    if trial.stopped_by_order:
        return "by order"
    if trial.is_out_of_race:
        return "dropped"
    if trial.status in {"stopped", "paused"}:
        return f"{'rung' if trial.status == 'stopped' else 'paused'} {trial.stopping_rung}"
    return NAMES.get(trial.status, trial.status)


def shown_parameters(plan: SweepPlan) -> list[str]:
    """Return the parameters worth a column: the strengths of the methods, then the first searched parameters."""
    searched = list(plan.spec.space.names)
    first = [name for name in strengths_of(plan.spec) if name in searched]
    names = dict.fromkeys(name for name in (*first, "optimizer.lr", *searched) if name in searched)
    return list(names)[: max(4, len(first))]


def describe_status(trial: Trial) -> str:
    """Return the status in words, with the rung of a stopped trial and a mark of the baseline."""
    words = "dropped" if trial.is_out_of_race else NAMES.get(trial.status, trial.status)
    if trial.status in {"stopped", "paused"} and not trial.stopped_by_order and not trial.is_out_of_race:
        words = f"{words} at rung {trial.stopping_rung}"
    if trial.blind_from is not None:
        words = f"{words} for the audit of rung {trial.blind_from}"
    return f"{words} (baseline)" if trial.origin == "baseline" else words


def failures(state: SweepState) -> list[str]:
    """Return one line for each trial that diverged or failed, with its reason."""
    lost = state.with_status("diverged", "failed")
    return [f"{trial.id} {trial.status}: {trial.end.reason}" for trial in lost if trial.end is not None]


def measured(plan: SweepPlan, score: float | None) -> str:
    """Return the objective with its value, and with its unit if a user's own code declares one."""
    metric = plan.spec.objective.metric
    unit = plan.unit_of(metric)
    return f"{metric} {score:.4f}{f' {unit}' if unit else ''}"


def best_lines(plan: SweepPlan, state: SweepState) -> list[str]:
    """Return the best trial, its score next to the baseline's, and its searched parameters, a line each."""
    objective, state = plan.spec.objective, searched_state(plan, state)
    best = state.best(objective)
    if best is None:
        return [f"no trial has measured {objective.metric} yet"]
    baseline = next((trial for trial in state.trials.values() if trial.origin == "baseline"), None)
    score = baseline.score(objective) if baseline is not None else None
    compared = f"; baseline {baseline.id}: {score:.4f}" if baseline is not None and score is not None else ""
    shown_score = measured(plan, best.score(objective))
    seeds = f" (mean of {plan.spec.search.seeds} seeds)" if plan.spec.search.seeds > 1 and _is_whole(best) else ""
    lines = [f"best {best.id}: {shown_score}{seeds} after epoch {best.epoch}{compared}"]
    lines += [f"  {name}: {shown(value)}" for name, value in best.point.items()]
    return [*lines, *schedule_lines(plan, state, best)]


def best_so_far(plan: SweepPlan, state: SweepState) -> str:
    """Return the best trial in one line: its score, its epoch, and the parameters that the leaderboard shows."""
    objective, state = plan.spec.objective, searched_state(plan, state)
    best = state.best(objective)
    if best is None:
        return f"no trial has measured {objective.metric} yet"
    mark = "*" if best.origin == "baseline" else ""
    values = ", ".join(f"{name} {shown(best.config[name])}" for name in shown_parameters(plan) if name in best.config)
    score = f"{measured(plan, best.score(objective))} after epoch {best.epoch}"
    return f"best {best.id}{mark}: {score}{'; ' if values else ''}{values}"


def _is_whole(trial: Trial) -> bool:
    return trial.status == "completed"


def event_line(plan: SweepPlan, state: SweepState, event: Event, *, counts: SweepCounts | None = None) -> str | None:
    """Return one plain line for an event that starts, pauses, resumes or ends a trial; None for the rest.

    ``ravel logs`` prints every event, the epochs of a trial included. ``counts`` of the state are brought up to date
    where the line shows the progress; without them, all trials are counted for each such line.
    """
    words = _message(plan, state, event, counts)
    if not words:
        return None
    clock = datetime.fromtimestamp(event.time, tz=UTC).astimezone().strftime("%H:%M:%S")
    return f"{clock} {words}"


def _message(plan: SweepPlan, state: SweepState, event: Event, counts: SweepCounts | None) -> str | None:
    objective = plan.spec.objective
    match event.kind:
        case "sweep_started":
            resumed = f" (resumed, driver {event.generation})" if event.generation > 1 else ""
            return f"{plan.sweep}: {num_trials(plan.spec)}{resumed}"
        case "attempt_failed":
            shared = "" if event.shared_by is None else f", shared by {event.shared_by} trials"
            return f"{event.trial} attempt {event.attempt} failed ({event.cause}{shared}): {event.reason}; retrying"
        case "order_accepted":
            return f"by order of {event.author}: {'; '.join(event.notes)}"
        case "order_refused":
            return f"refused an order of {event.author or 'an unknown user'}: {'; '.join(event.reasons)}"
        case "seeds_dropped":
            names = ", ".join(seed_trial_id(event.trial, number) for number in event.seeds)
            return f"{event.trial}: racing drops {names}: {event.reason}"
        case "trial_created" if event.descent is not None:
            return f"{event.trial} {perturbation(event)}"
        case "trial_promoted" if plan.spec.scheduler.name == "pbt":  # every member that continues, at every rung
            return None
        case "trial_promoted":
            return f"{event.trial} promoted from rung {event.rung}{' for the audit' if event.audited else ''}"
        case "trial_ended":
            trial = state.trials[event.trial]
            if plan.spec.scheduler.name == "pbt" and trial.status == "paused":
                return None
            if (
                plan.pauses and trial.status == "stopped" and not trial.stopped_by_order
            ):  # its line was printed when it paused
                return None
            score = trial.score(objective)
            value = "nothing measured" if score is None else measured(plan, score)
            reason = f" ({event.reason})" if event.reason else ""
            summary = progress(plan, state, now=event.time, counts=counts)
            ended = f"{trial.id} {describe_status(trial)} after epoch {trial.epoch}: {value}{reason}"
            return f"{ended}  [{headline(summary)}]"
        case _:
            return None


def log_line(event: Event) -> str:
    """Return an event of any kind in one line, for ``ravel logs``."""
    clock = datetime.fromtimestamp(event.time, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    fields = event.model_dump(exclude={"v", "time", "kind", "config", "traceback"}, exclude_none=True)
    words = " ".join(f"{name}={_compact(value)}" for name, value in fields.items())
    return f"{clock} {event.kind} {words}"


def _compact(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + " ".join(f"{name}={shown(item)}" for name, item in value.items()) + "}"
    return shown(value)
