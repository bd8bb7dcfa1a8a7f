"""Units of a network against random directions in their space, by the images that they rank first.

After Szegedy et al. (2014), section 3: the images that maximise a unit look alike, and those that maximise a random
direction look as much alike. Here likeness is the purity of the first 8, the share of their most frequent class, on
test images that neither training nor selection saw. A network before training is the control: what is alike there, is
alike in pixels. The seed is that of the weights; images and directions differ by it, too.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any, Final

import published_claims as published
import torch
from cells import spread, table
from contact_sheet import drawn, sheet
from fully_connected import config_of, trained
from questions import Expected, Question, by_seed, paired, rows_of
from section import JSON, Places, Row, Section, Size, Unit

from orchestrator.analysis.claims.conclusions import Prediction
from orchestrator.analysis.claims.intervals import Interval, quantile
from trainables.data import Split, load_splits, load_test
from trainables.evaluation.core.prediction import balanced_subset, logits
from trainables.evaluation.representation.layers import LayerUnits, read_layers
from trainables.evaluation.representation.top_images import top_images
from trainables.evaluation.representation.units import CONTROLS, UnitComparison, unit_purity
from trainables.models import build
from trainables.models.tapped import PENULTIMATE
from trainables.seeding import generator

MARGIN: Final = 0.05
"""Largest difference of purities that counts as none: less than half an image of eight."""
TOP: Final = 8
FOLDS: Final = 10
SEEDS: Final[Mapping[Size, Sequence[int]]] = {"smoke": (0, 1), "whole": range(5), "full": range(10)}
DATA: Final[Mapping[Size, Sequence[str]]] = {
    "smoke": ("digits",),
    "whole": ("mnist", "fashion_mnist"),
    "full": ("mnist", "fashion_mnist"),
}


def units(size: Size) -> list[Unit]:
    """Return a unit for each data set and seed; the smoke size has digits alone."""
    small = size == "smoke"
    common = {
        "epochs": 3,
        "images": 400 if small else 5000,
        "directions": 100 if small else 1000,
        "draws": 99 if small else 10_000,
        "width": 0.25 if small else 0.5,
    }
    return [
        Unit(f"{data} seed {seed}", {"data": data, "seed": seed, **common})
        for seed in SEEDS[size]
        for data in DATA[size]
    ]


def point_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the point of the network of a unit."""
    return {
        "data.name": settings["data"],
        "model.name": "cnn",
        "model.width": settings["width"],
        "optimizer.lr": 0.05,
        "evaluation.robust_epsilon": 0.0,
        "epochs": settings["epochs"],
        "seed": settings["seed"],
        "device": "cpu",
        "precision": "float32",
    }


def measure(unit: Unit, places: Places) -> Mapping[str, JSON]:
    """Train a network, and compare its units, and those that it had before training, with random directions."""
    settings, point = unit.settings, point_of(unit.settings)
    config = config_of(point, data_root=places.data_root)
    test = load_test(config.data)
    images = balanced_subset(test, size=settings["images"])
    after = trained(point, data_root=places.data_root, kept=places.kept).eval()
    statistics = load_splits(config.data).train.pixel_statistics()
    shape = (int(images.images_NCHW.shape[1]), int(images.images_NCHW.shape[2]), int(images.images_NCHW.shape[3]))
    before = build(
        config.model,
        image_shape=shape,
        num_classes=int(test.labels_N.max()) + 1,
        seed=settings["seed"],
        mean=statistics[0],
        std=statistics[1],
    ).eval()
    accuracy = float((logits(after, test).argmax(1) == test.labels_N).double().mean())
    metrics: dict[str, JSON] = {"accuracy": accuracy}
    for state, model in (("trained", after), ("untrained", before)):
        layers = read_layers(model, images, seed=settings["seed"])
        metrics[state] = compared(layers, images, settings)
        if state == "trained":
            metrics["folds"] = by_folds(layers[-1], images, settings)
            if settings["seed"] == 0:
                metrics["sheet"] = sheet(top_images(layers[-1], images, top=TOP, seed=settings["seed"]))
    return metrics


