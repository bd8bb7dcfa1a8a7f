"""What docs/results.md says about MNIST, measured again: the paper's small network under each method.

    make evidence DATA=FOLDER          FOLDER/MNIST/raw holds the four files; FOLDER may be as torchvision lays it out

Nothing was chosen on the test images: learning rates and epochs come from the validation split, and
each trained network is scored on the test images once, here.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from trainables.attacks import evaluating, pgd
from trainables.config import PLACE, TrialConfig
from trainables.data import Split, load_test
from trainables.evaluation.prediction import batches
from trainables.loop import EpochReport, train
from trainables.models import StagedClassifier
from trainables.precision import resolve_precision
from trainables.presets import PRESETS
from trainables.seeding import generator

EPSILON, STEP_SIZE, STEPS = 0.3, 0.01, 40
SEEDS = (0, 1, 2)
PROGRESS = ("train/loss", "train/pgd_accuracy", "val/accuracy", "time/images_per_s")
COMMON = {
    "data.name": "mnist",
    "model.name": "cnn",
    "optimizer.lr": 0.05,
    "evaluation.robust_epsilon": 0.0,
    "device": "cpu",
}
# Chosen on validation images: a share of clean images is what lets this network leave chance at so large an
# epsilon, and training against one step makes it robust to one step.
ROBUST = {
    "adversarial.epsilon": EPSILON,
    "adversarial.attack": "pgd",
    "adversarial.steps": 3,
    "adversarial.relative_step": 0.5,
    "adversarial.clean_fraction": 0.3,
    "batch_size": 50,
    "optimizer.name": "adamw",
    "optimizer.lr": 0.003,
    "optimizer.schedule": "one_cycle",
}


@dataclass(frozen=True)
class Recipe:
    """One row of the table: a method, its parameters, and the seeds it is trained with."""

    name: str
    point: Mapping[str, Any]
    seeds: Sequence[int]
    attacked: bool


@dataclass(frozen=True)
class Score:
    """One trained network on all the test images."""

    recipe: str
    trial: str
    machine: str
    seed: int
    epochs: int
    accuracy: float
    robust_accuracy: float | None
    train_s: float
    entanglement: Mapping[str, float]


def recipes(robust_epochs: int) -> Iterator[Recipe]:
    """The rows, in the order of the table."""
    yield Recipe("baseline", {"epochs": 5}, SEEDS, attacked=True)
    yield Recipe("entangle", {"epochs": 5, **PRESETS["entangle"]}, SEEDS, attacked=False)
    yield Recipe("disentangle", {"epochs": 5, **PRESETS["disentangle"]}, SEEDS, attacked=False)
    yield Recipe("adversarial", {"epochs": robust_epochs, **ROBUST}, SEEDS, attacked=True)


def score(recipe: Recipe, config: TrialConfig) -> Score:
    """Train one network and score it."""
    started = time.perf_counter()
    result = train(config, report=progress)
    train_s = time.perf_counter() - started
    test = load_test(config.data)
    return Score(
        recipe=recipe.name,
        trial=identity(config),
        machine=machine(),
        seed=config.seed,
        epochs=config.epochs,
        accuracy=clean_accuracy(result.model, test),
        robust_accuracy=pgd_accuracy(result.model, test, seed=config.seed) if recipe.attacked else None,
        train_s=train_s,
        entanglement={
            name.partition("/")[2].removeprefix("entanglement_"): value
            for name, value in result.metrics.items()
            if name.startswith(("entanglement/", "val/entanglement_"))
        },
    )


def progress(report: EpochReport) -> None:
    """One line for each epoch."""
    measured = {name: f"{report.metrics[name]:.4f}" for name in PROGRESS if name in report.metrics}
    print(f"epoch {report.epoch}", *(f"{name} {value}" for name, value in measured.items()), flush=True)


def trial(recipe: Recipe, seed: int, *, root: str) -> TrialConfig:
    """One network's whole description."""
    return TrialConfig.from_point({**COMMON, "data.root": root, **recipe.point, "seed": seed})


def identity(config: TrialConfig) -> str:
    """What a kept score must agree with to be that of this trial."""
    return json.dumps({name: value for name, value in config.to_point().items() if name not in PLACE})


