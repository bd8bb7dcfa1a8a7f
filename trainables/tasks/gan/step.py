"""Training step of both networks.

The adversarial losses are the non-saturating losses of Goodfellow et al. (2014). With S the soft nearest neighbour
loss of real (class 0) and synthetic (class 1) images at its minimising temperature, the discriminator descends
`adversarial + w_d S` and the generator `adversarial - w_g S`: the temperature minimises S for both, since raising
S at a temperature that also raises it has no bound.

Shapes: B real and as many synthetic images, Z latent entries, D features.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from trainables import snnl
from trainables.snnl import Distance
from trainables.tasks.gan.config import GanSettings
from trainables.tasks.gan.networks import DiscriminatorOutput, Networks

__all__ = ["Optimizers", "discriminator_loss", "gan_step", "generator_loss", "real_fake_loss"]


class Optimizers(NamedTuple):
    """Optimizer of each network."""

    generator: torch.optim.Optimizer
    discriminator: torch.optim.Optimizer


def gan_step(
    networks: Networks, x_BCHW: Tensor, *, latents_BZ: Tensor, optimizers: Optimizers, settings: GanSettings
) -> dict[str, Tensor]:
    """Update the discriminator, then the generator; return both losses, and S where it is a term."""
    generator, discriminator = networks
    fake_BCHW = generator(latents_BZ)

    real, fake = discriminator(x_BCHW), discriminator(fake_BCHW.detach())
    terms = discriminator_loss(real, fake, settings=settings)
    _descend(terms["discriminator_loss"], optimizers.discriminator)

    # The discriminator is a fixed function here: only the generator gets gradients.
    discriminator.requires_grad_(requires_grad=False)
    terms |= generator_loss(networks, x_BCHW, fake_BCHW, settings=settings)
    _descend(terms["generator_loss"], optimizers.generator)
    discriminator.requires_grad_(requires_grad=True)
    return {name: value.detach() for name, value in terms.items()}


def discriminator_loss(
    real: DiscriminatorOutput, fake: DiscriminatorOutput, *, settings: GanSettings
) -> dict[str, Tensor]:
    """Return 'discriminator_loss', 0-d, and 'discriminator_snnl' if it has a weight.

    >>> undecided = DiscriminatorOutput(torch.zeros(2), torch.zeros(2, 3))
    >>> float(discriminator_loss(undecided, undecided, settings=GanSettings())["discriminator_loss"])  # 2 log 2
    1.3862943649291992
    """
    loss = softplus(-real.logits_B).mean() + softplus(fake.logits_B).mean()
    weight = settings.discriminator_snnl
    if weight == 0:
        return {"discriminator_loss": loss}
    entanglement = real_fake_loss(real.features_BD, fake.features_BD, settings.snnl_distance)
    return {"discriminator_loss": loss + weight * entanglement, "discriminator_snnl": entanglement}


def generator_loss(
    networks: Networks, x_BCHW: Tensor, fake_BCHW: Tensor, *, settings: GanSettings
) -> dict[str, Tensor]:
    """Return 'generator_loss', 0-d, and 'generator_snnl' if it has a weight."""
    discriminator = networks.discriminator
    fake = discriminator(fake_BCHW)
    loss = softplus(-fake.logits_B).mean()
    weight = settings.generator_snnl
    if weight == 0:
        return {"generator_loss": loss}
    in_pixels = settings.snnl_features == "pixels"
    real_BD, fake_BD = (x_BCHW, fake_BCHW) if in_pixels else (discriminator(x_BCHW).features_BD, fake.features_BD)
    entanglement = real_fake_loss(real_BD, fake_BD, settings.snnl_distance)
    return {"generator_loss": loss - weight * entanglement, "generator_snnl": entanglement}


def real_fake_loss(real_BD: Tensor, fake_BD: Tensor, distance: Distance = "sqeuclidean") -> Tensor:
    """Return the soft nearest neighbour loss of real and synthetic images at its minimising temperature, 0-d.

    It is differentiable in both, not in the temperature; at most chance, log((2B - 1) / (B - 1)).

    >>> near, far = torch.tensor([[0.0], [0.1]]), torch.tensor([[9.0], [9.1]])
    >>> float(real_fake_loss(near, far)) < 1e-6
    True
    """
    labels_B = torch.arange(2, device=real_BD.device).repeat_interleave(len(real_BD))
    return snnl.training_term(torch.cat([real_BD, fake_BD]), labels_B, mode="minimised", distance=distance).loss


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
