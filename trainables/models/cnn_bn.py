"""Small convolutional network: three 3x3 convolutions with batch normalisation, then a linear layer.

An epoch of 8x8 digits takes tens of milliseconds on one core. The network accepts images of at least 4x4 pixels.
"""

from torch import nn

from trainables.models.staged import StagedClassifier
from trainables.models.tapped import PENULTIMATE
from trainables.models.widths import scaled

__all__ = ["CHANNELS", "PENULTIMATE_UNITS", "cnn_bn"]

CHANNELS = (16, 32, 64)
PENULTIMATE_UNITS = 64


def cnn_bn(
    image_shape: tuple[int, int, int], num_classes: int, *, width: float, dropout: float = 0.0
) -> StagedClassifier:
    """Build a network with taps conv1, conv2, conv3, penultimate and logits, for images (C, H, W) from 4x4 pixels.

    `dropout` is that of the penultimate layer.
    """
    channels, height, breadth = image_shape
    first, second, third = (scaled(count, width) for count in CHANNELS)
    units = scaled(PENULTIMATE_UNITS, width)
    flat = third * (height // 4) * (breadth // 4)
    stages = {
        "conv1": nn.Sequential(*_convolution(channels, first)),
        "conv2": nn.Sequential(*_convolution(first, second), nn.MaxPool2d(2)),
        "conv3": nn.Sequential(*_convolution(second, third), nn.MaxPool2d(2)),
        PENULTIMATE: nn.Sequential(nn.Flatten(), nn.Linear(flat, units), nn.ReLU()),
    }
    head = nn.Linear(units, num_classes)
    return StagedClassifier(stages, head, channels=channels, dropout={PENULTIMATE: dropout})


def _convolution(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    # The normalisation's shift replaces the convolution's bias.
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU()
