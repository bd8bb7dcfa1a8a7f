"""Networks of the section: the paper's small network under each method, trained and measured.

Learning rates, weights and epochs come from the validation split, but for one weight (docs/results/mnist.md), and each
trained network is scored on the test images once, here. Networks and scores are cached in the folder of kept
checkpoints; with unchanged code, the transfer alone is computed once more.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from section import JSON, Places, Row, Size, Unit, described, machine

from trainables.config.trial import PLACE, TrialConfig
from trainables.data import Split, load_splits, load_test
from trainables.engine.epoch_report import EpochReport
from trainables.evaluation.core import report
from trainables.evaluation.core.evaluation_attack import pgd_attack, withstands
from trainables.evaluation.core.prediction import balanced_subset
from trainables.evaluation.core.results import EvaluationBudget, Subject
from trainables.evaluation.robustness.transfer import transfer
from trainables.evaluation.robustness.transfer_result import Transfer
from trainables.evaluation.uncertainty.outliers import outliers
from trainables.models import TappedClassifier
from trainables.models.loading import load_model
from trainables.regularizers.presets import PRESETS
from trainables.seeding import generator
from trainables.tasks.classifier.training import train

from . import page, released
from .scores import TRANSFER, Scores

EPSILONS, STEPS = (0.1, 0.2, 0.3), 40
SEEDS = (0, 1, 2)
IMAGES = 1_000
"""Test images for all but accuracy, calibration and transfer."""
TEST_IMAGES = 10_000
TRANSFER_IMAGES = 500
MADE = ("rotated", "permuted")
SMOKE_RECIPES = ("baseline", "entangle")
SMOKE: Mapping[str, Any] = {
    "point": {"data.name": "digits", "model.width": 0.1, "epochs": 1},
    "outliers": list(MADE),
    "images": 40,
    "test_images": 359,
    "transfer_images": 20,
    "attack_images": 0,
}
SUITES = ("clean", "entanglement", "deformations", "ood", "dknn", "flattening")
PROGRESS = ("train/loss", "train/pgd_accuracy", "val/accuracy", "time/images_per_s")
COMMON = {
    "data.name": "mnist",
    "model.name": "cnn",
    "optimizer.lr": 0.05,
    "evaluation.robust_epsilon": 0.0,
    "device": "cpu",
    "epochs": 5,
}
# Chosen on validation images: without a share of clean images this network stays at chance at so large an epsilon,
# and training against one step makes it robust to one step only.
ROBUST = {
    "adversarial.epsilon": 0.3,
    "adversarial.attack": "pgd",
    "adversarial.steps": 3,
    "adversarial.relative_step": 0.5,
    "adversarial.clean_fraction": 0.3,
    "batch_size": 50,
    "optimizer.name": "adamw",
    "optimizer.lr": 0.003,
    "optimizer.schedule": "one_cycle",
    "epochs": 12,
}
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "baseline": {},
    "entangle": PRESETS["entangle"],
    "disentangle": PRESETS["disentangle"],
    "class means (control)": {"snnl.penalty": "class_mean", "snnl.weight": -0.03, "snnl.layers": "hidden"},
    "activation L2 (control)": {"snnl.penalty": "activation_l2", "snnl.weight": 1e-5, "snnl.layers": "hidden"},
    "manifold mixup": {"mixup.alpha": 2.0, "mixup.layers": "input+conv1+conv2"},
    "adversarial": ROBUST,
    released.NAME: released.RECIPE,
}


@dataclass(frozen=True)
class Network:
    """A trained network."""

    recipe: str
    seed: int
    checkpoint: Path

    @property
    def name(self) -> str:
        """Name of recipe and seed."""
        return f"{self.recipe} {self.seed}"


def units(size: Size) -> list[Unit]:
    """Return one unit for each network, and one for the transfer between all of them."""
    small = SMOKE if size == "smoke" else {}
    recipes, seeds = (SMOKE_RECIPES, SEEDS[:2]) if small else (tuple(RECIPES), SEEDS)
    networks = [
        Unit(f"{recipe} seed {seed}", {"recipe": recipe, "seed": seed, "images": IMAGES, **small})
        for recipe in recipes
        for seed in seeds
    ]
    return [*networks, Unit(TRANSFER, {"recipes": list(recipes), "seeds": list(seeds), **small})]


def measure(unit: Unit, places: Places) -> Mapping[str, JSON]:
    """Measure a network, or the transfer between all: mean errors and half widths by recipes of source and target."""
    settings = unit.settings
    if unit.name != TRANSFER:
        return measured(trained(settings["recipe"], settings["seed"], settings, places), settings, places)
    pairs = product(settings["recipes"], settings["seeds"])
    networks = [trained(recipe, seed, settings, places) for recipe, seed in pairs]
    return page.transfer_of(transferred(networks, settings, places))


def scores_of(rows: Sequence[Row]) -> Scores:
    """Return the numbers of measured units."""
    networks = [row for row in rows if row.name != TRANSFER]
    (between,) = (row for row in rows if row.name == TRANSFER)
    trained_networks = [Network(row.settings["recipe"], row.settings["seed"], Path()) for row in networks]
    by_name = {own.name: row.metrics for own, row in zip(trained_networks, networks, strict=True)}
    settings = networks[0].settings
    return Scores(
        machine=described(rows),
        seeds=tuple(dict.fromkeys(network.seed for network in trained_networks)),
        images=settings["images"],
        test_images=settings.get("test_images", TEST_IMAGES),
        values=by_recipe(trained_networks, by_name),
        transfer=between.metrics,
    )


def by_recipe(
    networks: Sequence[Network], scores: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, list[float]]]:
    """Return the values of each recipe and metric in the order of the seeds; a metric that a seed lacks is left out."""
    values: dict[str, dict[str, list[float]]] = {}
    for network in networks:
        for metric, value in scores[network.name].items():
            values.setdefault(network.recipe, {}).setdefault(metric, []).append(value)
    seeds = Counter(network.recipe for network in networks)
    return {
        recipe: {metric: own for metric, own in metrics.items() if len(own) == seeds[recipe]}
        for recipe, metrics in values.items()
    }


def trained(recipe: str, seed: int, settings: Mapping[str, Any], places: Places) -> Network:
    """Return the network of a recipe and a seed; train it unless it is cached with the same description."""
    config = _config(settings, places, {**RECIPES[recipe], **settings.get("point", {}), "seed": seed})
    folder = places.kept / f"{recipe.replace(' ', '-')}-{seed}"
    description = {"trial": identity(config), "machine": machine()}
    note = folder / "trained.json"
    if not note.exists() or json.loads(note.read_text())["description"] != description:
        print(f"{recipe}, seed {seed}", flush=True)
        train(config, report=progress, checkpoint=folder)
        note.write_text(json.dumps({"description": description}))
    return Network(recipe, seed, folder)


def measured(network: Network, settings: Mapping[str, Any], places: Places) -> dict[str, float]:
    """Return all numbers of a network on test images, under the names of metrics."""
    subject = subject_of(network, settings, places)
    cache = places.kept / "reports"
    images, attack_images = settings["images"], settings.get("attack_images", EvaluationBudget().attack_images)
    scores: dict[str, float] = {}
    for suites, size in ((SUITES[:1], None), (SUITES[1:], images)):
        budget = EvaluationBudget(images=size, attack_images=attack_images)
        for result in report.evaluate(subject, suites, budget, cache=cache, progress=silent):
            scores |= result.metrics
    scores |= cached(subject, f"pgd-40-{images}", cache, lambda: under_attack(subject, images))
    if network.recipe == released.NAME:
        scores |= cached(subject, "released", cache, lambda: released.measured(subject))
    print(network.name, f"accuracy {scores['test/accuracy']:.4f}", flush=True)
    return scores


def cached(subject: Subject, name: str, cache: Path, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return the cached measurement of this subject under this name, or measure it."""
    path = cache / f"{report.fingerprint(subject, EvaluationBudget(), suite=name)}.json"
    if not path.exists():
        path.write_text(json.dumps(measure()))
    return dict(json.loads(path.read_text()))


