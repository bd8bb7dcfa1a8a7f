"""Training of one network, and its entanglement before training and after each epoch."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from answers_by_image import packed
from image_sets import image_sets
from section import JSON, Places, Unit
from sections.overtime.design import TAPS

from trainables.config.trial import TrialConfig
from trainables.data import Split, cache, load_test
from trainables.evaluation.core.entanglement import entanglement
from trainables.evaluation.core.prediction import logits
from trainables.models import TappedClassifier
from trainables.tasks.classifier import run


def measure(unit: Unit, places: Places) -> Mapping[str, JSON]:
    """Train one network; measure its state before the first epoch and after each one, and its answers in the end."""
    settings = unit.settings
    point = {**settings["point"], **_folders(settings, places), "seed": settings["seed"]}
    loop = run.start(TrialConfig.from_point(point))
    model = loop.run.evaluated_model
    states, reports = [_state(model)], []
    while not loop.finished:
        reports.append(loop.run_epoch().metrics)
        states.append(_state(model))
    test = load_test(loop.run.config.data).to(loop.run.placement.device)
    sets = image_sets(test, count=settings["sets"], size=settings["images"])
    by_set = [list(_courses(model, [states[0], states[-1]], images)) for images in sets[1:]]
    course = list(_courses(model, states, sets[0]))
    right_N = logits(model, test).argmax(1) == test.labels_N
    return {
        "val_accuracy": [report["val/accuracy"] for report in reports],
        "train_ce": [report["train/ce"] for report in reports],
        "course": {tap: [epoch[tap] for epoch in course] for tap in TAPS},
        "first": {tap: [ends[0][tap] for ends in [course, *by_set]] for tap in TAPS},
        "last": {tap: [ends[-1][tap] for ends in [course, *by_set]] for tap in TAPS},
        "test_accuracy": int(right_N.sum()) / len(test),
        "right by image": packed(right_N),
    }


def _folders(settings: Mapping[str, Any], places: Places) -> dict[str, str]:
    """Return the place of the images: the folder, or links to an excerpt of it."""
    if settings["point"]["data.name"] == "digits":
        return {}
    if places.data_root is None:
        raise ValueError("--data-root: must name a folder with cifar10/train and cifar10/test, got none")
    root = places.data_root / "cifar10"
    if settings["excerpt"] is not None:
        with cache.locked(places.kept / "excerpt"):  # of the other half of a run
            root = excerpt(root, places.kept, *settings["excerpt"])
    return {"data.root": str(root), "data.cache": str(places.kept / "prepared")}


def excerpt(root: Path, kept: Path, train: int, test: int) -> Path:
    """Link the first images of each class, by name, into folders of the same layout; return their root."""
    linked = kept / f"cifar10-{train}-{test}"
    for part, count in (("train", train), ("test", test)):
        for source in sorted(path for path in (root / part).iterdir() if path.is_dir()):
            folder = linked / part / source.name
            folder.mkdir(parents=True, exist_ok=True)
            for image in sorted(source.iterdir())[:count]:
                link = folder / image.name
                if not link.is_symlink():
                    link.symlink_to(image.resolve())
    return linked


def _state(model: TappedClassifier) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _courses(
    model: TappedClassifier, states: Sequence[Mapping[str, torch.Tensor]], images: Split
) -> Iterator[dict[str, float]]:
    """Yield the entanglement of each layer in each state, as shares of chance; the model ends in the last state."""
    for state in states:
        model.load_state_dict(state)
        minima = entanglement(model, images, taps=TAPS)
        yield {tap: minimum.value / minimum.chance for tap, minimum in minima.items()}