@torch.no_grad()
def clean_accuracy(model: StagedClassifier, test: Split) -> float:
    """Fraction of the test images classified rightly."""
    with evaluating(model):
        return sum(int((model(x).argmax(1) == y).sum()) for x, y in batches(test)) / len(test)


def pgd_accuracy(model: StagedClassifier, test: Split, *, seed: int) -> float:
    """Fraction classified rightly after PGD-40 from one random start; one that was wrong before does not count."""
    noise, right = generator(seed, "evidence"), 0
    for x, y in batches(test, size=500):
        attacked = pgd(
            model, x, y, epsilon=EPSILON, steps=STEPS, step_size=STEP_SIZE, random_start=True, generator=noise
        )
        with evaluating(model), torch.no_grad():
            right += int(((model(x).argmax(1) == y) & (model(attacked).argmax(1) == y)).sum())
    return right / len(test)


def read(line: str) -> Score:
    """A score that was kept."""
    return Score(**json.loads(line))


def machine() -> str:
    """What it ran on."""
    cpu = torch.cpu.get_capabilities()
    precision = resolve_precision("auto", torch.device("cpu"))
    return (
        f"{cpu.get('cpu_name', platform.processor())}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__.partition('+')[0]}, steps in {str(precision).removeprefix('torch.')}"
    )


def table(scores: Sequence[Score]) -> str:
    """The scores by recipe, as Markdown."""
    lines = [
        "| method | epochs | seeds | test accuracy, each seed | mean | under PGD-40, each seed | training, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(score.recipe for score in scores):
        rows = [score for score in scores if score.recipe == name]
        robust = [row.robust_accuracy for row in rows if row.robust_accuracy is not None]
        lines.append(
            f"| {name} | {rows[0].epochs} | {', '.join(str(row.seed) for row in rows)} "
            f"| {', '.join(f'{row.accuracy:.4f}' for row in rows)} "
            f"| {statistics.mean(row.accuracy for row in rows):.4f} "
            f"| {', '.join(f'{value:.4f}' for value in robust) or 'not measured'} "
            f"| {statistics.mean(row.train_s for row in rows):.0f} |"
        )
    return "\n".join(lines)


def entanglement_table(scores: Sequence[Score]) -> str:
    """Soft nearest neighbour loss of each tap at its minimising temperature, mean over seeds, as Markdown."""
    taps = list(scores[0].entanglement)
    lines = [
        "| method | " + " | ".join(taps) + " |",
        "|---" * (len(taps) + 1) + "|",
    ]
    for name in dict.fromkeys(score.recipe for score in scores):
        rows = [score.entanglement for score in scores if score.recipe == name]
        means = [statistics.mean(row[tap] for row in rows) for tap in taps]
        lines.append(f"| {name} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    return "\n".join(lines)


def write(scores: Sequence[Score], page: Path) -> None:
    """Put the tables between the page's markers, and leave its prose alone."""
    begin, end = "<!-- mnist: begin -->\n", "<!-- mnist: end -->"
    text = page.read_text()
    head, rest = text.split(begin)
    tail = rest.split(end)[1]
    body = f"{machine()}\n\n{table(scores)}\n\n{entanglement_table(scores)}\n"
    page.write_text(f"{head}{begin}\n{body}\n{end}{tail}")


def main() -> int:
    """Measure every recipe, keep each score as it comes, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--robust-epochs", type=int, default=12)
    parser.add_argument("--kept", type=Path, default=Path("results/evidence-mnist.jsonl"))
    arguments = parser.parse_args()
    arguments.kept.parent.mkdir(parents=True, exist_ok=True)
    lines = arguments.kept.read_text().splitlines() if arguments.kept.exists() else []
    kept = {(found.trial, found.machine): found for found in map(read, lines)}
    scores = []
    for recipe in recipes(arguments.robust_epochs):
        for seed in recipe.seeds:
            config = trial(recipe, seed, root=arguments.data_root)
            found = kept.get((identity(config), machine()))
            if found is None:
                found = score(recipe, config)
                with arguments.kept.open("a") as file:
                    file.write(json.dumps(asdict(found)) + "\n")
            scores.append(found)
            print(
                found.recipe,
                found.seed,
                f"accuracy {found.accuracy:.4f}",
                f"robust {found.robust_accuracy}",
                flush=True,
            )
    write(scores, arguments.page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
