"""Training of several classifiers as one program.

>>> from trainables.config.trial import TrialConfig
>>> points = [{"epochs": 1, "model.name": "mlp", "optimizer.lr": rate} for rate in (0.01, 0.1)]
>>> results = train_batched([TrialConfig.from_point(point) for point in points])
>>> [result.reports[-1].epoch for result in results]
[1, 1]
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainables.batched.trials import BatchedTrials, Ended
from trainables.config.trial import TrialConfig
from trainables.engine.epoch_loop import EpochLoop
from trainables.engine.epoch_report import EpochReport
from trainables.engine.placement import Placement
from trainables.models import TappedClassifier
from trainables.tasks.classifier.run import ClassifierRun, restore, start

__all__ = ["BatchedResult", "train_batched"]

Path = str | os.PathLike[str]
Report = Callable[[int, EpochReport], bool | None]


@dataclass(frozen=True, slots=True)
class BatchedResult:
    """Trained model in eval mode, a report for each epoch of this call, and the error that ended the trial, if one did.

    The model of a trial that diverged is that before the epoch in which it did.
    """

    model: TappedClassifier
    reports: tuple[EpochReport, ...]
    error: Ended | None = None


def train_batched(
    configs: Sequence[TrialConfig],
    *,
    report: Report | None = None,
    resume: Sequence[Path | None] = (),
    checkpoints: Sequence[Path | None] = (),
    placement: Placement | None = None,
) -> tuple[BatchedResult, ...]:
    """Train all trials to their last epochs; the results have the order of `configs`.

    After each epoch of a trial its state is saved to its directory of `checkpoints`, then ``report(index, report)`` is
    called, which may return False to end this trial. `resume` has the directory to continue from, of each trial; such
    a checkpoint may be that of a trial that trained alone. None, or no entry at all, is none.

    Raises:
        ConfigError: a trial that cannot be batched, or not with the first one; see `why_not_batched`.
        DatasetMissing, DatasetDamaged: the data set is not on this machine, or damaged.
        OutOfMemory: a step of all trials did not fit into the device's memory.
        CheckpointError: a directory of `resume` cannot be read or belongs to another trial.
    """
    saved, written = (list(paths) or [None] * len(configs) for paths in (resume, checkpoints))
    loops = [_loop(config, directory, placement) for config, directory in zip(configs, saved, strict=True)]
    trials, reports = BatchedTrials(), [list[EpochReport]() for _ in configs]
    errors: dict[int, Ended] = {}
    for index, loop in enumerate(loops):
        if not loop.finished:
            trials.join(str(index), loop)
    while trials.names:
        for name, outcome in trials.run_epoch().items():
            index = int(name)
            if not isinstance(outcome, EpochReport):
                errors[index] = outcome
                continue
            reports[index].append(outcome)
            directory = written[index]
            if directory is not None:
                loops[index].save(directory)
            if report is not None and report(index, outcome) is False and name in trials.names:
                trials.leave(name)
    return tuple(_result(loop, reports[i], errors.get(i)) for i, loop in enumerate(loops))


def _loop(config: TrialConfig, directory: Path | None, placement: Placement | None) -> EpochLoop[ClassifierRun]:
    if directory is None:
        return start(config, placement=placement)
    return restore(directory, config=config, placement=placement)


def _result(loop: EpochLoop[ClassifierRun], reports: Sequence[EpochReport], error: Ended | None) -> BatchedResult:
    return BatchedResult(loop.run.evaluated_model.eval(), tuple(reports), error)