def compared(layers: Sequence[LayerUnits], images: Split, settings: Mapping[str, Any]) -> dict[str, JSON]:
    """Return purities by layer, features, number of images and control, with the permutation test of each."""
    result = unit_purity(
        layers, images.labels_N, directions=settings["directions"], draws=settings["draws"], seed=settings["seed"]
    )
    return {
        " ".join((row.tap, row.treatment, str(row.top), row.control)): _numbers(row)
        for row in result.comparisons
        if row.top == TOP or row.tap == PENULTIMATE
    }


def _numbers(row: UnitComparison) -> dict[str, JSON]:
    return {
        "units": float(row.units.purity_R.mean()),
        "others": float(row.others.purity_R.mean()),
        "chance": row.chance,
        "live": len(row.units.purity_R),
        "p": row.test.p,
        "delta": row.test.cliffs_delta,
        "above chance": [row.units.above_chance, row.others.above_chance],
    }


def by_folds(layer: LayerUnits, images: Split, settings: Mapping[str, Any]) -> dict[str, JSON]:
    """Return the difference of purities in disjoint sets of the images: what other images would give, of a tenth."""
    # In an order of their own: the images come by class in turn, of which every tenth are one class.
    fold_N = torch.randperm(len(images), generator=generator(0, "folds")) % FOLDS
    found: dict[str, list[float]] = {control: [] for control in CONTROLS}
    for fold in range(FOLDS):
        places = (fold_N == fold).nonzero()[:, 0]
        own = LayerUnits(layer.tap, layer.features_ND[places], layer.units_D, layer.shape, layer.sampled)
        live = own.features_ND.amax(0) > own.features_ND.amin(0)
        own = LayerUnits(layer.tap, own.features_ND[:, live], own.units_D[live], own.shape, own.sampled)
        result = unit_purity(
            [own], images.labels_N[places], directions=settings["directions"], draws=9, seed=settings["seed"]
        )
        for row in result.comparisons:
            if row.treatment == "raw" and row.top == TOP:
                found[row.control].append(row.test.difference)
    return dict(found)


def data_sets(rows: Sequence[Row]) -> list[str]:
    """Return the names of the data sets."""
    return list(dict.fromkeys(row.settings["data"] for row in rows))


def values(rows: Sequence[Row], key: str, what: str, *, state: str = "trained") -> list[float]:
    """Return a number of each seed."""
    return [row.metrics[state][key][what] for row in rows]


ALIKE: Final = {
    "raw random": "random directions are as pure",
    "raw rotated": "random orthonormal directions are as pure",
    "raw non-negative": "random directions without negative coordinates are as pure",
    "standardised random": "random directions of standardised units are as pure",
}


def questions(rows: Sequence[Row]) -> list[Question]:
    """Return the predictions on each data set, which were written before any of this was measured."""
    return [question(data) for data in data_sets(rows) or DATA["whole"]]


def question(data: str) -> Question:
    """Return the question to a data set."""
    random, name = f"{PENULTIMATE} raw {TOP} random", data.replace("_", "-")

    own = {"data": data}

    def purity(state: str, what: str) -> Callable[[Row], float]:
        return lambda row: row.metrics[state][random][what]

    learned = paired(purity("trained", "others"), "higher", own, control_value=purity("untrained", "others"))
    beyond_chance = paired(purity("trained", "units"), "higher", own, control_value=purity("trained", "chance"))

    def alike(control: str) -> Expected:
        claim = published.DIRECTIONS if control == "raw random" else None
        return Expected(ALIKE[control], lambda rows: _alike(rows_of(rows, own), control), claim, name)

    no_purer = Expected(
        f"units are no purer than random directions: their difference less {MARGIN:g} is below 0",
        lambda rows: _no_purer(rows_of(rows, own)),
        published.NOT_BETTER,
        name,
        caveat="asked after the measurement",
    )
    return Question(
        f"Units of the last hidden layer against other directions, {name}",
        (
            Expected("training made random directions purer", learned),
            Expected("units are purer than chance", beyond_chance),
        ),
        [*map(alike, ALIKE), no_purer],
    )


