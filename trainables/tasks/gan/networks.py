"""Generator and discriminator after Radford et al. (2016, arXiv 1511.06434), for images of 8x8, 28x28 or 32x32 pixels.

The sides are halved up to three times, while they are even and above 2: 8 to 2, 28 to 7, 32 to 4. A halving is
a 4x4 convolution of stride 2, a doubling its transpose; channels double as the sides halve.
Shapes: B images, Z latent entries, D features.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from trainables.errors import ConfigError, Problem
from trainables.models.widths import scaled
from trainables.seeding import generator
from trainables.tasks.gan.config import GanSettings

__all__ = ["FEATURES", "Discriminator", "DiscriminatorOutput", "Generator", "Networks", "build_networks"]

FEATURES = "features"
CHANNELS = 32
MOST_HALVINGS = 3
_INITIAL_STD = 0.02
_LEAK = 0.2


class DiscriminatorOutput(NamedTuple):
    """Logit of each image, above 0 for 'real', and the last activation before it (B, D)."""

    logits_B: Tensor
    features_BD: Tensor


@final
class Generator(nn.Module):
    """Network that maps normal noise (B, Z) to images in [0, 1]."""

    def __init__(self, image_shape: tuple[int, int, int], *, latent_dim: int, width: float) -> None:
        super().__init__()
        channels, height, breadth = image_shape
        halvings = halvings_of(height, breadth)
        widths = [scaled(CHANNELS * 2**i, width) for i in reversed(range(halvings))]
        self.latent_dim = latent_dim
        self.seed_shape = widths[0], height >> halvings, breadth >> halvings
        self.seed = nn.Linear(latent_dim, self.seed_shape[0] * self.seed_shape[1] * self.seed_shape[2], bias=False)
        self.doublings = nn.Sequential(
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
            *(layer for pair in pairwise(widths) for layer in _doubling(*pair)),
            nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, latents_BZ: Tensor) -> Tensor:
        """Return images (B, C, H, W)."""
        images_BCHW: Tensor = self.doublings(self.seed(latents_BZ).unflatten(1, self.seed_shape))
        return images_BCHW


@final
class Discriminator(nn.Module):
    """Network that maps images in [0, 1] to one logit each; its tap 'features' is the last activation before it."""

    taps = (FEATURES,)

    def __init__(self, image_shape: tuple[int, int, int], *, width: float) -> None:
        super().__init__()
        channels, height, breadth = image_shape
        halvings = halvings_of(height, breadth)
        widths = [scaled(CHANNELS * 2**i, width) for i in range(halvings)]
        self.features = nn.Sequential(
            nn.Conv2d(channels, widths[0], 4, stride=2, padding=1),
            nn.LeakyReLU(_LEAK),
            *(layer for pair in pairwise(widths) for layer in _halving(*pair)),
            nn.Flatten(),
        )
        self.head = nn.Linear(widths[-1] * (height >> halvings) * (breadth >> halvings), 1)

    def forward(self, x_BCHW: Tensor) -> DiscriminatorOutput:
        """Return logits, and the features before them."""
        features_BD = self.features(2 * x_BCHW - 1)
        return DiscriminatorOutput(self.head(features_BD)[:, 0], features_BD)


class Networks(NamedTuple):
    """Generator and discriminator."""

    generator: Generator
    discriminator: Discriminator


def build_networks(
    settings: GanSettings, *, image_shape: tuple[int, int, int], seed: int = 0, device: torch.device | str = "cpu"
) -> Networks:
    """Build newly initialised networks for images (C, H, W); the weights depend on `seed` alone.

    On the device 'meta' only the shapes are built.

    Raises:
        ConfigError: images whose sides cannot be halved twice.

    >>> networks = build_networks(GanSettings(latent_dim=5), image_shape=(1, 8, 8))
    >>> images = networks.generator(torch.zeros(3, 5))
    >>> images.shape, networks.discriminator(images).features_BD.shape
    (torch.Size([3, 1, 8, 8]), torch.Size([3, 256]))
    """
    _require_halvings(image_shape)
    with torch.device("meta"):
        networks = Networks(
            Generator(image_shape, latent_dim=settings.latent_dim, width=settings.generator_width),
            Discriminator(image_shape, width=settings.discriminator_width),
        )
    if torch.device(device).type == "meta":
        return networks
    for name, network in networks._asdict().items():
        network.to_empty(device="cpu")
        _initialise(network, generator(seed, f"gan {name}"))
        network.to(device)
    return networks


def halvings_of(height: int, breadth: int) -> int:
    """Return the number of times that both sides are halved.

    >>> halvings_of(8, 8), halvings_of(28, 28), halvings_of(32, 32), halvings_of(10, 10)
    (2, 2, 3, 1)
    """
    halvings = 0
    while halvings < MOST_HALVINGS and all(side % 2 == 0 and side > 2 for side in (height, breadth)):
        height, breadth, halvings = height // 2, breadth // 2, halvings + 1
    return halvings


def _require_halvings(image_shape: tuple[int, int, int]) -> None:
    _, height, breadth = image_shape
    if halvings_of(height, breadth) < 2:
        message = f"must have images whose sides are multiples of 4 and at least 8, got {height}x{breadth}"
        raise ConfigError([Problem("data.name", f"{message}; choose another set, or data.image_size")])


def _doubling(channels_in: int, channels_out: int) -> Iterator[nn.Module]:
    # The normalisation's shift replaces the convolution's bias.
    yield nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False)
    yield nn.BatchNorm2d(channels_out)
    yield nn.ReLU()


def _halving(channels_in: int, channels_out: int) -> Iterator[nn.Module]:
    yield nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False)
    yield nn.BatchNorm2d(channels_out)
    yield nn.LeakyReLU(_LEAK)


def _initialise(network: nn.Module, stream: torch.Generator) -> None:
    """Initialise normal weights of standard deviation 0.02 as in the paper, zero biases; reset normalisation layers."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=_INITIAL_STD, generator=stream)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
