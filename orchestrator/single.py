"""One trial of a spec in this process, without Ray: to try a configuration, or to debug one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.plan import derive_seed, first_points, located
from trainables.config import TrialConfig
from trainables.loop import train

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.spec import SweepSpec
    from trainables.loop import EpochReport


def config_of(spec: SweepSpec) -> TrialConfig:
    """The spec's baseline with its ``trial`` parameters: methods are off unless ``trial`` says otherwise."""
    _, baseline = first_points(spec)[0]
    seed = derive_seed(spec.search.seed, "trial", "single")
    config = {"seed": seed, "evaluation.robust_epsilon": spec.evaluation.robust_epsilon, **baseline, **spec.trial}
    return TrialConfig.from_point(located(config, Path.cwd()))


def run(spec: SweepSpec, *, say: Callable[[str], None]) -> None:
    """Train it, a line for each epoch."""

    def report(epoch: EpochReport) -> None:
        measured = " ".join(f"{name}={value:.4g}" for name, value in epoch.metrics.items())
        say(f"epoch {epoch.epoch}: {measured}")

    train(config_of(spec), report=report)
