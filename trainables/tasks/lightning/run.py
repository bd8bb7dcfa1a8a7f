"""Trial of a `LightningModule`: a training function whose epochs Lightning trains."""

import os
from functools import partial
from typing import Any

from trainables.engine.epoch_loop import EpochLoop
from trainables.engine.placement import Placement, placement_of
from trainables.engine.resume import read_trial
from trainables.tasks.function.run import FunctionRun
from trainables.tasks.lightning.config import LightningConfig
from trainables.tasks.lightning.fitting import epochs_of
from trainables.tasks.lightning.user_classes import built_module, check

__all__ = ["check", "load_module", "restore", "start"]

Path = str | os.PathLike[str]


def start(config: LightningConfig, *, placement: Placement | None = None) -> EpochLoop[FunctionRun]:
    """Return a trial before its first epoch; without a `placement`, on the device that it names."""
    return EpochLoop(_run(config, placement))


def restore(
    directory: Path, *, config: LightningConfig | None = None, placement: Placement | None = None
) -> EpochLoop[FunctionRun]:
    """Return a trial that continues from a checkpoint.

    Raises:
        CheckpointError: the checkpoint cannot be read, or belongs to another trial.
    """
    checkpoint, config = read_trial(LightningConfig, directory, config=config)
    return EpochLoop(_run(config, placement), checkpoint=checkpoint)


def load_module(directory: Path) -> Any:
    """Return the `LightningModule` of a checkpoint, in eval mode on the CPU; no data is prepared.

    Raises:
        CheckpointError: the checkpoint cannot be read, or is no trial's of a `LightningModule`.
        ConfigError: its class cannot be imported any more.
    """
    checkpoint, config = read_trial(LightningConfig, directory, config=None)
    module = built_module(config)
    module.load_state_dict(checkpoint.model["state"]["state_dict"])
    return module.eval()


def _run(config: LightningConfig, placement: Placement | None) -> FunctionRun:
    return FunctionRun(config, placement or placement_of(config), partial(epochs_of, config), saved="its checkpoint")
