"""Transfer of minimal perturbations between networks and between halves of the training set, and what bounds them.

After Szegedy et al. (2014), tables 1 to 5, with networks of the same layers on MNIST. Each unit trains what is not
kept, then measures one seed: `networks` (tables 1 and 2, all trained on the same images), `halves` (tables 3 and 4) and
`stability` (section 4.3 and table 5: norms of layers, and the slope between an image and its perturbed one). The images
are class-balanced test images, the same for all seeds.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from fully_connected import config_of, trained
from section import JSON, Places, Section, Size, Unit
from sections.transfer.networks import halves, networks, stability_networks
from sections.transfer.questions import QUESTIONS
from sections.transfer.slopes import stability
from sections.transfer.tables import write
from torch import nn

from trainables.data import Split, load_test
from trainables.evaluation.core.prediction import balanced_subset, logits
from trainables.evaluation.robustness.transfer import transfer
from trainables.evaluation.robustness.transfer_result import Rate

RMS: Final = 0.1
"""Size to which perturbations are amplified, as in the paper: root mean square over pixels."""
SEEDS: Final[Mapping[Size, Sequence[int]]] = {"smoke": (0, 1), "whole": range(1, 6), "full": range(1, 11)}
"""Seed 0 was looked at while the networks were chosen."""
IMAGES: Final[Mapping[Size, int]] = {"smoke": 10, "whole": 100, "full": 1000}
STABILITY_IMAGES: Final[Mapping[Size, int]] = {"smoke": 4, "whole": 30, "full": 200}


def units(size: Size) -> list[Unit]:
    """Return three units for each seed."""
    small = size == "smoke"
    common = {
        "data": "digits" if small else "mnist",
        "batch": 20 if small else 100,
        "softmax_epochs": 10 if small else 8,
        "deep": [100] if small else [100, 200],
        "deep_settings": {"optimizer.lr": 0.01} if small else {},
        "deep_epochs": 15,
        "halves_epochs": 20,
        "convolutional_epochs": 3 if small else 2,
        "images": IMAGES[size],
        "stability_images": STABILITY_IMAGES[size],
    }
    return [
        Unit(f"{kind} seed {seed}", {"kind": kind, "seed": seed, **common})
        for seed in SEEDS[size]
        for kind in ("networks", "halves", "stability")
    ]


def measure(unit: Unit, places: Places) -> Mapping[str, JSON]:
    """Train the networks of a unit that are not kept, and measure them."""
    settings = unit.settings
    points = {"networks": networks, "halves": halves, "stability": stability_networks}[str(settings["kind"])](settings)
    models = {
        name: trained(point, data_root=places.data_root, kept=places.kept).eval() for name, point in points.items()
    }
    test = load_test(config_of(next(iter(points.values())), data_root=places.data_root).data)
    if settings["kind"] == "stability":
        images = balanced_subset(test, size=settings["stability_images"])
        return {name: stability(model, images, seed=settings["seed"]) for name, model in models.items()}
    return {
        "test_error": {
            name: float((logits(model, test).argmax(1) != test.labels_N).double().mean())
            for name, model in models.items()
        },
        **transferred(models, balanced_subset(test, size=settings["images"])),
    }


def transferred(models: Mapping[str, nn.Module], images: Split) -> dict[str, JSON]:
    """Return errors as [wrong, images] by condition, source and target, and sizes; all seeds have the same targets."""
    result = transfer(models, images, attack="lbfgs", seed=0, common_rms=RMS)
    return {
        "clean": {name: [rate.wrong, rate.images] for name, rate in result.clean.items()},
        "errors": {" ".join(condition): _counts(matrix) for condition, matrix in result.errors.items()},
        "rms": {f"{kind} {size}": dict(own) for (kind, size), own in result.sizes.items()},
        "limits": [*result.limits, *result.refusals],
    }


def _counts(matrix: Mapping[str, Mapping[str, Rate]]) -> dict[str, JSON]:
    return {
        source: {target: [rate.wrong, rate.images] for target, rate in row.items()} for source, row in matrix.items()
    }


TITLE: Final = "Transfer of minimal perturbations, and operator norms"
SECTION = Section("transfer", TITLE, units, measure, write, lambda _: QUESTIONS)
