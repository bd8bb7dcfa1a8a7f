"""Configuration of a saved trial: read it from a checkpoint, and compare it with that of a resumed trial."""

import os
from typing import TypeVar

from pydantic import ValidationError

from trainables.config.points import FlatConfig, problems_of
from trainables.config.trial import PLACE
from trainables.engine import checkpoint as state
from trainables.errors import CheckpointError, short_repr

__all__ = ["check_same_trial", "read_trial", "saved_config"]

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


def check_same_trial(directory: Path, *, saved: FlatConfig, resumed: FlatConfig) -> None:
    """Return if both configurations describe one trial; the place where it runs may differ, and it may get more epochs.

    Raises:
        CheckpointError: they do not; names the parameters that differ.
    """
    before, now = saved.to_point(), resumed.to_point()
    if now.get("epochs", 0) > before.get("epochs", 0):  # extended by order: its first epochs are what they were
        before |= {name: now[name] for name in EXTENDED if name in now}
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name) and name not in PLACE]
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
