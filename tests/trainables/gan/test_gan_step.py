"""One step: the adversarial losses by hand, and which way each player moves the entanglement."""

import copy
import math

import pytest
import torch

from trainables.config.sections import DataConfig
from trainables.data import load_splits
from trainables.evaluation.core.prediction import as_pixels
from trainables.snnl import minimise_temperature, soft_nearest_neighbor_loss
from trainables.tasks.gan import step
from trainables.tasks.gan.config import GanSettings
from trainables.tasks.gan.networks import DiscriminatorOutput, build_networks
from trainables.tasks.gan.step import (
    Optimizers,
    discriminator_loss,
    gan_step,
    generator_loss,
    real_fake_loss,
    real_fake_means,
)

SHAPE = (1, 8, 8)
SMALL = {"latent_dim": 4, "generator_width": 0.25, "discriminator_width": 0.25}


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def real_images():
    return torch.rand(12, *SHAPE, generator=stream(1))


def start(**settings):
    settings = GanSettings(**SMALL, **settings)
    networks = build_networks(settings, image_shape=SHAPE)
    return networks, settings


def weights_of(network):
    return [weight.detach().clone() for weight in network.parameters()]


def same(one, other):
    return all(torch.equal(mine, yours) for mine, yours in zip(one, other, strict=True))


def test_the_discriminators_loss_is_the_cross_entropy_of_real_and_synthetic():
    real = DiscriminatorOutput(torch.tensor([2.0, -1.0]), torch.zeros(2, 3))
    fake = DiscriminatorOutput(torch.tensor([0.5, -3.0]), torch.zeros(2, 3))
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(1))) / 2
    expected += (math.log1p(math.exp(0.5)) + math.log1p(math.exp(-3))) / 2
    terms = discriminator_loss(real, fake, settings=GanSettings())
    assert set(terms) == {"discriminator_loss"}
    assert float(terms["discriminator_loss"]) == pytest.approx(expected, rel=1e-6)


def test_the_generators_loss_does_not_saturate_where_it_is_found_out():
    networks, settings = start()
    torch.nn.init.constant_(networks.discriminator.head.bias, -20.0)
    fake_BCHW = torch.rand(6, *SHAPE, generator=stream()).requires_grad_()
    loss = generator_loss(networks, real_images()[:6], fake_BCHW, settings=settings)["generator_loss"]
    networks.discriminator.zero_grad()
    loss.backward()
    assert loss.item() == pytest.approx(20, rel=0.05)
    assert float(networks.discriminator.head.bias.grad) == pytest.approx(-1, rel=1e-4)


def test_the_loss_at_its_temperature_is_the_exact_minimum():
    real_BD, fake_BD = torch.randn(40, 5, generator=stream()), torch.randn(40, 5, generator=stream(2)) + 0.7
    labels_B = torch.arange(2).repeat_interleave(40)
    exact = minimise_temperature(torch.cat([real_BD, fake_BD]), labels_B)
    assert float(real_fake_loss(real_BD, fake_BD)) == pytest.approx(exact.value, rel=1e-3)
    assert exact.edge == "interior"


def at_fixed_temperature(real_BD, fake_BD, distance="sqeuclidean"):
    features_BD, labels_B = torch.cat([real_BD, fake_BD]).flatten(1), torch.arange(2).repeat_interleave(len(real_BD))
    temperature = minimise_temperature(features_BD.detach(), labels_B, distance).temperature
    return soft_nearest_neighbor_loss(features_BD, labels_B, temperature, distance)


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("distance", ["sqeuclidean", "cosine"])
@pytest.mark.parametrize("features", ["pixels", "discriminator"])
def test_the_generator_climbs_the_loss_at_a_fixed_temperature(features, distance):
    networks, settings = start(generator_snnl=3.0, snnl_distance=distance, snnl_features=features)
    x_BCHW = real_images()
    # Brighter on one side: not at chance, where there is nothing to climb.
    brighter_W = torch.tensor([0.2] * 4 + [0.0] * 4)
    fake_BCHW = (torch.rand(12, *SHAPE, generator=stream(5)) + brighter_W).requires_grad_()

    def gradient(loss):
        return torch.autograd.grad(loss, fake_BCHW)[0]

    def of(x):
        return x if features == "pixels" else networks.discriminator(x).features_BD

    plain = generator_loss(networks, x_BCHW, fake_BCHW, settings=GanSettings())["generator_loss"]
    entanglement = at_fixed_temperature(of(x_BCHW), of(fake_BCHW), distance)
    found = gradient(generator_loss(networks, x_BCHW, fake_BCHW, settings=settings)["generator_loss"])
    adversarial, climb = gradient(plain), gradient(entanglement)
    assert relative_error(found, adversarial - 3 * climb) < 0.02
    assert relative_error(found, adversarial) > 0.1, "the term matters here"


@pytest.mark.parametrize("features", ["pixels", "discriminator"])
def test_the_discriminator_descends_the_loss_of_its_features_whatever_the_generators_are(features):
    _, settings = start(discriminator_snnl=3.0, snnl_features=features)
    real = DiscriminatorOutput(torch.zeros(12), torch.randn(12, 5, generator=stream()).requires_grad_())
    fake = DiscriminatorOutput(torch.zeros(12), torch.randn(12, 5, generator=stream(1)) + 1)
    loss = discriminator_loss(real, fake, settings=settings)["discriminator_loss"]
    expected = 3 * at_fixed_temperature(real.features_BD, fake.features_BD)
    found, expected = (torch.autograd.grad(each, real.features_BD)[0] for each in (loss, expected))
    assert relative_error(found, expected) < 0.02


