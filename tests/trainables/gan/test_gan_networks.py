"""Both networks: shapes, seeding, and what they refuse."""

import pytest
import torch

from trainables.errors import ConfigError
from trainables.tasks.gan.config import GanSettings
from trainables.tasks.gan.networks import build_networks

SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
SETTINGS = GanSettings(latent_dim=7, generator_width=0.25, discriminator_width=0.25)


@pytest.mark.parametrize("image_shape", SHAPES.values(), ids=SHAPES)
def test_images_have_the_data_sets_shape_and_lie_between_0_and_1(image_shape):
    generator, discriminator = build_networks(SETTINGS, image_shape=image_shape)
    images_BCHW = generator(100 * torch.randn(5, 7, generator=torch.Generator().manual_seed(0)))
    assert images_BCHW.shape == (5, *image_shape)
    assert (images_BCHW >= 0).all()
    assert (images_BCHW <= 1).all()
    judgement = discriminator(images_BCHW)
    assert judgement.logits_B.shape == (5,)
    assert torch.equal(discriminator.head(judgement.features_BD)[:, 0], judgement.logits_B)


@pytest.mark.parametrize("image_shape", SHAPES.values(), ids=SHAPES)
def test_on_the_meta_device_only_shapes_are_built(image_shape):
    networks = build_networks(SETTINGS, image_shape=image_shape, device="meta")
    assert {weight.device.type for network in networks for weight in network.parameters()} == {"meta"}


def weights(seed):
    networks = build_networks(SETTINGS, image_shape=(1, 8, 8), seed=seed)
    return [weight for network in networks for weight in network.parameters()]


def test_weights_depend_on_the_seed_alone_and_no_global_generator_moves():
    before = torch.get_rng_state()
    assert all(torch.equal(mine, yours) for mine, yours in zip(weights(0), weights(0), strict=True))
    assert any(not torch.equal(mine, yours) for mine, yours in zip(weights(0), weights(1), strict=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_every_weight_is_filled():
    assert all(weight.isfinite().all() for weight in weights(3))
    assert max(float(weight.detach().std()) for weight in weights(3) if weight.dim() > 1) < 0.03


@pytest.mark.parametrize("side", [4, 10, 15])
def test_images_that_cannot_be_halved_twice_are_refused(side):
    with pytest.raises(ConfigError, match=f"data.name: must have images whose sides .* got {side}x{side}"):
        build_networks(SETTINGS, image_shape=(1, side, side))
