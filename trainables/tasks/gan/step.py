"""Training step of both networks.

The adversarial losses are the non-saturating losses of Goodfellow et al. (2014). With S the soft nearest neighbour
loss of real (class 0) and synthetic (class 1) images at its minimising temperature, the discriminator descends
`adversarial + w_d S` and the generator `adversarial - w_g S`: the temperature minimises S for both, since raising
S at a temperature that also raises it has no bound. As a control, S may be its limit at a high temperature
(`snnl.controls.class_mean`): the generator then matches the means, as in the feature matching of Salimans et al.
(2016), and knows no neighbours.

Shapes: B real and as many synthetic images, Z latent entries, D features.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from trainables import snnl
from trainables.snnl import Distance
from trainables.snnl.controls import class_mean
from trainables.tasks.gan.config import GanSettings
from trainables.tasks.gan.networks import DiscriminatorOutput, Networks

__all__ = ["Optimizers", "discriminator_loss", "gan_step", "generator_loss", "real_fake_loss", "real_fake_means"]


class Optimizers(NamedTuple):
    """Optimizer of each network."""

    generator: torch.optim.Optimizer
    discriminator: torch.optim.Optimizer


def gan_step(
    networks: Networks, x_BCHW: Tensor, *, latents_BZ: Tensor, optimizers: Optimizers, settings: GanSettings
) -> dict[str, Tensor]:
    """Update the discriminator, then the generator; return both losses, and S (or its control) where it is a term."""
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
    """Return 'discriminator_loss', 0-d, and 'discriminator_snnl' (of a control '..._control') if it has a weight.

    >>> undecided = DiscriminatorOutput(torch.zeros(2), torch.zeros(2, 3))
    >>> float(discriminator_loss(undecided, undecided, settings=GanSettings())["discriminator_loss"])  # 2 log 2
    1.3862943649291992
    """
    loss = softplus(-real.logits_B).mean() + softplus(fake.logits_B).mean()
    weight = settings.discriminator_snnl
    if weight == 0:
        return {"discriminator_loss": loss}
    entanglement = _term(real.features_BD, fake.features_BD, settings)
    return {"discriminator_loss": loss + weight * entanglement, f"discriminator_{_name(settings)}": entanglement}


def generator_loss(
    networks: Networks, x_BCHW: Tensor, fake_BCHW: Tensor, *, settings: GanSettings
) -> dict[str, Tensor]:
    """Return 'generator_loss', 0-d, and 'generator_snnl' (of a control 'generator_control') if it has a weight."""
    discriminator = networks.discriminator
    fake = discriminator(fake_BCHW)
    loss = softplus(-fake.logits_B).mean()
    weight = settings.generator_snnl
    if weight == 0:
        return {"generator_loss": loss}
    in_pixels = settings.snnl_features == "pixels"
    real_BD, fake_BD = (x_BCHW, fake_BCHW) if in_pixels else (discriminator(x_BCHW).features_BD, fake.features_BD)
    entanglement = _term(real_BD, fake_BD, settings)
    return {"generator_loss": loss - weight * entanglement, f"generator_{_name(settings)}": entanglement}


def real_fake_loss(real_BD: Tensor, fake_BD: Tensor, distance: Distance = "sqeuclidean") -> Tensor:
    """Return the soft nearest neighbour loss of real and synthetic images at its minimising temperature, 0-d.

    It is differentiable in both, not in the temperature; at most chance, log((2B - 1) / (B - 1)).

    >>> near, far = torch.tensor([[0.0], [0.1]]), torch.tensor([[9.0], [9.1]])
    >>> float(real_fake_loss(near, far)) < 1e-6
    True
    """
    both_BD, labels_B = _two_classes(real_BD, fake_BD)
    return snnl.training_term(both_BD, labels_B, mode="minimised", distance=distance).loss


def real_fake_means(real_BD: Tensor, fake_BD: Tensor, distance: Distance = "sqeuclidean") -> Tensor:
    """Return the control of `real_fake_loss`, 0-d, in medians of the distance: about 0 where the means coincide.

    >>> near, far = torch.tensor([[0.0], [2.0]]), torch.tensor([[10.0], [12.0]])
    >>> float(real_fake_means(near, far)) < -0.5, float(real_fake_means(near, near + 0.01)) > -0.1
    (True, True)
    """
    both_BD, labels_B = _two_classes(real_BD, fake_BD)
    return class_mean(both_BD.flatten(1), labels_B, distance=distance)


def _two_classes(real_BD: Tensor, fake_BD: Tensor) -> tuple[Tensor, Tensor]:
    labels_B = torch.arange(2, device=real_BD.device).repeat_interleave(len(real_BD))
    return torch.cat([real_BD, fake_BD]), labels_B


def _term(real_BD: Tensor, fake_BD: Tensor, settings: GanSettings) -> Tensor:
    if settings.snnl_penalty == "class_mean":
        return real_fake_means(real_BD, fake_BD, settings.snnl_distance)
    return real_fake_loss(real_BD, fake_BD, settings.snnl_distance)


def _name(settings: GanSettings) -> str:
    return "control" if settings.snnl_penalty == "class_mean" else "snnl"


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
