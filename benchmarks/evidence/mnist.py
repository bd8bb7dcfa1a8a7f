"""What docs/results.md says about MNIST, measured again: the paper's small network under each method.

    make evidence DATA=FOLDER          FOLDER holds MNIST/raw and notMNIST/raw, as torchvision lays MNIST out

Nothing was chosen on the test images: learning rates, weights and epochs come from the validation split, and each
trained network is scored on the test images once, here. Networks and scores are kept under results/evidence: a run
that was cut off goes on, and one whose code has not changed measures the transfer alone again.
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

from trainables.config.trial import PLACE, TrialConfig
from trainables.data import Split, load_splits, load_test
from trainables.engine.precision import resolve_precision
from trainables.evaluation.core import report
from trainables.evaluation.core.evaluation_attack import pgd_attack, withstands
from trainables.evaluation.core.prediction import balanced_subset
from trainables.evaluation.core.results import EvaluationBudget, Subject
from trainables.evaluation.robustness.transfer import transfer
from trainables.evaluation.uncertainty.outliers import outliers
from trainables.models import StagedClassifier
from trainables.regularizers.presets import PRESETS
from trainables.seeding import generator
from trainables.tasks.classifier.training import EpochReport, load_model, train

EPSILONS, STEPS = (0.1, 0.2, 0.3), 40
SEEDS = (0, 1, 2)
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
# Chosen on validation images: a share of clean images is what lets this network leave chance at so large an
# epsilon, and training against one step makes it robust to one step.
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
        """Recipe and seed."""
        return f"{self.recipe} {self.seed}"


def main() -> int:
    """Train and measure whatever is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, type=Path)
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--kept", type=Path, default=Path("results/evidence"))
    parser.add_argument("--images", type=int, default=1000, help="test images for all but accuracy and calibration")
    parser.add_argument("--recipes", nargs="*", choices=list(RECIPES), default=list(RECIPES))
    options = parser.parse_args()
    networks = [trained(recipe, seed, options) for recipe in options.recipes for seed in SEEDS]
    scores = {network.name: measured(network, options) for network in networks}
    moved = transferred(networks, options)
    page.write(options.page, networks, scores, transfer=moved, images=options.images, machine=machine())
    return 0


def trained(recipe: str, seed: int, options: argparse.Namespace) -> Network:
    """The network of a recipe and a seed, trained unless it is kept and its description has not changed."""
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
    """All numbers of a network on test images, under the names of metrics."""
    subject = subject_of(network, options)
    kept = options.kept / "reports"
    found: dict[str, float] = {}
    for suites, images in ((SUITES[:1], None), (SUITES[1:], options.images)):
        for each in report.evaluate(subject, suites, EvaluationBudget(images=images), cache=kept, progress=silent):
            found |= each.metrics
    found |= remembered(subject, f"pgd-40-{options.images}", kept, lambda: under_attack(subject, options))
    if network.recipe == released.NAME:
        found |= remembered(subject, "released", kept, lambda: released.measured(subject))
    print(network.name, f"accuracy {found['test/accuracy']:.4f}", flush=True)
    return found


def remembered(subject: Subject, name: str, kept: Path, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What was measured of this subject under this name before, or is now."""
    path = kept / f"{report.fingerprint(subject, EvaluationBudget(), suite=name)}.json"
    if not path.exists():
        path.write_text(json.dumps(measure()))
    return dict(json.loads(path.read_text()))


def under_attack(subject: Subject, options: argparse.Namespace) -> dict[str, float]:
    """Accuracy after PGD-40 from one random start; an image that was wrong before does not count as right."""
    images = balanced_subset(subject.test, size=options.images)
    return {f"pgd-40@{epsilon:g}": pgd_accuracy(subject.model, images, epsilon) for epsilon in EPSILONS}


def pgd_accuracy(model: StagedClassifier, images: Split, epsilon: float) -> float:
    """Steps of epsilon / 30, as 0.01 at 0.3; the same noise for every network."""
    noise = generator(0, "evidence")
    attack = pgd_attack(model, epsilon=epsilon, steps=STEPS, step_size=epsilon / 30, noise=noise)
    return int(withstands(images, attack, batch_size=500).sum()) / len(images)


def transferred(networks: list[Network], options: argparse.Namespace) -> Any:
    """How often an image made for one network fools another, by recipe: PGD at 0.1, 500 images."""
    models = {network.name: load_model(network.checkpoint) for network in networks}
    test = load_test(TrialConfig.from_point({**COMMON, "data.root": str(options.data_root)}).data)
    groups = {network.name: network.recipe for network in networks}
    return transfer(models, balanced_subset(test, size=500), attack="pgd", epsilon=0.1, seed=0, groups=groups)


def subject_of(network: Network, options: argparse.Namespace) -> Subject:
    """A network beside MNIST, with notMNIST and made outliers."""
    data = TrialConfig.from_point({**COMMON, "data.root": str(options.data_root)}).data
    splits, test = load_splits(data), load_test(data)
    others = outliers([f"notmnist={options.data_root / 'notMNIST'}", "rotated", "permuted"], like=test)
    model = load_model(network.checkpoint)
    return Subject(model, splits.train, splits.val, test, epsilon=0.1, outliers=others)


def identity(config: TrialConfig) -> dict[str, Any]:
    """What a kept network must agree with to be that of this trial."""
    point = {name: value for name, value in config.to_point().items() if name not in PLACE}
    return dict(json.loads(json.dumps(point)))


def progress(epoch: EpochReport) -> None:
    """One line for each epoch."""
    told = {name: f"{epoch.metrics[name]:.4f}" for name in PROGRESS if name in epoch.metrics}
    print(f"  epoch {epoch.epoch}", *(f"{name} {value}" for name, value in told.items()), flush=True)


def silent(_what: str, _done: float) -> None:
    """Suites are quick beside the training."""


def machine() -> str:
    """What it ran on."""
    cpu = torch.cpu.get_capabilities()
    precision = resolve_precision("auto", torch.device("cpu"))
    return (
        f"{cpu.get('cpu_name', platform.processor())}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__.partition('+')[0]}, steps in {str(precision).removeprefix('torch.')}"
    )


if __name__ == "__main__":
    sys.exit(main())
