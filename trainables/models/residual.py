"""Residual networks with pre-activation (He et al., ECCV 2016), for images of about 32x32 pixels.

A 3x3 convolution of stride 1, stages of residual blocks of which all but the first halve the image,
global average pooling, and a linear layer. The stages are 'stage1' (which includes the first
convolution), 'stage2' and so on; the last stage, with everything up to the pooled features, is
'penultimate'. A stage's output is the sum of its last block, *before* the normalisation and ReLU that
begin the next block. Verma et al. (2019) mix at this point, and the tap reads it, so its values have
either sign. The sum of each block can be read, too: 'block1' is the first from the input, and the last
block of 'stage1' is what that stage's tap reads.
Shapes: B images, C channels, H by W pixels.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor, nn
from torch.nn import functional

from trainables.models.staged import NO_DROPOUT, Blocks, StagedClassifier
from trainables.models.tapped import PENULTIMATE
from trainables.models.widths import scaled

__all__ = ["PreActivationBlock", "preact_resnet18", "preact_resnet34", "wide_resnet28_10"]

PREACT_CHANNELS = (64, 64, 128, 256, 512)
WIDE_CHANNELS = (16, 160, 320, 640)


@final
class PreActivationBlock(nn.Module):
    """Block x + conv(relu(norm(conv(relu(norm(x)))))), both convolutions 3x3 and without bias.

    Where the shape changes, the first convolution has the stride, and x is replaced by a 1x1
    convolution of relu(norm(x)), without a normalisation of its own. `dropout` is that between the convolutions.

    >>> import torch
    >>> PreActivationBlock(8, 16, stride=2)(torch.zeros(2, 8, 6, 6)).shape
    torch.Size([2, 16, 3, 3])
    """

    def __init__(self, channels_in: int, channels_out: int, *, stride: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        same = stride == 1 and channels_in == channels_out
        self.shortcut = None if same else nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the sum of the shortcut and the convolutions."""
        h = functional.relu(self.norm1(x_BCHW))
        shortcut = x_BCHW if self.shortcut is None else self.shortcut(h)
        h = functional.relu(self.norm2(self.conv1(h)))
        if self.training and self.dropout:
            h = functional.dropout(h, self.dropout)
        total: Tensor = self.conv2(h) + shortcut
        return total


def preact_resnet18(
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: float,
    dropout: float = 0.0,
    final_norm: bool = True,
) -> StagedClassifier:
    """Build a network with taps stage1, stage2, stage3, penultimate and logits, for images of shape (C, H, W).

    Four stages of two blocks, block1 to block8, with 64, 128, 256 and 512 channels, times the width. With
    `final_norm`, as Rice et al. (2020) build it, the last sum is normalised and rectified before it is pooled; without,
    as in the code of Verma et al. (2019), it is pooled unchanged, and the penultimate tap has either sign. `dropout` is
    that of the pooled features.
    """
    channels, rates = _channels(PREACT_CHANNELS, width), {PENULTIMATE: dropout}
    return _residual(
        image_shape, num_classes, channels=channels, blocks=(2, 2, 2, 2), final_norm=final_norm, dropout=rates
    )


def preact_resnet34(
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: float,
    dropout: float = 0.0,
    final_norm: bool = True,
) -> StagedClassifier:
    """Build a network as `preact_resnet18`, with stages of 3, 4, 6 and 3 blocks: block1 to block16."""
    channels, rates = _channels(PREACT_CHANNELS, width), {PENULTIMATE: dropout}
    return _residual(
        image_shape, num_classes, channels=channels, blocks=(3, 4, 6, 3), final_norm=final_norm, dropout=rates
    )


def wide_resnet28_10(
    image_shape: tuple[int, int, int], num_classes: int, *, width: float, dropout: float = 0.0
) -> StagedClassifier:
    """Build a network with taps stage1, stage2, penultimate and logits, for images of shape (C, H, W).

    The network of Zagoruyko and Komodakis (BMVC 2016): 16 channels, then three stages of four blocks (block1 to
    block12) with 160, 320 and 640, times the width, and `dropout` between the convolutions of a block (their section
    2.4). As published, and unlike the code of Verma et al. (2019), a block's first convolution has the stride, its 1x1
    shortcut reads the normalised and rectified state, convolutions have no bias and He's initial variance, and the last
    normalisation is like all of them.
    """
    channels = _channels(WIDE_CHANNELS, width)
    return _residual(
        image_shape, num_classes, channels=channels, blocks=(4, 4, 4), final_norm=True, block_dropout=dropout
    )


def _channels(counts: tuple[int, ...], width: float) -> tuple[int, ...]:
    return tuple(scaled(count, width) for count in counts)


def _residual(
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    channels: tuple[int, ...],
    blocks: tuple[int, ...],
    final_norm: bool,
    dropout: Mapping[str, float] = NO_DROPOUT,
    block_dropout: float = 0.0,
) -> StagedClassifier:
    """Build a network; `channels` are those of the first convolution, then of each stage."""
    bodies = [
        _stage(channels[i], channels[i + 1], blocks=count, stride=1 if i == 0 else 2, dropout=block_dropout)
        for i, count in enumerate(blocks)
    ]
    first = nn.Conv2d(image_shape[0], channels[0], 3, padding=1, bias=False)
    norm = (nn.BatchNorm2d(channels[-1]), nn.ReLU()) if final_norm else ()
    modules = [[first, *bodies[0]], *bodies[1:]]
    modules[-1] += [*norm, nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    names = [*(f"stage{i}" for i in range(1, len(blocks))), PENULTIMATE]
    stages = {name: nn.Sequential(*parts) for name, parts in zip(names, modules, strict=True)}
    head = nn.Linear(channels[-1], num_classes)
    named = _block_names(dict(zip(names, modules, strict=True)))
    return StagedClassifier(stages, head, channels=image_shape[0], dropout=dropout, blocks=named)


def _block_names(stages: Mapping[str, Sequence[nn.Module]]) -> Blocks:
    """Number the residual blocks from the input on."""
    numbers = itertools.count(1)
    return {
        stage: {
            index: f"block{next(numbers)}"
            for index, module in enumerate(modules)
            if isinstance(module, PreActivationBlock)
        }
        for stage, modules in stages.items()
    }


def _stage(channels_in: int, channels_out: int, *, blocks: int, stride: int, dropout: float) -> list[nn.Module]:
    """Return the blocks of a stage: the first one changes the shape, the rest keep it."""
    first = PreActivationBlock(channels_in, channels_out, stride=stride, dropout=dropout)
    later = (PreActivationBlock(channels_out, channels_out, stride=1, dropout=dropout) for _ in range(blocks - 1))
    return [first, *later]
