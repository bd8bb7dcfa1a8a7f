"""Networks of the evidence on flattening, and their measures before and after training."""

import math
import statistics
from collections.abc import Mapping

from section import JSON, Places, Size, Unit
from sections.mixtures.measures import mixtures
from sections.mixtures.trials import NONE, trained, trial

from trainables.data import Split, load_test
from trainables.evaluation.core.clean import accuracy
from trainables.evaluation.core.prediction import logits
from trainables.evaluation.representation.flattening import Flattening, flattening
from trainables.models import TappedClassifier
from trainables.tasks.classifier import run

DATA = "mnist"
TAPS = ("fc1", "fc2", "penultimate", "logits")
MIXED_AT = "fc1"
"""Layer that is mixed, the first hidden one, of which the paper prints the singular values."""
BEFORE, AFTER = "before", "after"
METRICS = (
    "mean_norm",
    "rest_fraction",
    "top_share",
    "effective_rank",
    "participation_ratio",
    "centred_rest_fraction",
    "centred_top_share",
    "centred_effective_rank",
    "centred_participation_ratio",
    "together_rest_fraction",
    "together_effective_rank",
)
"""All but the first do not depend on the scale of the activations."""
DRAWN = 128
"""Singular values of the figure."""

INPUT, MANIFOLD = "input mixup, alpha 2", "manifold mixup at fc1, alpha 2"
DECAY, DROPOUT = "weight decay 1e-3", "dropout 0.5"
LENGTH_WEIGHTS = (1e-5, 3e-5, 1e-4)
"""In a pilot on validation images, the second one's activations were as long as those of manifold mixup."""


def length_penalty(weight: float) -> str:
    """Return the name of a method."""
    return f"activation L2 at fc1, weight {weight:g}"


METHODS: Mapping[str, Mapping[str, JSON]] = {
    NONE: {},
    INPUT: {"mixup.alpha": 2.0, "mixup.layers": "input"},
    MANIFOLD: {"mixup.alpha": 2.0, "mixup.layers": MIXED_AT},
    **{
        length_penalty(weight): {"snnl.penalty": "activation_l2", "snnl.weight": weight, "snnl.layers": MIXED_AT}
        for weight in LENGTH_WEIGHTS
    },
    DECAY: {"optimizer.weight_decay": 1e-3},
    DROPOUT: {"model.dropout": 0.5},
}
"""Weight decay and dropout are rows of the paper's comparison."""
WHOLE: Mapping[str, JSON] = {"data.name": "mnist", "epochs": 10}
SMOKE: Mapping[str, JSON] = {"data.name": "digits", "model.width": 0.2, "epochs": 2}


def units(size: Size) -> list[Unit]:
    """Return the units: all methods of a seed, then the next."""
    seeds, own = ((0, 1), SMOKE) if size == "smoke" else (range(5), WHOLE)
    common = {"model.name": "mlp", "device": "cpu", "evaluation.robust_epsilon": 0.0}
    images = 200 if size == "smoke" else 5000
    return [
        Unit(
            f"{DATA} {method}, seed {seed}",
            {
                "data": DATA,
                "method": method,
                "seed": seed,
                "point": {**common, **own, **point, "seed": seed},
                "images": images,
                "validation": images,
            },
        )
        for seed in seeds
        for method, point in METHODS.items()
    ]


def measure(unit: Unit, places: Places) -> Mapping[str, JSON]:
    """Measure a network as it is initialised, train it, and measure it again.

    The norm by which a control is matched is that of validation images; all else is of test images.
    """
    config, images = trial(unit.settings, places.data_root), unit.settings["images"]
    before = spectra(run.start(config).run.evaluated_model, load_test(config.data), images=images)
    network = trained(config, validation=unit.settings["validation"])
    after = spectra(network.model, network.test, images=images)
    validated = flattening(network.model, network.validation, images=images).metrics()
    return {
        **numbers(before, BEFORE),
        **numbers(after, AFTER),
        **mixtures(network.model, network.validation, num_classes=network.num_classes),
        "log_norm": math.log(validated[f"flattening/{MIXED_AT}_mean_norm"]),
        "test/accuracy": accuracy(logits(network.model, network.test), network.test.labels_N),
        "spectrum": mean_shares(after),
        "spectrum before": mean_shares(before),
    }


def spectra(model: TappedClassifier, test: Split, *, images: int) -> Flattening:
    """Measure the spectra of test images."""
    return flattening(model, test, images=images)


def numbers(found: Flattening, when: str) -> dict[str, float]:
    """Return metrics of each layer under the name of a time, with the rank of a class over that of images of all.

    Metrics of a layer that is dead for all images of a class are NaN.
    """
    own, kept = found.metrics(), {}
    for tap in TAPS:
        values = {metric: own.get(f"flattening/{tap}_{metric}", math.nan) for metric in METRICS}
        values["relative_rank"] = values["effective_rank"] / values["together_effective_rank"]
        kept |= {f"{when}/{tap}_{metric}": value for metric, value in values.items()}
    return kept


def mean_shares(found: Flattening) -> list[float]:
    """Return the largest normalised singular values of the layer that is mixed, means over the classes."""
    shares = [flat.uncentred.shares_R[:DRAWN] for flat in found.classes[MIXED_AT].values()]
    return [round(statistics.fmean(own), 6) for own in zip(*shares, strict=False)]
