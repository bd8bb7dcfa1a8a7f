"""Training of one classifier.

>>> from trainables.config.trial import TrialConfig
>>> result = train(TrialConfig.from_point({"epochs": 1, "model.name": "mlp"}))
>>> result.reports[-1].epoch, result.metrics["val/accuracy"] > 0.3
(1, True)
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trainables.config.trial import TrialConfig
from trainables.engine.epoch_report import EpochReport
from trainables.engine.placement import Placement
from trainables.models import TappedClassifier
from trainables.tasks.classifier import run

__all__ = ["TrainingResult", "train"]

Path = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """Trained model in eval mode, and a report for each epoch that this call trained."""

    model: TappedClassifier
    reports: tuple[EpochReport, ...]

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metrics of the last epoch; empty if no epoch was left to train."""
        return self.reports[-1].metrics if self.reports else {}


def train(
    config: TrialConfig,
    *,
    report: Callable[[EpochReport], None] | None = None,
    resume: Path | None = None,
    checkpoint: Path | None = None,
    placement: Placement | None = None,
) -> TrainingResult:
    """Train to the last epoch; call `report` after each, and save to the directory `checkpoint` before.

    With `resume`, continue from that checkpoint directory: on CPU, with as many threads, the result
    is bit for bit that of a trial that was never interrupted.

    Raises:
        ConfigError: a layer that the model does not have.
        DatasetMissing: the data set is not on this machine.
        DatasetDamaged: the data set is damaged.
        Diverged: a loss is not finite.
        OutOfMemory: a step did not fit into the device's memory.
        AttackOverfitted: accuracy under PGD fell by more than the trial allows.
        CheckpointError: `resume` cannot be read or belongs to another trial.
    """
    if resume is None:
        loop = run.start(config, placement=placement)
    else:
        loop = run.restore(resume, config=config, placement=placement)
    reports = loop.run_all(report=report, checkpoint=checkpoint)
    return TrainingResult(loop.run.evaluated_model.eval(), reports)