def under_attack(subject: Subject, size: int) -> dict[str, float]:
    """Measure accuracy after PGD-40 from one random start; an image that was wrong before does not count as robust."""
    images = balanced_subset(subject.test, size=size)
    return {f"pgd-40@{epsilon:g}": pgd_accuracy(subject.model, images, epsilon) for epsilon in EPSILONS}


def pgd_accuracy(model: TappedClassifier, images: Split, epsilon: float) -> float:
    """Attack in steps of epsilon / 30, as 0.01 at 0.3, with the same noise for every network."""
    noise = generator(0, "evidence")
    attack = pgd_attack(model, epsilon=epsilon, steps=STEPS, step_size=epsilon / 30, noise=noise)
    return int(withstands(images, attack, batch_size=500).sum()) / len(images)


def transferred(networks: Sequence[Network], settings: Mapping[str, Any], places: Places) -> Transfer:
    """Measure how often an image made for one network fools another, by recipe: PGD at 0.1, 500 images."""
    models = {network.name: load_model(network.checkpoint) for network in networks}
    test = load_test(_config(settings, places, settings.get("point", {})).data)
    groups = {network.name: network.recipe for network in networks}
    images = balanced_subset(test, size=settings.get("transfer_images", TRANSFER_IMAGES))
    return transfer(models, images, attack="pgd", epsilon=0.1, seed=0, groups=groups)


def subject_of(network: Network, settings: Mapping[str, Any], places: Places) -> Subject:
    """Return a network with the images of its data set, notMNIST and made outliers."""
    data = _config(settings, places, settings.get("point", {})).data
    splits, test = load_splits(data), load_test(data)
    unlike = settings.get("outliers", [f"notmnist={places.data_root}/notMNIST", *MADE])
    model = load_model(network.checkpoint)
    return Subject(model, splits.train, splits.val, test, epsilon=0.1, outliers=outliers(unlike, like=test))


def _config(settings: Mapping[str, Any], places: Places, point: Mapping[str, Any]) -> TrialConfig:
    root = {} if places.data_root is None else {"data.root": str(places.data_root)}
    return TrialConfig.from_point({**COMMON, **settings.get("point", {}), **point, **root})


def identity(config: TrialConfig) -> dict[str, Any]:
    """Return the description that a cached network must share with this trial."""
    point = {name: value for name, value in config.to_point().items() if name not in PLACE}
    return dict(json.loads(json.dumps(point)))


def progress(epoch: EpochReport) -> None:
    """Print one line for each epoch."""
    values = {name: f"{epoch.metrics[name]:.4f}" for name in PROGRESS if name in epoch.metrics}
    print(f"  epoch {epoch.epoch}", *(f"{name} {value}" for name, value in values.items()), flush=True)


def silent(_step: str, _fraction: float) -> None:
    """Ignore the progress: suites are quick compared with the training."""
