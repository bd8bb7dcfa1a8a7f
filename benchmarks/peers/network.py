"""The small convolutional network of the SNNL paper in plain torch, with hidden states that can be read and mixed.

Geometry of the code released with Frosst, Papernot and Hinton (2019). Shapes: B images, K classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

MEAN, DEVIATION = 0.1307, 0.3081
"""Of MNIST's pixels in [0, 1]."""
BOUNDARIES = ("input", "conv1", "conv2")
"""Where manifold mixup may mix."""


class Mixture(NamedTuple):
    """A mixture of a batch with itself: at which boundary, the share of the first image, the partners."""

    boundary: str
    share: float
    partners: Tensor

    def of(self, h: Tensor) -> Tensor:
        """Return the mixture of hidden states or images (B, ...)."""
        return self.share * h + (1 - self.share) * h[self.partners]


class SmallCnn(nn.Module):
    """Three convolutions and a linear layer, for images (B, 1, 28, 28) in [0, 1]; He's initial weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, kernel_size=8, stride=2, padding=3)
        self.conv2 = nn.Conv2d(64, 128, kernel_size=6, stride=2)
        self.conv3 = nn.Conv2d(128, 128, kernel_size=5)
        self.head = nn.Linear(128, 10)
        for layer in (self.conv1, self.conv2, self.conv3, self.head):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, mixture: Mixture | None = None) -> Tensor:
        """Return the logits (B, K), of a mixture if one is given."""
        return self.head(self.hidden(x, mixture)[-1].flatten(1))

    def hidden(self, x: Tensor, mixture: Mixture | None = None) -> list[Tensor]:
        """Return the activations of the three convolutions, those at a mixture's boundary before it is mixed."""
        h, activations = (_mixed(x, "input", mixture) - MEAN) / DEVIATION, []
        for name in ("conv1", "conv2", "conv3"):
            h = torch.relu(getattr(self, name)(h))
            activations.append(h)
            h = _mixed(h, name, mixture)
        return activations


def _mixed(h: Tensor, boundary: str, mixture: Mixture | None) -> Tensor:
    return h if mixture is None or mixture.boundary != boundary else mixture.of(h)
