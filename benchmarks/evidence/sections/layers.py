"""Adversarial examples of single layers in training.

Szegedy et al. (2014), section 4.2, train the network FC100-100-10 on adversarial examples of each layer's output, and
find those of the higher layers more useful than those of the input. Their examples are made by L-BFGS and kept in
pools, ours by one step of the gradient in each training step (`hidden_adversarial`), of a length relative to the
activations'. The control has random directions of the same length at the same layer. Layer 0 is the image, 1 and 2 are
the layers of sigmoid units.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import published_claims as published
import torch
from cells import spread, table
from fully_connected import config_of, point_of, trained
from questions import Expected, Published, Question, Rows, paired, rows_of
from section import JSON, Places, Row, Section, Size, Unit

from orchestrator.analysis.claims.conclusions import Prediction
from trainables.data import Split, load_splits, load_test
from trainables.evaluation.core.prediction import batches, logits
from trainables.mixup import Shift
from trainables.models import TappedClassifier
from trainables.regularizers.terms.hidden_adversarial import ascent, resized

BASELINE: Final = "baseline"
TAPS: Final = {"layer 0": "0", "layer 1": "2", "layer 2": "4"}
"""Modules whose outputs are the image as a row, and the two layers of sigmoid units."""
SIZES: Final = (0.1, 0.3)
"""Lengths of the change, relative to the activations."""
SEEDS: Final[Mapping[Size, Sequence[int]]] = {"smoke": (0, 1), "whole": range(5), "full": range(10)}


def treatments() -> dict[str, dict[str, Any]]:
    """Return the settings of the regularizer by the name of the treatment; the baseline has none."""
    found: dict[str, dict[str, Any]] = {BASELINE: {}}
    for size in SIZES:
        for layer, tap in TAPS.items():
            for direction in ("ascent", "random"):
                found[name_of(layer, size, direction)] = {"layers": tap, "epsilon": size, "direction": direction}
    return found


def name_of(layer: str, size: float, direction: str = "ascent") -> str:
    """Return the name of a treatment.

    >>> name_of("layer 1", 0.3), name_of("layer 1", 0.3, "random")
    ('layer 1 by 0.3', 'layer 1 by 0.3, random')
    """
    return f"{layer} by {size:g}" + (", random" if direction == "random" else "")


def units(size: Size) -> list[Unit]:
    """Return a unit for each treatment and seed."""
    small = size == "smoke"
    common = {"data": "digits" if small else "mnist", "batch": 60 if small else 100, "epochs": 2 if small else 10}
    common |= {"settings": {"optimizer.lr": 0.01} if small else {}}
    return [
        Unit(f"{name} seed {seed}", {"treatment": name, "regularizer": own, "seed": seed, **common})
        for seed in SEEDS[size]
        for name, own in treatments().items()
    ]


def measure(unit: Unit, places: Places) -> Mapping[str, JSON]:
    """Train a network, and measure its errors on test images, and on validation images with each layer changed."""
    settings = unit.settings
    own = {"data.name": settings["data"], "batch_size": settings["batch"], "seed": settings["seed"]}
    point = point_of((100, 100), decay=2e-7, epochs=settings["epochs"], settings=own | settings["settings"])
    if settings["regularizer"]:
        adversary = {"use": "hidden_adversarial", "passes": 2, "weight": 1.0, **settings["regularizer"]}
        point |= {f"regularizers.adversary.{name}": value for name, value in adversary.items()}
    model = trained(point, data_root=places.data_root, kept=places.kept).eval()
    data = config_of(point, data_root=places.data_root).data
    val, test = load_splits(data).val, load_test(data)
    right_N = logits(model, test).argmax(1) == test.labels_N
    changed = {name_of(layer, size): error_of(model, val, tap, size) for size in SIZES for layer, tap in TAPS.items()}
    return {"error": float((~right_N).double().mean()), "images": len(test), "changed": changed}


def error_of(model: TappedClassifier, split: Split, tap: str, epsilon: float) -> float:
    """Return the error where one layer is changed by a step along the gradient, this much of its own length."""
    wrong = 0
    for x, y in batches(split):
        with torch.no_grad():
            h = model.features(x, taps=(tap,)).taps[tap]
        towards = ascent(lambda images, shift: model.features(images, mix=shift), x, y, h, boundary=tap)
        with torch.no_grad():
            moved = model.features(x, mix=Shift(tap, resized(towards, h, epsilon=epsilon)))
        wrong += int((moved.logits.argmax(1) != y).sum())
    return wrong / len(split)


CLAIMED_SIZE: Final = 0.3
"""Length of the claims, chosen before anything was measured; the conclusions on the other are on the page."""


def questions() -> Iterator[Question]:
    """Yield the predictions, which were written before any of this was measured."""
    for size in SIZES:
        for layer in TAPS:
            own, random = name_of(layer, size), name_of(layer, size, "random")
            checks = (
                _withstands("it errs less than the baseline where the layer is changed", own, BASELINE),
                _withstands("and less than the control", own, random),
            )
            beyond_random = _errs_less("and than that of random directions", own, random)
            helps = _errs_less("the test error is lower than the baseline's", own, BASELINE)
            predictions = [replace(helps, beyond={random: beyond_random.of}), beyond_random]
            if layer != "layer 0":
                predictions.append(_errs_less("and than that of changes of the image", own, name_of("layer 0", size)))
            if size == CLAIMED_SIZE:
                claims = (published.LAYERS_HELP, None, published.HIGHER_HELPS)
                predictions = [_of(claim, layer, each) for claim, each in zip(claims, predictions, strict=False)]
            yield Question(f"Training on changes of {layer} by {size:g}", checks, predictions)


def _of(claim: Published | None, layer: str, expected: Expected) -> Expected:
    return replace(expected, claim=claim, about=layer)


def _withstands(words: str, name: str, control: str) -> Expected:
    return Expected(words, _less(lambda row: row.metrics["changed"][name], name, control))


def _errs_less(words: str, name: str, control: str) -> Expected:
    images = {"num_images": lambda rows: rows[0].metrics["images"]}
    return Expected(words, _less(lambda row: row.metrics["error"], name, control, **images))


def _less(value: Callable[[Row], float], name: str, control: str, **images: Any) -> Callable[[Rows], Prediction]:
    return paired(value, "lower", {"treatment": name}, {"treatment": control}, **images)


def write(rows: Sequence[Row]) -> Mapping[str, str]:
    """Return the tables by their markers."""
    changes = [name_of(layer, size) for size in SIZES for layer in TAPS]
    lines = []
    for name in treatments():
        own = rows_of(rows, {"treatment": name})
        changed = [spread([100 * row.metrics["changed"][change] for row in own]) for change in changes]
        errors = [100 * row.metrics["error"] for row in own]
        by_seed = ", ".join(f"{error:.2f}" for error in errors)
        lines.append([name, spread(errors), by_seed, *changed])
    head = ["trained on changes of", "test error, %", "by seed", *(f"error, {change}, %" for change in changes)]
    return {"layers": table(head, lines)}


TITLE: Final = "Adversarial examples of single layers in training"
SECTION = Section("layers", TITLE, units, measure, write, lambda _: tuple(questions()))
