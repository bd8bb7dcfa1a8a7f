"""Multilayer perceptron: three hidden layers of 256, 128 and 64 units, times the width."""

from math import prod

from torch import nn

from trainables.models.staged import StagedClassifier
from trainables.models.tapped import PENULTIMATE
from trainables.models.widths import scaled

__all__ = ["HIDDEN_UNITS", "mlp"]

HIDDEN_UNITS = (256, 128, 64)


def mlp(image_shape: tuple[int, int, int], num_classes: int, *, width: float, dropout: float = 0.0) -> StagedClassifier:
    """Build a network with taps fc1, fc2, penultimate and logits, for images of shape (C, H, W).

    `dropout` follows each hidden layer.
    """
    first, second, last = (scaled(units, width) for units in HIDDEN_UNITS)
    stages = {
        "fc1": nn.Sequential(nn.Flatten(), nn.Linear(prod(image_shape), first), nn.ReLU()),
        "fc2": nn.Sequential(nn.Linear(first, second), nn.ReLU()),
        PENULTIMATE: nn.Sequential(nn.Linear(second, last), nn.ReLU()),
    }
    head, rates = nn.Linear(last, num_classes), dict.fromkeys(stages, dropout)
    return StagedClassifier(stages, head, channels=image_shape[0], dropout=rates)
