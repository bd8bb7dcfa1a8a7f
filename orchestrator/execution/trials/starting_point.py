"""Starting point of an attempt: the checkpoint that it continues, and the folder of those that it saves."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from trainables.engine import checkpoint
from trainables.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_state import SweepState, Trial

logger = logging.getLogger(__name__)


def attempt_folder(config: Mapping[str, Any]) -> str:
    """Name one folder for each attempt of each driver, so that a resumed trial overwrites no older checkpoint.

    >>> attempt_folder({"ravel.trial": "t003", "ravel.attempt": 2, "ravel.generation": 1})
    't003-2-g1'
    """
    return f"{config['ravel.trial']}-{config['ravel.attempt']}-g{config['ravel.generation']}"


def latest_checkpoint(folder: SweepFolder, trial: Trial) -> str | list[str] | None:
    """Return the absolute path of a trial's newest readable checkpoint; None if it has none.

    For a sweep in S3, return the addresses of all checkpoints, newest first: the worker tries them in that order.
    """
    if folder.remote is not None:
        return [folder.remote.uri(saved.path) for saved in reversed(trial.checkpoints)] or None
    for saved in reversed(trial.checkpoints):
        path = (folder.path / saved.path).resolve()
        try:
            checkpoint.load(path)
        except CheckpointError as error:
            if path.exists():
                logger.warning("%s: %s; an older one is used", trial.id, error)
        else:
            return str(path)
    return None


def parent_checkpoint(folder: SweepFolder, state: SweepState, trial: Trial) -> dict[str, Any] | None:
    """Return the place of the checkpoint that a descendant continues, and the parameters that changed; else None.

    The worker reads it where the descendant has no checkpoint of its own, and says so if it cannot.
    """
    if trial.descent is None:
        return None
    parent = state.trials[trial.descent.parent]
    *_, path = (saved.path for saved in (*parent.dropped, *parent.checkpoints) if saved.epoch == trial.descent.epoch)
    names = {**parent.config, **trial.config}
    return {
        "checkpoint": str((folder.path / path).resolve()) if folder.remote is None else folder.remote.uri(path),
        "changed": sorted(name for name in names if parent.config.get(name) != trial.config.get(name)),
    }
