"""Local trial: train one trial of a spec in this process, without Ray, to try or debug a configuration."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import OrchestratorError
from orchestrator.planning.folders import located
from orchestrator.planning.points import first_points
from orchestrator.planning.provenance import find_own_code
from orchestrator.planning.seeds import derive_seed
from orchestrator.planning.trial_configs import attack_of
from trainables.config.own_metrics import is_own, labels_among
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.spec.model import SweepSpec
    from trainables.tasks.registry import AnyConfig

DIVERGED = "the objective {name} is {value}; in a sweep the trial would end as diverged; mend what it measures"


def config_of(spec: SweepSpec) -> AnyConfig:
    """Return the spec's baseline with its ``trial`` parameters: methods are off unless ``trial`` sets them."""
    _, baseline = first_points(spec)[0]
    seed = derive_seed(spec.search.seed, "trial", "single")
    config = {"seed": seed, **attack_of(spec), **baseline, **spec.trial}
    return task_of(spec.trial).from_point(located(config, Path.cwd()))


def run(spec: SweepSpec, *, say: Callable[[str], None]) -> None:
    """Train the baseline and print a line for each epoch.

    Args:
        spec: the checked spec.
        say: prints one line.

    Raises:
        OrchestratorError: the objective is not finite after an epoch, so the trial of a sweep would end as diverged.
    """
    find_own_code(spec, Path.cwd())
    trial, infinite = task_of(spec.trial).start(config_of(spec)), dict[str, float]()
    while not trial.finished:
        report = trial.run_epoch()
        measured = " ".join(f"{name}={value:.4g}" for name, value in report.metrics.items())
        say(f"epoch {report.epoch}: {measured}")
        now = {name: value for name, value in report.metrics.items() if not math.isfinite(value)}
        for name in sorted(now.keys() & set(spec.objective.metrics)):
            raise OrchestratorError(f"epoch {report.epoch}: {DIVERGED.format(name=name, value=now[name])}")
        for name in sorted(now.keys() - infinite.keys()):
            if _is_of_user(spec, name):
                say(f"note: {name} is {now[name]}; in a sweep such an epoch has no value of it")
        infinite |= now


def _is_of_user(spec: SweepSpec, metric: str) -> bool:
    return task_of(spec.trial).any_metric or is_own(metric, labels_among(spec.trial))
