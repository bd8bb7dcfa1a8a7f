"""Configuration of a saved trial: read it from a checkpoint, compare it with that of a trial that continues from it.

A trial is resumed from its own checkpoint, bit for bit. A *descendant* continues the training of another trial, its
parent, with other settings: it has the parent's weights, their average, the moments of the optimizer and what
regularizers remember, and nothing else of it (see `inherited`).
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import ValidationError

from trainables.config.points import FlatConfig, problems_of
from trainables.config.trial import PLACE
from trainables.engine import checkpoint as state
from trainables.errors import CheckpointError, short_repr

__all__ = ["check_same_trial", "inherited", "read_parent", "read_trial", "saved_config"]

Path = str | os.PathLike[str]
C = TypeVar("C", bound=FlatConfig)
_LONGEST_PART = 200
EXTENDED = ("epochs", "evaluation.epochs")


def read_trial(config_type: type[C], directory: Path, *, config: C | None) -> tuple[state.Checkpoint, C]:
    """Return a checkpoint and the configuration to continue with: `config`, or the saved one if that is None.

    `config` must describe the saved trial; the place of the data and the device may differ.

    Raises:
        CheckpointError: the checkpoint cannot be read, or belongs to another trial.
    """
    checkpoint = state.load(directory)
    saved = saved_config(config_type, directory, checkpoint)
    if config is None:
        return checkpoint, saved
    check_same_trial(directory, saved=saved, resumed=config)
    return checkpoint, config


def read_parent(config_type: type[C], directory: Path, *, config: C, changed: Collection[str]) -> state.Checkpoint:
    """Return the checkpoint of the parent of a trial, from which it differs in its seed and the ``changed`` parameters.

    Raises:
        CheckpointError: it cannot be read, or is that of a trial that differs in more.
    """
    checkpoint = state.load(directory)
    saved = saved_config(config_type, directory, checkpoint)
    check_same_trial(directory, saved=saved, resumed=config, free={*changed, "seed"})
    return checkpoint


def inherited(parent: state.Checkpoint, own: Mapping[str, Any], *, keeps_groups: bool = False) -> state.Checkpoint:
    """Return the state in which a descendant begins: its parent's, but for what its own settings and seed decide.

    The hyperparameters of the optimizer and the random streams are its own. The last accuracy under PGD, by which the
    guard against overfitting to an attack compares epochs, is forgotten, since the attack may have another strength.

    Args:
        parent: Checkpoint of the parent.
        own: State of the descendant before its first epoch, as its run returns it.
        keeps_groups: The parameter groups of the optimizer stay the parent's, as a user's own may keep state in them.

    >>> parent = state.Checkpoint("{}", 3, {"w": 1}, {"state": {0: 7}, "param_groups": [{"lr": 0.1}]}, {"order": 1})
    >>> own = {"optimizer": {"state": {}, "param_groups": [{"lr": 0.2}]}, "streams": {"order": 2}}
    >>> begun = inherited(parent, own)
    >>> begun.optimizer, begun.streams
    ({'state': {0: 7}, 'param_groups': [{'lr': 0.2}]}, {'order': 2})
    """
    groups = parent.optimizer if keeps_groups else own["optimizer"]
    optimizer = {**parent.optimizer, "param_groups": groups["param_groups"]}
    return replace(parent, optimizer=optimizer, streams=own["streams"], pgd_accuracy=None)


def saved_config(config_type: type[C], directory: Path, checkpoint: state.Checkpoint) -> C:
    """Return the configuration of the trial that a checkpoint belongs to.

    Raises:
        CheckpointError: it is no configuration of this kind that this version knows.
    """
    try:
        return config_type.model_validate_json(checkpoint.config)
    except ValidationError as error:
        raise CheckpointError(
            str(directory),
            f"describes no valid {config_type.trial_kind} ({_summary(list(map(str, problems_of(error))))})",
            "read it with the version and the kind of trial that wrote it",
        ) from error


def check_same_trial(directory: Path, *, saved: FlatConfig, resumed: FlatConfig, free: Collection[str] = ()) -> None:
    """Return if both configurations describe one trial; the place where it runs may differ, and it may get more epochs.

    The parameters in ``free`` may differ too.

    Raises:
        CheckpointError: they do not; names the parameters that differ.
    """
    before, now = saved.to_point(), resumed.to_point()
    if now.get("epochs", 0) > before.get("epochs", 0):  # extended by order: its first epochs are what they were
        before |= {name: now[name] for name in EXTENDED if name in now}
    fixed = [name for name in {**before, **now} if name not in PLACE and name not in free]
    changed = [name for name in fixed if before.get(name) != now.get(name)]
    if changed:
        changes = [
            f"{name} (saved {short_repr(before.get(name))}, now {short_repr(now.get(name))})" for name in changed
        ]
        reason = f"belongs to another trial: {_summary(changes)}"
        raise CheckpointError(str(directory), reason, "resume it with its own parameters")


def _summary(parts: list[str]) -> str:
    """Return the first part, cut to a readable length, and the number of further parts."""
    more = f" and {len(parts) - 1} more" if len(parts) > 1 else ""
    return f"{parts[0][:_LONGEST_PART]}{more}"
