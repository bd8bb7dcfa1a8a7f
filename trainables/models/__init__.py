"""Classifiers with named taps and boundaries.

>>> from trainables.config.trial import ModelConfig
>>> model = build(ModelConfig(name="cnn"), image_shape=(1, 8, 8), num_classes=10, device="meta")
>>> model.taps
('conv1', 'conv2', 'penultimate', 'logits')
>>> resolve_taps("hidden", model), resolve_boundaries("input+conv1", model)
(('conv1', 'conv2'), ('input', 'conv1'))
"""

from trainables.models.layers import measured_taps, resolve_boundaries, resolve_taps
from trainables.models.registry import MODELS, build, check_layers, layer_problems
from trainables.models.staged import StagedClassifier
from trainables.models.tapped import Activations, TappedClassifier

__all__ = [
    "MODELS",
    "Activations",
    "StagedClassifier",
    "TappedClassifier",
    "build",
    "check_layers",
    "layer_problems",
    "measured_taps",
    "resolve_boundaries",
    "resolve_taps",
]
