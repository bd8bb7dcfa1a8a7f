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
from trainables.evaluation.uncertainty.detection import detection, some_of
from trainables.evaluation.uncertainty.dknn import fit_subject
from trainables.evaluation.uncertainty.mahalanobis import fit_gaussians
from trainables.evaluation.uncertainty.outliers import outliers
from trainables.models import TappedClassifier
from trainables.tasks.classifier.training import train

from .grid import LAYERS

PGD_STEPS = 20
ATTACK, FGSM, PGD = "pgd", "fgsm", f"pgd-{PGD_STEPS}"
LEFT_OUT = ("_aupr", "_aupr_out", "_fpr95")
"""Endings of metrics that no table has."""


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

    `by_image` has what single images get, for intervals over images: `right`, the number of seeds that classify a test
    image correctly, a digit each; the others are means over seeds. They are the credibility of outliers, and of test
    images under FGSM; and of the AUROC of credibility, `above` and `below`, of which it is the mean.

    `transfer` is the share of images, fooling their source and right for all networks before, that fool the target, by
    source and target; `noise` is that of noise of the same size. If a seed diverged, nothing is measured.
    """
    settings = unit.settings
    images = _images(settings, places)
    networks: dict[int, TappedClassifier] = {}
    for seed in settings["seeds"]:
        try:
            networks[seed] = train(_config(settings, places, seed=seed)).model
        except Diverged:
            continue
    diverged = [seed for seed in settings["seeds"] if seed not in networks]
    if diverged:
        return {"diverged": diverged}
    measured = [scores(model, images, settings["data"]) for model in networks.values()]
    values = {name: [own.metrics[name] for own in measured] for name in measured[0].metrics}
    by_image = {name: _mean_over_seeds([own.by_image[name] for own in measured]) for name in measured[0].by_image}
    right_N = torch.stack([own.right_N for own in measured]).sum(0)
    by_image["right"] = "".join(map(str, right_N.tolist()))
    return {"values": values, "by_image": by_image, "diverged": [], **_transferred(networks, images, settings)}


class Scores(NamedTuple):
    """Metrics of one network, and what single images get: correct answers of test images, and others by name."""

    metrics: Mapping[str, float]
    right_N: Tensor
    by_image: Mapping[str, Tensor]


def scores(model: TappedClassifier, images: Images, data: Mapping[str, Any]) -> Scores:
    """Measure one network."""
    found = {"val/accuracy": clean.accuracy(logits(model, images.val), images.val.labels_N)}
    few = balanced_subset(images.val, size=len(images.scored))
    found |= _entanglement(model, few, "val")
    found |= {f"val/length_{tap}": length for tap, length in lengths(model, few).items()}
    logits_NK, labels_N = logits(model, images.test), images.test.labels_N
    found |= {
        "test/accuracy": clean.accuracy(logits_NK, labels_N),
        "test/nll": clean.negative_log_likelihood(logits_NK, labels_N),
        "test/ece": clean.expected_calibration_error(logits_NK, labels_N),
        "test/brier": clean.brier_score(logits_NK, labels_N),
    }
    found |= _entanglement(model, images.scored, "test")
    of_neighbours, by_image = _of_neighbours(model, images, data)
    return Scores(found | of_neighbours, logits_NK.argmax(1) == labels_N, by_image)


def _entanglement(model: TappedClassifier, split: Split, images: str) -> dict[str, float]:
    by_layer = entanglement(model, split)
    return {
        **{f"{images}/entanglement_{tap}": minimum.value for tap, minimum in by_layer.items()},
        f"{images}/entanglement": sum(by_layer[tap].value for tap in LAYERS),
        f"{images}/entanglement_chance": by_layer[LAYERS[0]].chance,
    }


def _mean_over_seeds(values: Sequence[Tensor]) -> list[float]:
    return [round(value, 4) for value in torch.stack([*values]).double().mean(0).tolist()]


def lengths(model: TappedClassifier, split: Split) -> dict[str, float]:
    """Return the mean squared length of the activations of each layer that has the loss."""
    with torch.no_grad(), evaluating(model):
        passes = [model.features(x, taps=LAYERS).taps for x, _ in batches(split)]
    return {tap: float(torch.cat([_squared_lengths(own[tap]) for own in passes]).mean()) for tap in LAYERS}


def _squared_lengths(features: Tensor) -> Tensor:
    return features.flatten(1).double().square().sum(1)


def _of_neighbours(
    model: TappedClassifier, images: Images, data: Mapping[str, Any]
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Measure outliers and attacks, also by the neighbours; return metrics, and what single images get."""
    scored, epsilon, tested = images.scored, data["epsilon"], data["outliers"][0]
    subject = Subject(model, images.train, images.val, scored, epsilon=epsilon, outliers=images.outliers)
    detector = fit_subject(subject)
    gaussians = fit_gaussians(model, images.train, taps=detector.taps)
    attacked = torch.cat([fgsm(model, x, y, epsilon=epsilon) for x, y in batches(scored, size=256)])
    under_fgsm_N = detector.predict_pixels(attacked).credibility_N
    unlike, _ = some_of(images.outliers[tested], name=tested, at_most=len(scored), seed=0)
    inside_N, outside_M = (detector.predict(split).credibility_N for split in (scored, unlike))
    above_N, below_M = placements(inside_N, outside_M)
    metrics = {
        **detection(detector, scored, images.outliers, gaussians=gaussians).metrics(),
        "dknn/credibility": float(inside_N.mean()),
        f"dknn/credibility_{tested}": float(outside_M.mean()),
        "dknn/credibility_fgsm": float(under_fgsm_N.mean()),
        FGSM: _still_right(model, scored, attacked),
        PGD: robust_accuracy(model, scored, epsilon=epsilon, steps=PGD_STEPS),
        "test/scored_accuracy": float(withstands(scored, unattacked(model)).double().mean()),
    }
    by_image = {
        "credibility_outliers": outside_M,
        "credibility_fgsm": under_fgsm_N,
        "above": above_N,
        "below": below_M,
    }
    return {name: value for name, value in metrics.items() if not name.endswith(LEFT_OUT)}, by_image


def placements(inside_N: Tensor, outside_M: Tensor) -> tuple[Tensor, Tensor]:
    """Return the share of outliers that score lower than each test image, and of test images higher than each outlier.

    Equal scores count half. The mean of either is the AUROC, and their variances give its own (DeLong et al., 1988).

    >>> above, below = placements(torch.tensor([0.9, 0.5]), torch.tensor([0.5, 0.1]))
    >>> above.tolist(), below.tolist()
    ([1.0, 0.75], [0.75, 1.0])
    """
    wins_NM = (inside_N[:, None] > outside_M).double() + 0.5 * (inside_N[:, None] == outside_M).double()
    return wins_NM.mean(1), wins_NM.mean(0)


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
    sets = [f"{name}={places.data_root}/notMNIST" if name == "notmnist" else name for name in data["outliers"]]
    scored = balanced_subset(test, size=data["scored_images"])
    return Images(
        splits.train,
        balanced_subset(splits.val, size=data["val_images"]),
        test if len(test) <= data["test_images"] else balanced_subset(test, size=data["test_images"]),
        scored,
        outliers(sets, like=scored),
    )
