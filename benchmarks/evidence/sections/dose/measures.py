"""What is measured of the networks of one treatment: everything of validation images, then test images once.

Shapes: N images, D features of a layer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from section import JSON, Places, Unit
from torch import Tensor

from trainables.attacks import evaluating, fgsm
from trainables.config.trial import TrialConfig
from trainables.data import Split, load_splits, load_test
from trainables.errors import Diverged
from trainables.evaluation.core import clean
from trainables.evaluation.core.entanglement import entanglement
from trainables.evaluation.core.evaluation_attack import robust_accuracy, unattacked, withstands
from trainables.evaluation.core.prediction import as_pixels, balanced_subset, batches, logits
from trainables.evaluation.core.results import Subject
from trainables.evaluation.robustness.transfer import transfer
from trainables.evaluation.robustness.transfer_result import TransferCondition
from trainables.evaluation.uncertainty.credibility import credibility
from trainables.evaluation.uncertainty.detection import detection
from trainables.evaluation.uncertainty.dknn import fit_subject
from trainables.evaluation.uncertainty.mahalanobis import fit_gaussians
from trainables.evaluation.uncertainty.outliers import outliers
from trainables.models import TappedClassifier
from trainables.tasks.classifier.training import train

from .grid import LAYERS

PGD_STEPS = 20
ATTACK, FGSM, PGD = "pgd", "fgsm", f"pgd-{PGD_STEPS}"


class Images(NamedTuple):
    """Images of a data set: `val`, `test` and `scored` are as many as the section measures."""

    train: Split
    val: Split
    test: Split
    scored: Split
    outliers: Mapping[str, Split]


def measure(unit: Unit, places: Places) -> Mapping[str, JSON]:
    """Train the networks of all seeds, and return each metric by seed, and the seeds that diverged.

    `entanglement` without a layer is the sum over those that have the loss, which the loss changes.

    `transfer` is the share of images, fooling their source and right for all networks before, that fool the target, by
    source and target; `noise` is that of noise of the same size. Neither is measured if a seed diverged.
    """
    settings = unit.settings
    images = _images(settings, places)
    networks: dict[int, TappedClassifier] = {}
    for seed in settings["seeds"]:
        try:
            networks[seed] = train(_config(settings, places, seed=seed)).model
        except Diverged:
            continue
    measured = [scores(model, images, epsilon=settings["data"]["epsilon"]) for model in networks.values()]
    values = {name: [own[name] for own in measured] for name in (measured[0] if measured else ())}
    diverged = [seed for seed in settings["seeds"] if seed not in networks]
    return {"values": values, "diverged": diverged, **({} if diverged else _transferred(networks, images, settings))}


def scores(model: TappedClassifier, images: Images, *, epsilon: float) -> dict[str, float]:
    """Return all metrics of one network."""
    found = {"val/accuracy": clean.accuracy(logits(model, images.val), images.val.labels_N)}
    by_layer = entanglement(model, images.val)
    found |= {f"val/entanglement_{tap}": minimum.value for tap, minimum in by_layer.items()}
    found["val/entanglement"] = sum(by_layer[tap].value for tap in LAYERS)
    found["val/entanglement_chance"] = by_layer[LAYERS[0]].chance
    found |= {f"val/length_{tap}": length for tap, length in lengths(model, images.val).items()}
    return found | _test_scores(model, images, epsilon=epsilon)


def lengths(model: TappedClassifier, split: Split) -> dict[str, float]:
    """Return the mean squared length of the activations of each layer that has the loss."""
    with torch.no_grad(), evaluating(model):
        passes = [model.features(x, taps=LAYERS).taps for x, _ in batches(split)]
    return {tap: float(torch.cat([_squared_lengths(own[tap]) for own in passes]).mean()) for tap in LAYERS}


def _squared_lengths(features: Tensor) -> Tensor:
    return features.flatten(1).double().square().sum(1)


def _test_scores(model: TappedClassifier, images: Images, *, epsilon: float) -> dict[str, float]:
    logits_NK, labels_N, scored = logits(model, images.test), images.test.labels_N, images.scored
    found = {
        "test/accuracy": clean.accuracy(logits_NK, labels_N),
        "test/nll": clean.negative_log_likelihood(logits_NK, labels_N),
        "test/ece": clean.expected_calibration_error(logits_NK, labels_N),
        "test/brier": clean.brier_score(logits_NK, labels_N),
    }
    by_layer = entanglement(model, scored)
    found |= {f"test/entanglement_{tap}": minimum.value for tap, minimum in by_layer.items()}
    found["test/entanglement"] = sum(by_layer[tap].value for tap in LAYERS)
    found["test/entanglement_chance"] = by_layer[LAYERS[0]].chance
    subject = Subject(model, images.train, images.val, scored, epsilon=epsilon, outliers=images.outliers)
    detector = fit_subject(subject)
    gaussians = fit_gaussians(model, images.train, taps=detector.taps)
    found |= detection(detector, scored, images.outliers, gaussians=gaussians).metrics()
    found |= credibility(detector, scored, outliers=images.outliers).metrics()
    attacked = torch.cat([fgsm(model, x, y, epsilon=epsilon) for x, y in batches(scored, size=256)])
    found["dknn/credibility_fgsm"] = float(detector.predict_pixels(attacked).credibility_N.mean())
    found[FGSM] = _still_right(model, scored, attacked)
    found[PGD] = robust_accuracy(model, scored, epsilon=epsilon, steps=PGD_STEPS)
    found["test/scored_accuracy"] = float(withstands(scored, unattacked(model)).double().mean())
    return {name: value for name, value in found.items() if not name.endswith(("_aupr", "_aupr_out", "_fpr95"))}


@torch.no_grad()
def _still_right(model: TappedClassifier, split: Split, attacked: Tensor) -> float:
    with evaluating(model):
        before, after = (model(x).argmax(1) == split.labels_N for x in (as_pixels(split.images_NCHW), attacked))
    return float((before & after).double().mean())


def _transferred(
    networks: Mapping[int, TappedClassifier], images: Images, settings: Mapping[str, Any]
) -> dict[str, JSON]:
    data = settings["data"]
    models = {str(seed): model for seed, model in networks.items()}
    few = balanced_subset(images.test, size=data["transfer_images"])
    found = transfer(models, few, attack=ATTACK, epsilon=data["epsilon"])
    kinds = {"transfer": TransferCondition(among="fooling"), "noise": TransferCondition("sign", "own", "fooling")}
    return {name: _matrix(found.errors[condition], tuple(models)) for name, condition in kinds.items()}


def _matrix(errors: Any, names: Sequence[str]) -> list[list[float | None]]:
    """Return the errors by source and target; None where no image is right for all and fools the source."""
    rates = [[errors[source][target] for target in names] for source in names]
    return [[rate.error if rate.images else None for rate in row] for row in rates]


def _config(settings: Mapping[str, Any], places: Places, *, seed: int) -> TrialConfig:
    root = {} if places.data_root is None else {"data.root": str(places.data_root)}
    return TrialConfig.from_point({**settings["point"], **root, "seed": seed})


def _images(settings: Mapping[str, Any], places: Places) -> Images:
    config, data = _config(settings, places, seed=0), settings["data"]
    splits, test = load_splits(config.data), load_test(config.data)
    sets = [f"{name}={places.data_root / 'notMNIST'}" if name == "notmnist" else name for name in data["outliers"]]
    scored = balanced_subset(test, size=data["scored_images"])
    return Images(
        splits.train,
        balanced_subset(splits.val, size=data["val_images"]),
        test if len(test) <= data["test_images"] else balanced_subset(test, size=data["test_images"]),
        scored,
        outliers(sets, like=scored),
    )
