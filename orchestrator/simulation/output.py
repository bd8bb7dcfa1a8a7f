"""Output of ``ravel simulate``: what the curves are, how far their surrogate can be trusted, and the policies."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from orchestrator.simulation.surrogate import Surrogate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.simulation.objective_value import Value
    from orchestrator.simulation.policies import Mean, Score
    from orchestrator.simulation.tables import Table

COLUMNS = ("sampler", "scheduler", "budget", "workers", "epochs", "gradients", "hours", "regret", "against the first")


def header(truth: Surrogate | Table, value: Value, *, sweeps: int, trials: int) -> list[str]:
    """Return the lines above the policies."""
    table = truth.table if isinstance(truth, Surrogate) else truth
    diverged = sum(trial.diverged for trial in table.trials)
    lines = [
        f"{table.name}: {len(table.by_point)} points, {len(table.trials)} trials of {table.epochs} epochs"
        + (f", {diverged} diverged" if diverged else "")
    ]
    if isinstance(truth, Surrogate):
        lines += [
            *(f"surrogate of {metric}: {_quality(truth, metric)}" for metric in value.parts),
            f"noise: {'differences between training seeds' if truth.has_seeds else 'residuals of the surrogate'}",
        ]
    kind = "searches" if isinstance(truth, Surrogate) else "sweeps over recorded points"
    lines.append(f"{sweeps} {kind} of {trials} trials, paired by seed; regret of {value} with its 95 % interval")
    return lines


def _quality(surrogate: Surrogate, metric: str) -> str:
    parts = (
        f"epoch {quality.epoch} R² {quality.r2:.2f}, rank correlation {quality.spearman:.2f}"
        for quality in surrogate.quality
        if quality.metric == metric
    )
    return f"{'; '.join(parts)} (points it did not see)"


def text(scores: Sequence[Score], head: Sequence[str]) -> str:
    """Return the scores as a table of plain text."""
    rows = [COLUMNS, *map(_row, scores)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    kept = [column for column in range(len(COLUMNS)) if any(row[column] not in {"", "-"} for row in rows[1:])]
    lines = ["  ".join(row[column].ljust(widths[column]) for column in kept).rstrip() for row in rows]
    return "\n".join([*head, "", *lines])


def _row(score: Score) -> tuple[str, ...]:
    policy = score.policy
    return (
        policy.sampler or "-",
        policy.scheduler,
        "-" if policy.budget is None else f"{policy.budget:g}",
        str(policy.workers),
        f"{score.epochs:.3f}",
        f"{score.passes:.3f}",
        f"{score.hours:.2g}",
        _shown(score.regret),
        _shown(score.against_first, signed=True),
    )


def _shown(mean: Mean, *, signed: bool = False) -> str:
    number = f"{mean.value:+.4f}" if signed else f"{mean.value:.4f}"
    return f"{number} ± {mean.margin:.4f}"


def as_json(scores: Sequence[Score], truth: Surrogate | Table, value: Value, *, sweeps: int, trials: int) -> str:
    """Return the same as JSON, with the regret of each sweep."""
    table = truth.table if isinstance(truth, Surrogate) else truth
    quality = [asdict(quality) for quality in truth.quality] if isinstance(truth, Surrogate) else None
    plain = {
        "table": table.name,
        "points": len(table.by_point),
        "recorded_trials": len(table.trials),
        "diverged": sum(trial.diverged for trial in table.trials),
        "epochs": table.epochs,
        "objective": str(value),
        "sweeps": sweeps,
        "trials": trials,
        "surrogate": quality,
        "policies": [asdict(score) for score in scores],
    }
    return json.dumps(plain, indent=1)
