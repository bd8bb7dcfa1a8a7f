"""Reproduce the MNIST numbers of docs/results.md: the paper's small network under each method.

    make evidence DATA=FOLDER          FOLDER holds MNIST/raw and notMNIST/raw, as torchvision lays MNIST out

Nothing was chosen on the test images: learning rates, weights and epochs come from the validation split, and each
trained network is scored on the test images once, here. Networks and scores are cached under results/evidence. An
interrupted run resumes; a run with unchanged code recomputes the transfer alone.
"""

import argparse
import json
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import page
import released
import torch
from scores import KEPT, Scores

from trainables.config.trial import PLACE, TrialConfig
from trainables.data import Split, load_splits, load_test
from trainables.engine.epoch_report import EpochReport
from trainables.engine.placement import resolve_precision
from trainables.evaluation.core import report
from trainables.evaluation.core.evaluation_attack import pgd_attack, withstands
from trainables.evaluation.core.prediction import balanced_subset
from trainables.evaluation.core.results import EvaluationBudget, Subject
from trainables.evaluation.robustness.transfer import transfer
from trainables.evaluation.uncertainty.outliers import outliers
from trainables.models import TappedClassifier
from trainables.models.loading import load_model
from trainables.regularizers.presets import PRESETS
from trainables.seeding import generator
from trainables.tasks.classifier.training import train

EPSILONS, STEPS = (0.1, 0.2, 0.3), 40
SEEDS = (0, 1, 2)
TEST_IMAGES = 10_000
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


def main() -> int:
    """Train and measure everything that is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, type=Path)
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--data", type=Path, default=KEPT, help="file of the kept numbers")
    parser.add_argument("--kept", type=Path, default=Path("results/evidence"))
    parser.add_argument("--images", type=int, default=1000, help="test images for all but accuracy and calibration")
    parser.add_argument("--recipes", nargs="*", choices=list(RECIPES), default=list(RECIPES))
    options = parser.parse_args()
    networks = [trained(recipe, seed, options) for recipe in options.recipes for seed in SEEDS]
    scores = {network.name: measured(network, options) for network in networks}
    transfers = transferred(networks, options)
    kept = Scores(
        command="make evidence DATA=FOLDER",
        machine=machine(),
        seeds=SEEDS,
        images=options.images,
        test_images=TEST_IMAGES,
        values=by_recipe(networks, scores),
        transfer=page.transfer_of(transfers),
    )
    kept.write(options.data)
    page.write(options.page, kept)
    return 0


def by_recipe(networks: list[Network], scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, list[float]]]:
    """Return the values of each recipe and metric in the order of the seeds; a metric that a seed lacks is left out."""
    values: dict[str, dict[str, list[float]]] = {}
    for network in networks:
        for metric, value in scores[network.name].items():
            values.setdefault(network.recipe, {}).setdefault(metric, []).append(value)
    return {
        recipe: {metric: own for metric, own in metrics.items() if len(own) == len(SEEDS)}
        for recipe, metrics in values.items()
    }


def trained(recipe: str, seed: int, options: argparse.Namespace) -> Network:
    """Return the network of a recipe and a seed; train it unless it is cached with the same description."""
    config = TrialConfig.from_point({**COMMON, **RECIPES[recipe], "data.root": str(options.data_root), "seed": seed})
    folder = options.kept / f"{recipe.replace(' ', '-')}-{seed}"
    description = {"trial": identity(config), "machine": machine()}
    note = folder / "trained.json"
    if not note.exists() or json.loads(note.read_text())["description"] != description:
        print(f"{recipe}, seed {seed}", flush=True)
        train(config, report=progress, checkpoint=folder)
        note.write_text(json.dumps({"description": description}))
    return Network(recipe, seed, folder)


def measured(network: Network, options: argparse.Namespace) -> dict[str, float]:
    """Return all numbers of a network on test images, under the names of metrics."""
    subject = subject_of(network, options)
    cache = options.kept / "reports"
    scores: dict[str, float] = {}
    for suites, images in ((SUITES[:1], None), (SUITES[1:], options.images)):
        for result in report.evaluate(subject, suites, EvaluationBudget(images=images), cache=cache, progress=silent):
            scores |= result.metrics
    scores |= cached(subject, f"pgd-40-{options.images}", cache, lambda: under_attack(subject, options))
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


def under_attack(subject: Subject, options: argparse.Namespace) -> dict[str, float]:
    """Measure accuracy after PGD-40 from one random start; an image that was wrong before does not count as robust."""
    images = balanced_subset(subject.test, size=options.images)
    return {f"pgd-40@{epsilon:g}": pgd_accuracy(subject.model, images, epsilon) for epsilon in EPSILONS}


def pgd_accuracy(model: TappedClassifier, images: Split, epsilon: float) -> float:
    """Attack in steps of epsilon / 30, as 0.01 at 0.3, with the same noise for every network."""
    noise = generator(0, "evidence")
    attack = pgd_attack(model, epsilon=epsilon, steps=STEPS, step_size=epsilon / 30, noise=noise)
    return int(withstands(images, attack, batch_size=500).sum()) / len(images)


def transferred(networks: list[Network], options: argparse.Namespace) -> Any:
    """Measure how often an image made for one network fools another, by recipe: PGD at 0.1, 500 images."""
    models = {network.name: load_model(network.checkpoint) for network in networks}
    test = load_test(TrialConfig.from_point({**COMMON, "data.root": str(options.data_root)}).data)
    groups = {network.name: network.recipe for network in networks}
    return transfer(models, balanced_subset(test, size=500), attack="pgd", epsilon=0.1, seed=0, groups=groups)


def subject_of(network: Network, options: argparse.Namespace) -> Subject:
    """Return a network with the images of MNIST, notMNIST and made outliers."""
    data = TrialConfig.from_point({**COMMON, "data.root": str(options.data_root)}).data
    splits, test = load_splits(data), load_test(data)
    sets = outliers([f"notmnist={options.data_root / 'notMNIST'}", "rotated", "permuted"], like=test)
    model = load_model(network.checkpoint)
    return Subject(model, splits.train, splits.val, test, epsilon=0.1, outliers=sets)


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


def machine() -> str:
    """Describe the machine."""
    cpu = torch.cpu.get_capabilities()
    precision = resolve_precision("auto", torch.device("cpu"))
    return (
        f"{cpu.get('cpu_name', platform.processor())}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__.partition('+')[0]}, steps in {str(precision).removeprefix('torch.')}"
    )


if __name__ == "__main__":
    sys.exit(main())
