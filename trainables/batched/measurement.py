"""Time of an epoch of several trials in one process, batched as far as they can be: measured, as no rule predicts it.

Small networks gain, as most of their step is the start of small operations. Where one step fills a core, nothing is
gained, and on a CPU grouped convolutions may lose.
"""

import time
from collections.abc import Callable, Sequence

import torch

from trainables.batched.refusals import program_key
from trainables.batched.trials import BatchedTrials
from trainables.config.trial import TrialConfig
from trainables.engine.epoch_loop import EpochLoop
from trainables.tasks.classifier.run import ClassifierRun, start

__all__ = ["epoch_s"]

NEVER_LAST = 10**6
"""Epochs of the trials: no epoch is the last one, which measures more."""
SHORT_S = 2.0
"""An epoch that is shorter is trained once more, without what the first one sets up."""


def epoch_s(configs: Sequence[TrialConfig]) -> float:
    """Return the seconds of an ordinary epoch of all these trials: those of one program batched, then the rest.

    Seconds are the processor's where one thread of a CPU trains, so that other work on the machine disturbs less.

    Raises:
        TrainableError: a trial cannot be trained, or those of one program do not fit together.

    >>> 0 < epoch_s([TrialConfig.from_point({"model.name": "mlp", "seed": seed}) for seed in (1, 2)]) < 60
    True
    """
    groups: dict[str, list[EpochLoop[ClassifierRun]]] = {}
    for number, config in enumerate(configs):
        loop = start(_without_end(config))
        groups.setdefault(program_key(config) or str(number), []).append(loop)
    epochs = [members[0].run_epoch if len(members) == 1 else _batched(members) for members in groups.values()]
    device = next(iter(groups.values()))[0].run.placement.device.type
    clock = time.process_time if (device, torch.get_num_threads()) == ("cpu", 1) else time.perf_counter
    first_s = _seconds(epochs, clock)
    return _seconds(epochs, clock) if first_s < SHORT_S else first_s


def _without_end(config: TrialConfig) -> TrialConfig:
    return TrialConfig.from_point({**config.to_point(), "epochs": NEVER_LAST, "evaluation.epochs": []})


def _batched(loops: Sequence[EpochLoop[ClassifierRun]]) -> Callable[[], object]:
    trials = BatchedTrials()
    for number, loop in enumerate(loops):
        trials.join(str(number), loop)
    return trials.run_epoch


def _seconds(epochs: Sequence[Callable[[], object]], clock: Callable[[], float]) -> float:
    started = clock()
    for run_epoch in epochs:
        run_epoch()
    return clock() - started
