"""Training of one pair of networks, and their synthetic images after each epoch and on test images."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from image_sets import image_sets
from section import JSON, Places, Unit
from sections.gan.design import CHANCE, COURSE

from trainables.config.trial import TrialConfig
from trainables.data import Split, cache, load_test
from trainables.evaluation.core.clean import accuracy
from trainables.evaluation.core.prediction import as_pixels, logits
from trainables.tasks.classifier.training import train
from trainables.tasks.gan import GanConfig
from trainables.tasks.gan.feature_space import FeatureSpace
from trainables.tasks.gan.measures import modes, predicted_classes, real_fake_entanglement
from trainables.tasks.gan.run import GanRun, start, synthetic_images


def measure(unit: Unit, places: Places) -> Mapping[str, JSON]:
    """Train one pair of networks, and measure it before training, after each epoch, and on test images."""
    settings = unit.settings
    point = {**settings["point"], **_root(settings["point"], places), "seed": settings["seed"]}
    config = GanConfig.from_point({**point, "gan.classifier": str(_classifier(settings["classifier"], places))})
    loop = start(config)
    reports = [loop.run.evaluate_epoch(0)]
    while not loop.finished:
        reports.append(dict(loop.run_epoch().metrics))
    test = load_test(config.data).to(loop.run.placement.device)
    sets = image_sets(test, count=settings["sets"], size=settings["images"])
    compared = [
        _compared(loop.run, images, sets[number - 1], noise=1000 * (settings["seed"] + 1) + number)
        for number, images in enumerate(sets)
    ]
    counted_NCHW = loop.run.synthetic_images(settings["mode_images"])
    classes_N = predicted_classes(loop.run.classifier, counted_NCHW)
    spread = modes(classes_N, num_classes=loop.run.num_classes, share=config.evaluation.mode_share)
    return {
        "course": {name: [report[metric] for report in reports] for name, metric in COURSE.items()},
        "val_chance": reports[-1][CHANCE],
        "test": {name: [own[name] for own in compared] for name in compared[0]},
        "covered": spread.covered,
        "kl": spread.kl,
        "counts": classes_N.bincount(minlength=loop.run.num_classes).tolist(),
        "classifier_accuracy": accuracy(logits(loop.run.classifier, test), test.labels_N),
    }


def _compared(run: GanRun, real: Split, other: Split, *, noise: int) -> dict[str, float]:
    """Compare a set of real images with as many synthetic ones, and with other real ones for the ceilings."""
    real_NCHW, other_NCHW = as_pixels(real.images_NCHW), as_pixels(other.images_NCHW)
    fake_NCHW = synthetic_images(run.networks.generator, len(real), seed=noise)
    distance = run.config.evaluation.distance
    pixels = real_fake_entanglement(real_NCHW, fake_NCHW, distance)
    features = FeatureSpace.of(run.classifier, real_NCHW, other_NCHW, distance).metrics(fake_NCHW)
    return {
        "pixels": pixels.value / pixels.chance,
        "pixels_ceiling": real_fake_entanglement(real_NCHW, other_NCHW, distance).value / pixels.chance,
        "pixels_precision": pixels.precision,
        "pixels_recall": pixels.recall,
        "pixels_nn": pixels.nn_accuracy,
        "features": features["val/feature_entanglement"] / pixels.chance,
        "features_ceiling": features["val/feature_ceiling"] / pixels.chance,
        "features_precision": features["val/feature_precision"],
        "features_recall": features["val/feature_recall"],
        "features_nn": features["val/feature_nn_accuracy"],
        "precision": features["val/manifold_precision"],
        "recall": features["val/manifold_recall"],
    }


def _root(point: Mapping[str, Any], places: Places) -> dict[str, str]:
    """Return the place of the images."""
    if point["data.name"] == "digits":
        return {}
    if places.data_root is None:
        raise ValueError("--data-root: must name a folder with MNIST/raw, got none")
    return {"data.root": str(places.data_root), "data.cache": str(places.kept / "prepared")}


def _classifier(point: Mapping[str, Any], places: Places) -> Path:
    """Return the folder of the classifier, which is trained once for all units."""
    digest = hashlib.blake2b(json.dumps(point, sort_keys=True).encode(), digest_size=6).hexdigest()
    folder = places.kept / f"classifier-{digest}"
    done = folder / "trained"
    with cache.locked(folder):  # the other half of a run waits for it
        if not done.exists():
            train(TrialConfig.from_point({**point, **_root(point, places)}), checkpoint=folder)
            done.touch()
    return folder
