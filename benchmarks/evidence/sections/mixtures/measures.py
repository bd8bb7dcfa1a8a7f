"""Measures of a trained network: accuracy and likelihood, the check of the mixtures, deformed and attacked images.

Shapes: N images, B of a batch, K classes.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from answers_by_image import packed
from sections.mixtures.trials import Network
from torch import Tensor
from torch.nn import functional

from trainables.attacks import evaluating, fgsm
from trainables.data import Split
from trainables.evaluation.core.clean import accuracy, expected_calibration_error, negative_log_likelihood
from trainables.evaluation.core.evaluation_attack import pgd_attack, still_right, unattacked, withstands
from trainables.evaluation.core.prediction import as_pixels, balanced_subset, logits
from trainables.evaluation.deformations.families import FAMILIES, DeformationFamily, deform, unit_draws
from trainables.evaluation.uncertainty.reliability import fit_temperature
from trainables.mixup import Mix, mixed_targets
from trainables.models import TappedClassifier
from trainables.seeding import derive, generator

MIXED = 500
"""Validation images that are mixed in pairs for the manipulation check."""
PAPER_BETTER: Mapping[str, tuple[float, ...]] = {
    "rotation": (20, 40, 60, 80),
    "shear": (0.5, 1),
    "zoom_in": (0.8,),
    "zoom_out": (1.2, 1.4, 1.6),
}
"""Deformations of tables 4 and 9 at which manifold mixup is best of all in the paper, and which leave an image its
side: shears from 2 on mirror it. The paper's other zooms are better without it."""
DEFORMED: Mapping[str, tuple[DeformationFamily, float]] = {
    f"deformation/{family}@{amount:g}": (FAMILIES[family], amount)
    for family, amounts in PAPER_BETTER.items()
    for amount in amounts
}
ALL_OF_THEM = "deformation/mean"
MEANS: Mapping[str, Sequence[str]] = {
    ALL_OF_THEM: tuple(DEFORMED),
    **{
        f"deformation/{family}": [f"deformation/{family}@{amount:g}" for amount in amounts]
        for family, amounts in PAPER_BETTER.items()
    },
}
"""Names of means of shares, each of the same images."""


