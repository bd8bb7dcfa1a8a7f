"""Your own network. Replace it; what Ravel needs is an nn.Module that maps images (B, C, H, W) to logits (B, K).

Of the arguments `num_classes`, `image_shape` (C, H, W) and `in_channels`, Ravel passes those that the signature has;
the others are `model.args.NAME` in the spec, and can be searched. Its modules are layers by their names: see
`ravel model show nets:SmallNet`.
"""

from torch import Tensor, nn


class SmallNet(nn.Module):
    """Two convolutions with batch normalisation, dropout, and a linear layer that makes the logits."""

    def __init__(self, num_classes: int, in_channels: int, width: int = 32, dropout: float = 0.1) -> None:
        super().__init__()
        self.block1 = block(in_channels, width)
        self.block2 = block(width, 2 * width)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, K) of images (B, C, H, W), whose pixels have mean 0 and deviation 1."""
        logits: Tensor = self.head(self.pool(self.block2(self.block1(x))))
        return logits


def block(channels_in: int, channels_out: int) -> nn.Sequential:
    """Return a 3x3 convolution, normalised and rectified."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU()
    )
