"""Models of saved trials: a checkpoint's directory becomes a classifier."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trainables.config.trial import TrialConfig
from trainables.data import shape_of
from trainables.engine import checkpoint as state
from trainables.engine import resume
from trainables.errors import CheckpointError, short_repr
from trainables.models.own import without_pretrained
from trainables.models.registry import build
from trainables.models.tapped import TappedClassifier

__all__ = ["check_weights", "load_model", "saved_config"]

Path = str | os.PathLike[str]


def load_model(directory: Path, *, device: torch.device | str = "cpu") -> TappedClassifier:
    """Return the model of a checkpoint as it was evaluated, in eval mode; no data set is read.

    Raises:
        CheckpointError: the checkpoint cannot be read, or is of another network than its name means now.
        ConfigError: its network can no longer be built.
    """
    checkpoint = state.load(directory)
    config = saved_config(directory, checkpoint)
    if checkpoint.image_shape is None or checkpoint.num_classes is None:  # format 1, whose data sets had one shape each
        image_shape, num_classes = shape_of(config.data)
    else:
        channels, height, width = checkpoint.image_shape
        image_shape, num_classes = (channels, height, width), checkpoint.num_classes
    model = build(without_pretrained(config.model), image_shape=image_shape, num_classes=num_classes)
    check_weights(model, checkpoint.evaluated_model, name=config.model.name, directory=directory)
    model.load_state_dict(checkpoint.evaluated_model)
    return model.to(device).eval()


def saved_config(directory: Path, checkpoint: state.Checkpoint) -> TrialConfig:
    """Return the configuration of the classifier that a checkpoint belongs to.

    Raises:
        CheckpointError: it has none that this version knows.
    """
    return resume.saved_config(TrialConfig, directory, checkpoint)


def check_weights(model: TappedClassifier, weights: Mapping[str, Any], *, name: str, directory: Path) -> None:
    """Return if the weights of a checkpoint are those of a network.

    Raises:
        CheckpointError: their names or shapes differ, as its code changed.
    """
    saved, now = _shapes(weights), _shapes(model.state_dict())
    changed = [key for key in {**saved, **now} if saved.get(key) != now.get(key)]
    if changed:
        key = changed[0]
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        was, is_now = (shapes.get(key, "absent") for shapes in (saved, now))
        reason = f"{short_repr(name)} is another network now: {short_repr(key)} was {was}, is {is_now}{more}"
        remedy = "restore the code and the versions of libraries that it was trained with, or start a new trial"
        raise CheckpointError(str(directory), reason, remedy)


def _shapes(weights: Mapping[str, Any]) -> dict[str, str]:
    """Return the shape of each tensor, as text; other values may change."""
    return {key: str(tuple(value.shape)) if isinstance(value, Tensor) else "" for key, value in weights.items()}
