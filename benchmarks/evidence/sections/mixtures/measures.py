"""Measures of a trained network: accuracy and likelihood, the check of the mixtures, deformed and attacked images.

Shapes: N images, B of a batch, K classes.
"""

import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sections.mixtures.trials import Network
from torch import Tensor
from torch.nn import functional

from trainables.attacks import evaluating, fgsm
from trainables.data import Split
from trainables.evaluation.core.clean import accuracy, expected_calibration_error, negative_log_likelihood
from trainables.evaluation.core.evaluation_attack import pgd_attack, still_right, withstands
from trainables.evaluation.core.prediction import as_pixels, balanced_subset, logits
from trainables.evaluation.deformations.deformed_accuracy import deformations
from trainables.evaluation.deformations.families import PRIMARY
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
ALL_OF_THEM = "deformation/mean"


def measured(network: Network, settings: Mapping[str, Any]) -> dict[str, float]:
    """Return all numbers of a network."""
    images = balanced_subset(network.test, size=settings["images"])
    attacked = balanced_subset(network.test, size=settings["attacked"])
    return {
        **likelihood(network),
        **mixtures(network.model, network.validation, num_classes=network.num_classes),
        **deformed(network, images),
        **under_attack(network.model, attacked, settings),
    }


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
        "test/accuracy": accuracy(logits_NK, test.labels_N),
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


def deformed(network: Network, images: Split) -> dict[str, float]:
    """Measure accuracy on deformed images: each of the paper's, and means of those where it found an advantage.

    A mean of an image's answers has at most the variance of one answer of that mean, so that the interval of a share
    over images is an upper bound for it.
    """
    mean_C = torch.tensor(network.train.pixel_statistics()[0])
    result = deformations(network.model, images, mean_C=mean_C, variants=[PRIMARY]).metrics()
    means = {
        f"deformation/{family}": statistics.mean(result[f"deformation/{family}@{amount:g}"] for amount in amounts)
        for family, amounts in PAPER_BETTER.items()
    }
    every = [f"deformation/{family}@{amount:g}" for family, amounts in PAPER_BETTER.items() for amount in amounts]
    return {"images": len(images), **result, **means, ALL_OF_THEM: statistics.mean(result[name] for name in every)}


def under_attack(model: TappedClassifier, images: Split, settings: Mapping[str, Any]) -> dict[str, float]:
    """Measure accuracy after FGSM and PGD; an image that was wrong before the attack does not count as robust.

    PGD has one random start, the same for every network, and steps of a tenth of the radius.
    """
    radius, steps = settings["radius"], settings["pgd_steps"]
    clean = int(withstands(images, lambda x, y_B, _: still_right(model, x, y_B)).sum()) / len(images)
    found = {f"fgsm@{epsilon:.4g}": fgsm_accuracy(model, images, epsilon) for epsilon in settings["fgsm"]}
    noise = generator(0, "mixtures of the evidence", device=images.labels_N.device)
    attack = pgd_attack(model, epsilon=radius, steps=steps, step_size=radius / 10, noise=noise)
    found["pgd"] = int(withstands(images, attack).sum()) / len(images)
    found["fgsm"] = found[f"fgsm@{radius:.4g}"]
    return {"attacked/images": len(images), "attacked/clean": clean, **found, "fgsm_drop": clean - found["fgsm"]}


def fgsm_accuracy(model: TappedClassifier, images: Split, epsilon: float) -> float:
    """Return the share of images that are right before and after FGSM."""

    def attack(x: Tensor, y_B: Tensor, _index_B: Tensor) -> Tensor:
        return still_right(model, x, y_B) & still_right(model, fgsm(model, x, y_B, epsilon=epsilon), y_B)

    return int(withstands(images, attack).sum()) / len(images)
