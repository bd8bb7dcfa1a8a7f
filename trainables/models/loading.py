"""Models of saved trials: a checkpoint's directory becomes a classifier."""

import os

import torch

from trainables.config.trial import TrialConfig
from trainables.data import shape_of
from trainables.engine import checkpoint as state
from trainables.engine import resume
from trainables.models.registry import build
from trainables.models.staged import StagedClassifier

__all__ = ["load_model", "saved_config"]

Path = str | os.PathLike[str]


def load_model(directory: Path, *, device: torch.device | str = "cpu") -> StagedClassifier:
    """Return the model of a checkpoint as it was evaluated, in eval mode; no data set is read.

    Raises:
        CheckpointError: the checkpoint cannot be read.
    """
    checkpoint = state.load(directory)
    config = saved_config(directory, checkpoint)
    if checkpoint.image_shape is None or checkpoint.num_classes is None:  # format 1, whose data sets had one shape each
        image_shape, num_classes = shape_of(config.data)
    else:
        channels, height, width = checkpoint.image_shape
        image_shape, num_classes = (channels, height, width), checkpoint.num_classes
    model = build(config.model, image_shape=image_shape, num_classes=num_classes)
    model.load_state_dict(checkpoint.evaluated_model)
    return model.to(device).eval()


def saved_config(directory: Path, checkpoint: state.Checkpoint) -> TrialConfig:
    """Return the configuration of the classifier that a checkpoint belongs to.

    Raises:
        CheckpointError: it has none that this version knows.
    """
    return resume.saved_config(TrialConfig, directory, checkpoint)
