"""Classifier of synthetic images.

A small classifier is trained once per process and data set, always in the same way. If it is too small for your
images, set `gan.classifier` to the checkpoint of a better one.
"""

import logging
import math
from functools import lru_cache

from trainables.config.sections import DataConfig
from trainables.config.trial import EvaluationConfig, ModelConfig, TrialConfig
from trainables.data import load_splits
from trainables.engine import checkpoint as state
from trainables.engine.placement import Placement
from trainables.errors import CheckpointError, ConfigError, Problem
from trainables.models import TappedClassifier
from trainables.models.loading import load_model, saved_config
from trainables.tasks.classifier.training import train
from trainables.tasks.gan.config import GanConfig

__all__ = ["classifier_config", "classifier_of"]

logger = logging.getLogger(__name__)
# Enough epochs for this many images: 10 for the digits, and at least 2.
_IMAGES = 10_000
_FEWEST_EPOCHS = 2
_FAIR_ACCURACY = 0.95
"""Validation accuracy below which counts of classes, and features, are those of a poor classifier."""


def classifier_of(config: GanConfig, placement: Placement) -> TappedClassifier:
    """Return the classifier of a trial's data set, in eval mode; it is shared, so do not change it.

    Raises:
        ConfigError: `gan.classifier` cannot be read, or is one of another data set.
        DatasetMissing: the data set to train one is missing.
    """
    if config.gan.classifier is None:
        return _trained(classifier_config(config), placement)
    return _loaded(config.gan.classifier, config, placement)


def classifier_config(config: GanConfig) -> TrialConfig:
    """Return the configuration of the small classifier, the same for all trials on one data set and device.

    >>> classifier_config(GanConfig(seed=1)) == classifier_config(GanConfig(seed=2))
    True
    """
    names = ("name", "root", "download", "cache", "args", "image_size")
    data = DataConfig(**{name: getattr(config.data, name) for name in names})
    images = len(load_splits(data).train)
    return TrialConfig(
        data=data,
        model=ModelConfig(name="cnn_bn"),
        epochs=max(_FEWEST_EPOCHS, math.ceil(_IMAGES / images)),
        device=config.device,
        precision="float32",
        evaluation=EvaluationConfig(robust_epsilon=0.0),
    )


def _loaded(folder: str, config: GanConfig, placement: Placement) -> TappedClassifier:
    # Not a CheckpointError, which means the trial's own checkpoint and leads to another attempt.
    try:
        saved = saved_config(folder, state.load(folder))
        model = load_model(folder, device=placement.device)
    except CheckpointError as error:
        raise ConfigError([Problem("gan.classifier", f"must be a checkpoint of a classifier; {error}")]) from error
    if saved.data.name != config.data.name:
        message = f"must be a classifier of {config.data.name!r}, got one of {saved.data.name!r} in {folder}"
        raise ConfigError([Problem("gan.classifier", f"{message}; leave it out to have one trained")])
    return model


@lru_cache(maxsize=2)
def _trained(config: TrialConfig, placement: Placement) -> TappedClassifier:
    result = train(config, placement=placement)
    accuracy = result.metrics["val/accuracy"]
    logger.info("a classifier of validation accuracy %.3f classifies synthetic images", accuracy)
    if accuracy < _FAIR_ACCURACY:
        logger.warning(
            "the classifier of synthetic images has a validation accuracy of %.3f on %s: "
            "classes are counted roughly; set gan.classifier to a checkpoint of a better one",
            accuracy,
            config.data.name,
        )
    return result.model
