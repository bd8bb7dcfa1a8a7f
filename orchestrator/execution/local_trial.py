"""Local trial: train one trial of a spec in this process, without Ray, to try or debug a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.planning.folders import located
from orchestrator.planning.points import first_points
from orchestrator.planning.provenance import find_own_code
from orchestrator.planning.seeds import derive_seed
from orchestrator.planning.trial_configs import attack_of
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.spec.model import SweepSpec
    from trainables.tasks.registry import AnyConfig


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
    """
    find_own_code(spec, Path.cwd())
    trial = task_of(spec.trial).start(config_of(spec))
    while not trial.finished:
        report = trial.run_epoch()
        measured = " ".join(f"{name}={value:.4g}" for name, value in report.metrics.items())
        say(f"epoch {report.epoch}: {measured}")