def _alike(rows: Sequence[Row], name: str) -> Prediction:
    features, control = name.split(" ")
    own, others = _purity_of(rows, name)
    images = _over_images(rows, control, mean(own) - mean(others)) if features == "raw" else None
    return by_seed(own, others, "equal", margin=MARGIN, images=images)


def _no_purer(rows: Sequence[Row]) -> Prediction:
    """Return the prediction that units are less than the margin purer, which random directions that are purer meet."""
    own, others = _purity_of(rows, "raw random")
    others = [value + MARGIN for value in others]
    return by_seed(own, others, "lower", images=_over_images(rows, "random", mean(own) - mean(others)))


def _purity_of(rows: Sequence[Row], name: str) -> tuple[list[float], list[float]]:
    """Return the purities of units and of other directions, by seed."""
    features, control = name.split(" ")
    key = f"{PENULTIMATE} {features} {TOP} {control}"
    return values(rows, key, "units"), values(rows, key, "others")


def _over_images(rows: Sequence[Row], control: str, difference: float) -> Interval:
    """Return the interval of a difference by its spread over disjoint sets of images, each with the mean over seeds.

    The first of a tenth of the images are others than the first of all: the sets say how far a difference moves, and
    not where it is. It is of eight images a direction in a set and in all of them, so the spread is that of one set.
    """
    by_fold = zip(*(row.metrics["folds"][control] for row in rows), strict=True)
    means = [mean(fold) for fold in by_fold]
    half = quantile(len(means) - 1) * stdev(means)
    return Interval(difference - half, difference + half)


def write(rows: Sequence[Row]) -> Mapping[str, str]:
    """Return the tables by their markers, and the contact sheets."""
    sheets = {row.settings["data"]: row.metrics["sheet"] for row in rows if "sheet" in row.metrics}
    pictures = "\n\n".join(
        f"![Images that units and random directions of {data.replace('_', '-')} rank first](units-{data}.svg)"
        for data in sheets
    )
    return {
        "units": "\n\n".join(_purities(data, rows_of(rows, {"data": data})) for data in data_sets(rows)),
        "units sheets": pictures,
        **{f"units-{data}.svg": drawn(own) for data, own in sheets.items()},
    }


def _purities(data: str, rows: Sequence[Row]) -> str:
    lines = []
    for key in rows[0].metrics["trained"]:
        tap, features, top, control = key.split(" ", 3)
        cells = [spread(values(rows, key, what)) for what in ("units", "others")]
        before = [spread(values(rows, key, what, state="untrained")) for what in ("units", "others")]
        found = sum(p <= 0.05 for p in values(rows, key, "p"))
        chance = f"{mean(values(rows, key, 'chance')):.3f}"
        delta = spread(values(rows, key, "delta"))
        live = sorted(values(rows, key, "live"))
        number = f"{live[0]:g}" if live[0] == live[-1] else f"{live[0]:g} to {live[-1]:g}"
        lines.append([tap, features, top, control, number, *cells, delta, f"{found} of {len(rows)}", *before, chance])
    head = ["layer", "features", "images", "directions", "live units", "purity of units", "of directions"]
    head += ["Cliff's delta"]
    head += ["p <= 0.05", "units, untrained", "directions, untrained", "chance"]
    accuracy = spread([row.metrics["accuracy"] for row in rows])
    return f"{data.replace('_', '-')}, test accuracy {accuracy}:\n\n{table(head, lines)}"


SECTION = Section("units", "Units against random directions, on images", units, measure, write, questions)
