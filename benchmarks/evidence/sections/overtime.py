"""Entanglement of each residual block over training, on CIFAR-10, with and without the soft nearest neighbour loss.

The states of all epochs are kept until the last one, and then measured on test images, by which nothing is chosen.
Values are shares of the chance level, which depends on the number of images. Shapes: N images.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from curves import DEPTHS, Axis, Line, Panel, chart, ticks
from predicted import Expected, Question, by_seed, by_seed_and_images, claims, mean_and_half, table, written
from section import JSON, Claim, Places, Row, Section, Size, Unit, described

from orchestrator.analysis.claims.conclusions import Prediction
from orchestrator.analysis.claims.intervals import image_difference_interval
from trainables.config.trial import TrialConfig
from trainables.data import Split, load_test
from trainables.evaluation.core.clean import accuracy
from trainables.evaluation.core.entanglement import entanglement
from trainables.evaluation.core.prediction import logits
from trainables.models import TappedClassifier
from trainables.tasks.classifier import run

PAPER = "Frosst et al. 2019"
WHERE = "entanglement of a ResNet's layers over training"
BLOCKS = tuple(f"block{number}" for number in range(1, 9))
TAPS = (*BLOCKS, "penultimate")
LOWER = BLOCKS[:4]
"""Blocks of the first two of four stages."""
REGULARISED = ("block2", "block4", "block6")
"""Blocks that the group `hidden` reads: the last ones of all stages but the last."""
MARGIN = 0.05
"""Share of chance that a layer may lose and still count as one that keeps its entanglement."""

WEIGHT = 1.0
"""Chosen on validation images of a seed of its own, by the manipulation check alone."""
_ENTANGLE = {"snnl.weight": -WEIGHT, "snnl.layers": "hidden"}
_SEPARATE = {"snnl.weight": WEIGHT, "snnl.layers": "hidden"}
_MEANS = {"snnl.penalty": "class_mean"}
RECIPES: Mapping[str, Mapping[str, JSON]] = {
    "baseline": {},
    "entangle": _ENTANGLE,
    "means apart (control)": {**_ENTANGLE, **_MEANS},
    "separate": _SEPARATE,
    "means together (control)": {**_SEPARATE, **_MEANS},
}
CONTROLS = {"entangle": "means apart (control)", "separate": "means together (control)"}
COMMON: Mapping[str, JSON] = {
    "model.name": "preact_resnet18",
    "optimizer.schedule": "one_cycle",
    "evaluation.robust_epsilon": 0.0,
}
CIFAR10: Mapping[str, JSON] = {"data.name": "image_folder", "data.flip": True, "data.crop_padding": 4}
# `excerpt` are the images of each class of the published training and test folders, or null for all of them; `sets`
# disjoint sets of `images` test images are measured.
SIZES: Mapping[Size, Mapping[str, Any]] = {
    "smoke": {
        "point": {"data.name": "digits", "data.fraction": 0.1, "model.width": 0.05, "epochs": 1, "device": "cpu"},
        "excerpt": None,
        "sets": 2,
        "images": 50,
        "seeds": range(2),
    },
    "whole": {
        "point": {**CIFAR10, "model.width": 0.125, "epochs": 20, "batch_size": 64, "device": "cpu"},
        "excerpt": (600, 200),
        "sets": 4,
        "images": 500,
        "seeds": range(3),
    },
    "full": {
        "point": {**CIFAR10, "model.width": 1.0, "epochs": 60, "batch_size": 128, "device": "auto"},
        "excerpt": None,
        "sets": 4,
        "images": 1000,
        "seeds": range(5),
    },
}


def units(size: Size) -> list[Unit]:
    """Return one unit for each seed and recipe: seeds first, so that an interrupted run has whole pairs."""
    settings = SIZES[size]
    return [
        Unit(
            f"{recipe} seed {seed}",
            {
                "recipe": recipe,
                "seed": seed,
                "point": {**COMMON, **settings["point"], **changes},
                "excerpt": None if settings["excerpt"] is None else list(settings["excerpt"]),
                "sets": settings["sets"],
                "images": settings["images"],
            },
        )
        for seed in settings["seeds"]
        for recipe, changes in RECIPES.items()
    ]


def measure(unit: Unit, places: Places) -> Mapping[str, JSON]:
    """Train one network; measure its state before the first epoch and after each one."""
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
    logits_NK = logits(model, test)
    return {
        "val_accuracy": [report["val/accuracy"] for report in reports],
        "train_ce": [report["train/ce"] for report in reports],
        "course": {tap: [epoch[tap] for epoch in course] for tap in TAPS},
        "first": {tap: [ends[0][tap] for ends in [course, *by_set]] for tap in TAPS},
        "last": {tap: [ends[-1][tap] for ends in [course, *by_set]] for tap in TAPS},
        "test_accuracy": accuracy(logits_NK, test.labels_N),
        "test_images": len(test),
    }


def image_sets(test: Split, *, count: int, size: int) -> list[Split]:
    """Return disjoint sets of images, in each of them equally many of every class, in the order of the split."""
    labels = test.labels_N.unique()
    each = size // len(labels)
    places = [(test.labels_N == label).nonzero().flatten() for label in labels]
    return [
        test.take(torch.cat([own[number * each : (number + 1) * each] for own in places])) for number in range(count)
    ]


def write(rows: Sequence[Row]) -> Mapping[str, str]:
    """Return the figure, the tables by layer and by epoch, and the conclusions."""
    recipes = list(dict.fromkeys(row.settings["recipe"] for row in rows))
    words = "Entanglement of each residual block by epoch, mean of the seeds, one panel for each treatment"
    epochs = len(rows[0].metrics["val_accuracy"])
    figure = chart(
        [Panel(recipe, _lines(_of(rows, recipe))) for recipe in recipes],
        words=words,
        x=Axis("epoch", 0, epochs, ticks(epochs, max(1, epochs // 4))),
        y=Axis("entanglement, share of chance", 0, 1, ticks(1.0, 0.25)),
    )
    seeds = len({row.settings["seed"] for row in rows})
    note = (
        f"{described(rows)}. {seeds} seeds; after ± is the half width of the interval at 95 % over seeds. Test images: "
        f"{rows[0].metrics['test_images']:,}; entanglement of {rows[0].settings['sets']} sets of "
        f"{rows[0].settings['images']}."
    )
    return {
        "overtime-layers": "\n\n".join([note, f"![{words}](overtime.svg)", _by_layer(rows, recipes)]),
        "overtime-epochs": "\n\n".join(f"#### {recipe}\n\n{_by_epoch(_of(rows, recipe))}" for recipe in recipes),
        "overtime-conclusions": "\n\n".join(written(question, rows) for question in QUESTIONS),
        "overtime.svg": figure,
    }


def _by_layer(rows: Sequence[Row], recipes: Sequence[str]) -> str:
    lines = [
        [f"{tap}, {moment}", *(_entanglement(_of(rows, recipe), tap, key) for recipe in recipes)]
        for tap in TAPS
        for key, moment in (("first", "before"), ("last", "after"))
    ]
    tested = (mean_and_half([row.metrics["test_accuracy"] for row in _of(rows, recipe)]) for recipe in recipes)
    return table(["share of chance", *recipes], [*lines, ["test accuracy", *tested]])


def _entanglement(rows: Sequence[Row], tap: str, moment: str) -> str:
    return mean_and_half([statistics.mean(row.metrics[moment][tap]) for row in rows])


def _by_epoch(rows: Sequence[Row]) -> str:
    means = {tap: [statistics.mean(own) for own in _columns(rows, tap)] for tap in TAPS}
    accuracies = ["-", *(f"{statistics.mean(own):.3f}" for own in zip(*(_accuracies(rows)), strict=True))]
    lines = [
        [str(epoch), *(f"{means[tap][epoch]:.3f}" for tap in TAPS), accuracies[epoch]]
        for epoch in range(len(accuracies))
    ]
    return table(["epoch", *TAPS, "validation accuracy"], lines)


def _lines(rows: Sequence[Row]) -> list[Line]:
    return [
        Line(tap, [(epoch, statistics.mean(own)) for epoch, own in enumerate(_columns(rows, tap))], colour)
        for tap, colour in zip(TAPS, (*DEPTHS[:8], DEPTHS[9]), strict=True)
    ]


def _columns(rows: Sequence[Row], tap: str) -> Iterator[Sequence[float]]:
    """Yield the values of all seeds after each epoch."""
    return zip(*(row.metrics["course"][tap] for row in rows), strict=True)


def _accuracies(rows: Sequence[Row]) -> list[Sequence[float]]:
    return [row.metrics["val_accuracy"] for row in rows]


def _of(rows: Sequence[Row], recipe: str) -> list[Row]:
    return [row for row in rows if row.settings["recipe"] == recipe]


Values = Callable[[Row], Sequence[float]]
"""Value on each set of images."""


def _after(tap: str) -> Values:
    return lambda row: row.metrics["last"][tap]


def _before(tap: str, *, less: float = 0.0) -> Values:
    return lambda row: [value - less for value in row.metrics["first"][tap]]


def _fall(*taps: str) -> Values:
    """Return the mean change of some layers over training."""

    def of(row: Row) -> list[float]:
        changes = [
            [last - first for first, last in zip(row.metrics["first"][tap], row.metrics["last"][tap], strict=True)]
            for tap in taps
        ]
        return [statistics.mean(own) for own in zip(*changes, strict=True)]

    return of


def _within(recipe: str, own: Values, control: Values, direction: Any) -> Callable[[Sequence[Row]], Prediction]:
    """Compare two values of the same networks."""

    def of(rows: Sequence[Row]) -> Prediction:
        chosen = _of(rows, recipe)
        return by_seed_and_images([own(row) for row in chosen], [control(row) for row in chosen], direction)

    return of


def _between(recipe: str, control: str, value: Values, direction: Any) -> Callable[[Sequence[Row]], Prediction]:
    """Compare the same value of two recipes, paired by seed."""

    def of(rows: Sequence[Row]) -> Prediction:
        own, other = ([value(row) for row in _of(rows, name)] for name in (recipe, control))
        return by_seed_and_images(own, other, direction)

    return of


def _more_accurate(recipe: str, direction: Any) -> Callable[[Sequence[Row]], Prediction]:
    def of(rows: Sequence[Row]) -> Prediction:
        own, other = ([row.metrics["test_accuracy"] for row in _of(rows, name)] for name in (recipe, "baseline"))
        shares = statistics.mean(own), statistics.mean(other)
        images = image_difference_interval(*shares, rows[0].metrics["test_images"])
        return Prediction(by_seed(own, other, direction).difference, direction, images=images)

    return of


def _learned(rows: Sequence[Row]) -> Prediction:
    own = [row.metrics["test_accuracy"] for row in _of(rows, "baseline")]
    return by_seed(own, [0.1] * len(own), "higher")


SHARE = "of chance"


def _of_treatment(title: str, recipe: str, direction: Any, predictions: tuple[Expected, ...]) -> Question:
    """Return a question whose checks are the regularised blocks against the baseline and against the control."""
    checks = tuple(
        Expected(f"{tap} against {other}", _between(recipe, other, _after(tap), direction))
        for tap in REGULARISED
        for other in ("baseline", CONTROLS[recipe])
    )
    return Question(title, PAPER, checks, predictions)


QUESTIONS = (
    Question(
        "Training without the loss (baseline)",
        PAPER,
        (Expected("the networks learned: test accuracy above 0.1", _learned),),
        (
            Expected(
                "training lowers the entanglement of the last hidden layer",
                _within("baseline", _after("penultimate"), _before("penultimate"), "lower"),
                SHARE,
                WHERE,
            ),
            Expected(
                "it falls more in the last hidden layer than in the lower half of the blocks",
                _within("baseline", _fall("penultimate"), _fall(*LOWER), "lower"),
                SHARE,
                WHERE,
            ),
            *(
                Expected(
                    f"it does not fall in {tap}: change + {MARGIN} of chance is above 0",
                    _within("baseline", _after(tap), _before(tap, less=MARGIN), "higher"),
                    SHARE,
                    WHERE,
                )
                for tap in LOWER
            ),
        ),
    ),
    _of_treatment(
        f"Entangling the hidden blocks, weight {-WEIGHT:g}",
        "entangle",
        "higher",
        (
            Expected("entangled ResNets: test accuracy is higher", _more_accurate("entangle", "higher"), "", "table 1"),
            Expected(
                "entangled ResNets: the last hidden layer is less entangled than the baseline's",
                _between("entangle", "baseline", _after("penultimate"), "lower"),
                SHARE,
                "abstract",
            ),
            Expected(
                "entangled ResNets: training still lowers the entanglement of the last hidden layer",
                _within("entangle", _after("penultimate"), _before("penultimate"), "lower"),
                SHARE,
                WHERE,
            ),
        ),
    ),
    _of_treatment(
        f"The reverse: separating them, weight {WEIGHT:g}",
        "separate",
        "lower",
        (
            Expected("separated ResNets: test accuracy is lower", _more_accurate("separate", "lower"), "", "table 1"),
            Expected(
                "separated ResNets: the last hidden layer is more entangled than the baseline's",
                _between("separate", "baseline", _after("penultimate"), "higher"),
                SHARE,
                "abstract",
            ),
        ),
    ),
)


def _folders(settings: Mapping[str, Any], places: Places) -> dict[str, str]:
    """Return the place of the images: the folder, or links to an excerpt of it."""
    if settings["point"]["data.name"] == "digits":
        return {}
    if places.data_root is None:
        raise ValueError("--data-root: must name a folder with cifar10/train and cifar10/test, got none")
    root = places.data_root / "cifar10"
    if settings["excerpt"] is not None:
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


def _claims(rows: Sequence[Row]) -> list[Claim]:
    return claims(QUESTIONS, rows)


SECTION = Section("overtime", "Entanglement of each residual block over training", units, measure, write, _claims)
