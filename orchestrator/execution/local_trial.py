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

DIVERGED = "a sweep ends this trial as diverged; mend what measures it, or what it measures"
AT_A_RUNG = "a sweep ends the trial as diverged if this is a rung or the last epoch"
NO_VALUE = "in a sweep this epoch has no value of it"


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
        OrchestratorError: the objective is not finite after the last epoch, where a sweep ends the trial as diverged.
    """
    find_own_code(spec, Path.cwd())
    config, noted = config_of(spec), set[str]()
    trial = task_of(spec.trial).start(config)
    while not trial.finished:
        report = trial.run_epoch()
        measured = " ".join(f"{name}={value:.4g}" for name, value in report.metrics.items())
        say(f"epoch {report.epoch}: {measured}")
        infinite = {name: value for name, value in report.metrics.items() if not math.isfinite(value)}
        lost = [name for name in spec.objective.metrics if name in infinite]
        if lost and report.epoch == config.epochs:
            what = " and ".join(f"{name} is {infinite[name]}" for name in lost)
            raise OrchestratorError(f"epoch {report.epoch}: the objective {what}; {DIVERGED}")
        for name in sorted(infinite.keys() - noted):
            if name in lost or task_of(spec.trial).any_metric or is_own(name, labels_among(spec.trial)):
                say(f"note: {name} is {infinite[name]}; {AT_A_RUNG if name in lost else NO_VALUE}")
        noted |= infinite.keys()
