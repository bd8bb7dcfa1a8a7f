"""A small convolutional network: three 3x3 convolutions, two of them of stride 2, and a linear layer.

Sized so that an epoch of 8x8 digits takes tens of milliseconds on one core; works for any image of
at least 4x4 pixels.
"""

from torch import nn

from trainables.models.staged import PENULTIMATE, StagedClassifier

__all__ = ["CHANNELS", "PENULTIMATE_UNITS", "cnn"]

CHANNELS = (16, 32, 64)
PENULTIMATE_UNITS = 64


def cnn(image_shape: tuple[int, int, int], num_classes: int, *, width: float) -> StagedClassifier:
    """Taps conv1, conv2, conv3, penultimate and logits, for images of shape (C, H, W)."""
    channels, height, breadth = image_shape
    first, second, third = (max(1, round(count * width)) for count in CHANNELS)
    units = max(1, round(PENULTIMATE_UNITS * width))
    flat = third * _strided_twice(height) * _strided_twice(breadth)
    stages = {
        "conv1": _convolution(channels, first, stride=1),
        "conv2": _convolution(first, second, stride=2),
        "conv3": _convolution(second, third, stride=2),
        PENULTIMATE: nn.Sequential(nn.Flatten(), nn.Linear(flat, units), nn.ReLU()),
    }
    return StagedClassifier(stages, nn.Linear(units, num_classes), channels=channels)


def _convolution(channels_in: int, channels_out: int, *, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1), nn.ReLU())


def _strided_twice(pixels: int) -> int:
    """Pixels left along one side after two 3x3 convolutions of stride 2 with padding 1."""
    return -(-pixels // 4)