def measured(network: Network, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return all numbers of a network, and its right answers `by image`, for intervals over images."""
    right = {"test/accuracy": logits(network.model, network.test).argmax(1) == network.test.labels_N}
    right |= deformed(network.model, balanced_subset(network.test, size=settings["images"]))
    right |= under_attack(network.model, balanced_subset(network.test, size=settings["attacked"]), settings)
    return {
        **likelihood(network),
        **mixtures(network.model, network.validation, num_classes=network.num_classes),
        **shares(right),
        "by image": {name: packed(right_N) for name, right_N in right.items()},
    }


def shares(right: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the shares of right answers, and means of shares by the names of `MEANS`; the sizes of the subsets."""
    found = {name: int(right_N.sum()) / len(right_N) for name, right_N in right.items()}
    found |= {name: statistics.mean(found[own] for own in members) for name, members in MEANS.items()}
    found["fgsm_drop"] = found["attacked/clean"] - found["fgsm"]
    return found | {"images": len(right[MEANS[ALL_OF_THEM][0]]), "attacked/images": len(right["attacked/clean"])}


def likelihood(network: Network) -> dict[str, float]:
    """Measure accuracy and likelihood of test images, and how far the network has overfitted.

    `gap` is the accuracy of training images less that of validation images, `overfit_nats` the rise of the likelihood
    loss of validation images from its least over the epochs. `test/nll_spread` is the standard deviation over images.
    """
    test, val = network.test, network.validation
    logits_NK, val_NK = logits(network.model, test), logits(network.model, val)
    train = balanced_subset(network.train, size=len(val))
    train_accuracy = accuracy(logits(network.model, train), train.labels_N)
    val_accuracy, temperature = accuracy(val_NK, val.labels_N), fit_temperature(val_NK, val.labels_N)
    loss_N = functional.cross_entropy(logits_NK.double(), test.labels_N, reduction="none")
    return {
        "test/images": len(test),
        "test/nll": float(loss_N.mean()),
        "test/nll_spread": float(loss_N.std()),
        "test/ece": expected_calibration_error(logits_NK, test.labels_N),
        "test/nll_scaled": negative_log_likelihood(logits_NK / temperature, test.labels_N),
        "train/accuracy": train_accuracy,
        "val/accuracy": val_accuracy,
        "val/nll": network.curve[-1],
        "gap": train_accuracy - val_accuracy,
        "overfit_nats": network.curve[-1] - min(network.curve),
    }


def mixtures(model: TappedClassifier, images: Split, *, num_classes: int) -> dict[str, float]:
    """Measure how far predictions of mixtures are from mixed labels, by boundary and as the mean of the hidden ones.

    A method that mixes at a boundary is trained to make this small there: it is the check that the treatment was one.
    """
    few = balanced_subset(images, size=MIXED)
    found = {
        f"mixture/{boundary}": mixture_divergence(model, few, boundary=boundary, num_classes=num_classes)
        for boundary in model.boundaries
    }
    hidden = [value for name, value in found.items() if name != "mixture/input"]
    return {**found, "mixture/hidden": statistics.mean(hidden)}


@torch.no_grad()
def mixture_divergence(model: TappedClassifier, images: Split, *, boundary: str, num_classes: int) -> float:
    """Return the mean divergence (nats) of the mixed label from the prediction of a mixture, pairs of other classes.

    lambda is from U(0, 1) for each image. Pairs and lambdas are the same for every network and boundary. It is 0 where
    the softmax output moves in a straight line from label to label.
    """
    rng = np.random.default_rng(derive(0, "mixtures of the evidence"))
    device = images.labels_N.device
    lam_N = torch.from_numpy(rng.uniform(size=len(images))).float().to(device)
    permutation = torch.from_numpy(rng.permutation(len(images))).to(device)
    mix = Mix(boundary, lam_N, permutation)
    targets_NK = mixed_targets(functional.one_hot(images.labels_N, num_classes).double(), mix)
    with evaluating(model), torch.autocast(device.type, enabled=False):
        logits_NK = model.features(as_pixels(images.images_NCHW), mix=mix).logits
    log_NK = logits_NK.double().log_softmax(1)
    divergence_N = functional.kl_div(log_NK, targets_NK, reduction="none").sum(1)
    return float(divergence_N[images.labels_N != images.labels_N[permutation]].mean())


def deformed(model: TappedClassifier, images: Split) -> dict[str, Tensor]:
    """Return the right answers on images under each deformation, with the same angle for every network."""
    return {name: _right(model, images, family, amount) for name, (family, amount) in DEFORMED.items()}


def _right(model: TappedClassifier, images: Split, family: DeformationFamily, amount: float) -> Tensor:
    unit_N = unit_draws(len(images), family=family, seed=0).to(images.labels_N.device)

    def attack(x: Tensor, y_B: Tensor, index_B: Tensor) -> Tensor:
        return still_right(model, deform(x, unit_N[index_B], family=family, amount=amount), y_B)

    return withstands(images, attack)


def under_attack(model: TappedClassifier, images: Split, settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the right answers after FGSM and PGD; an image that was wrong before does not count as robust.

    PGD has one random start, the same for every network, and steps of a tenth of the radius.
    """
    radius, steps = settings["radius"], settings["pgd_steps"]
    noise = generator(0, "mixtures of the evidence", device=images.labels_N.device)
    attack = pgd_attack(model, epsilon=radius, steps=steps, step_size=radius / 10, noise=noise)
    found = {f"fgsm@{epsilon:.4g}": after_fgsm(model, images, epsilon) for epsilon in settings["fgsm"]}
    return {
        "attacked/clean": withstands(images, unattacked(model)),
        **found,
        "fgsm": found[f"fgsm@{radius:.4g}"],
        "pgd": withstands(images, attack),
    }


def after_fgsm(model: TappedClassifier, images: Split, epsilon: float) -> Tensor:
    """Return the images that are right before and after FGSM."""

    def attack(x: Tensor, y_B: Tensor, _index_B: Tensor) -> Tensor:
        return still_right(model, x, y_B) & still_right(model, fgsm(model, x, y_B, epsilon=epsilon), y_B)

    return withstands(images, attack)
