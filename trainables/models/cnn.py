"""Small convolutional network of the soft nearest neighbour loss (Frosst, Papernot and Hinton, ICML 2019).

Three convolutions, each followed by a ReLU, and a linear layer; the geometry is that of the code
released with the paper. Its third convolution leaves 1x1 pixels of an image of 28x28: it *is* the
penultimate layer. The initial weights are those of the other models here (He, fan-in), not the
1/sqrt(fan-in) of that code.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from trainables.models.staged import StagedClassifier
from trainables.models.tapped import PENULTIMATE
from trainables.models.widths import scaled

__all__ = ["CHANNELS", "CoveringConvolution", "cnn"]

CHANNELS = (64, 128, 128)
PUBLISHED_SIDE = 28


class _Kernel(NamedTuple):
    size: int
    stride: int
    padding: int


class CoveringConvolution(nn.Conv2d):
    """Convolution without padding whose kernel covers the image: one matrix product, with the same weights.

    Libraries take longer for it as a convolution: 12 times as long, forward and backward, for the third one of the
    published network on a CPU in bfloat16 (decision 170).

    >>> import torch
    >>> layer, x = CoveringConvolution(2, 3, 5), torch.ones(1, 2, 5, 5)
    >>> torch.allclose(layer(x), functional.conv2d(x, layer.weight, layer.bias), atol=1e-5)
    True
    """

    def _conv_forward(self, x_BCHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # In the order of channels_last, in which both lie in memory, so neither is copied.
        x_BD, weight_OD = (values.permute(0, 2, 3, 1).flatten(1) for values in (x_BCHW, weight))
        return functional.linear(x_BD, weight_OD, bias)[:, :, None, None]


# TensorFlow's 'same' for a kernel of 8 and a stride of 2 pads an even side by 6 pixels: 3 at each end.
_PUBLISHED = (_Kernel(8, 2, 3), _Kernel(6, 2, 0), _Kernel(5, 1, 0))
_FITTED = (_Kernel(3, 1, 1), _Kernel(3, 2, 0), _Kernel(3, 1, 0))


def cnn(image_shape: tuple[int, int, int], num_classes: int, *, width: float, dropout: float = 0.0) -> StagedClassifier:
    """Build a network with taps conv1, conv2, penultimate and logits, for images (C, H, W) of at least 8x8 pixels.

    From 28x28 on, the kernels are the published ones: 8x8 with stride 2 ('same'), 6x6 with stride 2 and
    5x5 (both 'valid'), which leave 14x14, 5x5 and 1x1 pixels of 28x28. In a smaller image they do not
    fit, and are 3x3 ('same'), 3x3 with stride 2 and 3x3 (both 'valid'): 8x8, 3x3 and 1x1 pixels of 8x8. `dropout` is
    that of the penultimate layer.

    >>> import torch
    >>> model = cnn((1, 28, 28), 10, width=1.0)
    >>> taps = model.features(torch.zeros(2, 1, 28, 28), taps=model.taps).taps
    >>> [tuple(tap.shape[1:]) for tap in taps.values()]
    [(64, 14, 14), (128, 5, 5), (128,), (10,)]
    """
    channels, *sides = image_shape
    first, second, third = (scaled(count, width) for count in CHANNELS)
    kernels = _PUBLISHED if min(sides) >= PUBLISHED_SIDE else _FITTED
    is_covered = all(_left(side, kernels[:2]) == kernels[2].size for side in sides)
    last = CoveringConvolution if is_covered else nn.Conv2d
    stages = {
        "conv1": nn.Sequential(_convolution(channels, first, kernels[0]), nn.ReLU()),
        "conv2": nn.Sequential(_convolution(first, second, kernels[1]), nn.ReLU()),
        PENULTIMATE: nn.Sequential(last(second, third, kernels[2].size), nn.ReLU(), nn.Flatten()),
    }
    units = third * prod(_left(side, kernels) for side in sides)
    head = nn.Linear(units, num_classes)
    return StagedClassifier(stages, head, channels=channels, dropout={PENULTIMATE: dropout})


def _convolution(channels_in: int, channels_out: int, kernel: _Kernel) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel.size, stride=kernel.stride, padding=kernel.padding)


def _left(side: int, kernels: Sequence[_Kernel]) -> int:
    for kernel in kernels:
        side = (side + 2 * kernel.padding - kernel.size) // kernel.stride + 1
    return side
