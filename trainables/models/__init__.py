"""Classifiers with named taps and boundaries.

>>> from trainables.config.trial import ModelConfig
>>> model = build(ModelConfig(name="cnn"), image_shape=(1, 8, 8), num_classes=10, device="meta")
>>> model.taps
('conv1', 'conv2', 'penultimate', 'logits')
>>> resolve_taps("hidden", model), resolve_boundaries("input+conv1", model)
(('conv1', 'conv2'), ('input', 'conv1'))
"""

from trainables.models.layers import resolve_boundaries, resolve_taps
from trainables.models.registry import MODELS, build, check_layers
from trainables.models.staged import Activations, StagedClassifier

__all__ = ["MODELS", "Activations", "StagedClassifier", "build", "check_layers", "resolve_boundaries", "resolve_taps"]
