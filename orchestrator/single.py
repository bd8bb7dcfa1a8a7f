"""One trial of a spec in this process, without Ray: to try a configuration, or to debug one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.plan import METHOD_STRENGTHS, complete, derive_seed
from trainables.config import TrialConfig
from trainables.loop import train

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.spec import SweepSpec
    from trainables.loop import EpochReport


def config_of(spec: SweepSpec) -> TrialConfig:
    """The spec's baseline with its ``trial`` parameters: methods are off unless ``trial`` says otherwise."""
    off = {name: 0.0 for name in METHOD_STRENGTHS if name in spec.space.names and name not in spec.trial}
    point = complete(spec.space, {**off, **{name: spec.trial[name] for name in spec.trial if name in spec.space.names}})
    seed = derive_seed(spec.search.seed, "trial", "single")
    return TrialConfig.from_point(
        {"seed": seed, "evaluation.robust_epsilon": spec.evaluation.robust_epsilon, **point, **spec.trial}
    )


def run(spec: SweepSpec, *, say: Callable[[str], None]) -> None:
    """Train it, a line for each epoch."""

    def report(epoch: EpochReport) -> None:
        measured = " ".join(f"{name}={value:.4g}" for name, value in epoch.metrics.items())
        say(f"epoch {epoch.epoch}: {measured}")

    train(config_of(spec), report=report)