def entanglement_of_digits_after(steps, **settings):
    networks, settings = start(**settings)
    optimizers = Optimizers(*(torch.optim.Adam(network.parameters(), 3e-3) for network in networks))
    x_BCHW, noise = as_pixels(load_splits(DataConfig()).train.images_NCHW[:48]), stream(7)
    for _ in range(steps):
        latents_BZ = torch.randn(48, 4, generator=noise)
        gan_step(networks, x_BCHW, latents_BZ=latents_BZ, optimizers=optimizers, settings=settings)
    with torch.no_grad():
        return float(real_fake_loss(x_BCHW, networks.generator(torch.randn(48, 4, generator=stream(8)))))


def test_the_generators_weight_raises_entanglement_of_digits():
    plain, raised = (entanglement_of_digits_after(150, generator_snnl=weight) for weight in (0.0, 10.0))
    assert raised > plain + 0.05


def test_at_weight_zero_no_soft_nearest_neighbours_are_looked_for(monkeypatch):
    monkeypatch.setattr(step, "real_fake_loss", lambda *_: pytest.fail("looked for"))
    networks, settings = start(snnl_features="discriminator")
    optimizers = Optimizers(*(torch.optim.Adam(network.parameters()) for network in networks))
    terms = gan_step(networks, real_images(), latents_BZ=torch.zeros(12, 4), optimizers=optimizers, settings=settings)
    assert set(terms) == {"generator_loss", "discriminator_loss"}


@pytest.mark.parametrize("features", ["pixels", "discriminator"])
def test_each_optimizer_moves_its_own_network_only(features):
    networks, settings = start(generator_snnl=1.0, discriminator_snnl=1.0, snnl_features=features)
    still = [copy.deepcopy(network) for network in networks]
    optimizers = Optimizers(
        *(torch.optim.SGD(network.parameters(), lr) for network, lr in zip(networks, (1.0, 0.0), strict=True))
    )
    terms = gan_step(
        networks,
        real_images(),
        latents_BZ=torch.randn(12, 4, generator=stream()),
        optimizers=optimizers,
        settings=settings,
    )
    assert set(terms) == {"generator_loss", "generator_snnl", "discriminator_loss", "discriminator_snnl"}
    assert not any(value.requires_grad for value in terms.values())
    assert not same(weights_of(networks.generator), weights_of(still[0]))
    assert same(weights_of(networks.discriminator), weights_of(still[1]))
    assert all(weight.requires_grad for network in networks for weight in network.parameters())


def test_the_terms_add_up():
    networks, settings = start(generator_snnl=2.0, discriminator_snnl=3.0)
    x_BCHW, fake_BCHW = real_images(), torch.rand(12, *SHAPE, generator=stream(3))
    real, fake = networks.discriminator(x_BCHW), networks.discriminator(fake_BCHW)
    terms = discriminator_loss(real, fake, settings=settings)
    plain = discriminator_loss(real, fake, settings=GanSettings())
    terms |= generator_loss(networks, x_BCHW, fake_BCHW, settings=settings)
    plain |= generator_loss(networks, x_BCHW, fake_BCHW, settings=GanSettings())
    assert torch.allclose(
        terms["discriminator_loss"], plain["discriminator_loss"] + 3 * terms["discriminator_snnl"], rtol=1e-6
    )
    assert torch.allclose(terms["generator_loss"], plain["generator_loss"] - 2 * terms["generator_snnl"], rtol=1e-6)


def test_the_control_is_the_distance_of_the_means_and_sees_no_neighbours():
    """Pairs that lie apart in the same way, one kind around the other: the means coincide, the neighbours do not."""
    inner = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.1, 0.0], [-1.1, 0.0]])
    outer = torch.tensor([[9.0, 0.0], [-9.0, 0.0], [9.1, 0.0], [-9.1, 0.0]])
    assert float(real_fake_loss(inner, outer)) < 0.01
    assert abs(float(real_fake_means(inner, outer) - real_fake_means(outer, inner))) < 1e-6
    around = float(real_fake_means(inner, outer))
    apart = float(real_fake_means(inner, outer + 30))
    assert apart < around


@pytest.mark.parametrize("features", ["pixels", "discriminator"])
def test_the_generator_raises_the_control_of_its_space(features):
    settings = {"generator_snnl": 2.0, "snnl_features": features, "snnl_penalty": "class_mean"}
    networks, settings = start(**settings)
    with torch.no_grad():
        fake_BCHW = networks.generator(torch.randn(12, 4, generator=stream()))
        terms = generator_loss(networks, real_images(), fake_BCHW, settings=settings)
        plain = generator_loss(networks, real_images(), fake_BCHW, settings=GanSettings(**SMALL))
    expected = plain["generator_loss"] - 2.0 * terms["generator_control"]
    assert float(terms["generator_loss"]) == pytest.approx(float(expected), rel=1e-6)
    assert set(terms) == {"generator_loss", "generator_control"}
