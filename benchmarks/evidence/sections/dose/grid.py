"""Networks of the section: data sets, doses of the loss and of its controls, and how much is measured of each."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from section import Size, Unit

SNNL, CLASS_MEAN, ACTIVATION_L2 = "soft_nearest_neighbor", "class_mean", "activation_l2"
CONTROLS = (CLASS_MEAN, ACTIVATION_L2)
LAYERS = ("conv1", "conv2")
"""Layers with the loss: all hidden ones but the penultimate, as in the presets."""

TEMPERATURES: Mapping[str, Mapping[str, Any]] = {
    "minimised": {"snnl.temperature_mode": "minimised"},
    "learned": {"snnl.temperature_mode": "learned"},
    "fixed": {"snnl.temperature_mode": "absolute", "snnl.temperature": 100.0},
}
"""The form of the paper's equation 2; one that is kept and moved at each step; that of the released demonstration."""


@dataclass(frozen=True)
class DataSet:
    """Data set and network of a part of the section; numbers of images are class-balanced ones, at most."""

    name: str
    point: Mapping[str, Any]
    outliers: tuple[str, ...]
    """Sets of outliers; predictions are tested on the first."""
    epsilon: float
    val_images: int
    test_images: int
    scored_images: int
    """Test images for entanglement, neighbours and attacks; as many validation images for entanglement."""
    transfer_images: int


DIGITS = DataSet(
    "digits",
    {"data.name": "digits", "model.name": "cnn", "epochs": 20},
    outliers=("permuted", "rotated"),
    epsilon=0.1,
    val_images=1_000,
    test_images=1_000,
    scored_images=1_000,
    transfer_images=100,
)
MNIST = DataSet(
    "mnist",
    {"data.name": "mnist", "model.name": "cnn", "model.width": 0.5, "data.fraction": 0.1, "epochs": 5},
    outliers=("notmnist",),
    epsilon=0.1,
    val_images=2_000,
    test_images=5_000,
    scored_images=500,
    transfer_images=100,
)
SMOKE = DataSet(
    "digits",
    {"data.name": "digits", "model.name": "cnn", "model.width": 0.1, "epochs": 1},
    outliers=("permuted",),
    epsilon=0.1,
    val_images=100,
    test_images=100,
    scored_images=100,
    transfer_images=20,
)

TRAINING_IMAGES = {"digits": 1_078, "mnist": 50_000}
"""Images of the training split, by data set."""


def budget(data: str) -> str:
    """Return for how long, and on how many images, the networks of a data set are trained.

    >>> budget("mnist")
    '5 epochs of 5,000 images'
    """
    point = next(own.point for own in (DIGITS, MNIST) if own.name == data)
    images = round(point.get("data.fraction", 1.0) * TRAINING_IMAGES[data])
    return f"{point['epochs']} epochs of {images:,} images"


# What is measured counts among the settings, so that a change of it measures all again.
REVISION = 1
DIGIT_WEIGHTS = {
    "minimised": (-3.0, -1.0, -0.3, -0.1, -0.03, -0.01, 0.1, 0.3, 1.0, 3.0),
    "learned": (-3.0, -1.0, -0.3, -0.1, 0.1, 0.3, 1.0, 3.0),
    "fixed": (-3.0, -1.0, -0.3, -0.1, 0.1, 0.3, 1.0, 3.0),
}
"""By temperature; the mildest two lead from the first dose with an effect to that of the preset `entangle`."""
CONTROL_WEIGHTS = {
    CLASS_MEAN: (-1.0, -0.3, -0.1, -0.03, 0.03, 0.1, 0.3),
    ACTIVATION_L2: (-1e-4, 1e-5, 1e-4, 1e-3, 1e-2),
}
MNIST_DOSES = (
    *(("minimised", weight) for weight in (-1.0, -0.3, -0.1, -0.03, -0.01, 0.3, 1.0)),
    ("learned", -0.3),
    ("fixed", -0.1),
)
"""Few, as these networks take longer; chosen by entanglement and accuracy on validation images of one network each."""
MNIST_CONTROLS = {CLASS_MEAN: (-1.0, -0.3, -0.1, 0.1), ACTIVATION_L2: (1e-5, 1e-4, 1e-3)}


@dataclass(frozen=True)
class Recipe:
    """Treatment of the networks of a unit; `temperature` is '-' for a control and for the baseline."""

    data: str
    penalty: str
    temperature: str
    weight: float

    @property
    def name(self) -> str:
        """Name of the unit.

        >>> Recipe("digits", SNNL, "minimised", -0.1).name
        'digits soft_nearest_neighbor minimised -0.1'
        """
        words = (self.data, self.penalty, self.temperature, f"{self.weight:g}")
        return f"{self.data} baseline" if self.is_baseline else " ".join(word for word in words if word != "-")

    @property
    def is_baseline(self) -> bool:
        """True without any term."""
        return self.weight == 0

    def point(self, data: DataSet) -> dict[str, Any]:
        """Return the parameters of its trials."""
        term = {"snnl.penalty": self.penalty, "snnl.weight": self.weight, "snnl.layers": "+".join(LAYERS)}
        return {
            **data.point,
            "device": "cpu",
            "evaluation.robust_epsilon": 0.0,
            **({} if self.is_baseline else {**term, **TEMPERATURES.get(self.temperature, {})}),
        }


def units(size: Size) -> list[Unit]:
    """Return one unit for each treatment: its networks of all seeds, which attack each other."""
    seeds = [0, 1] if size == "smoke" else [0, 1, 2, 3, 4]
    grids = [(SMOKE, _smoke())] if size == "smoke" else [(DIGITS, _digits()), (MNIST, _mnist())]
    return [
        Unit(
            recipe.name,
            {
                "recipe": asdict(recipe),
                "point": recipe.point(data),
                "data": _measured(data),
                "seeds": seeds,
                "revision": REVISION,
            },
        )
        for data, recipes in grids
        for recipe in recipes
    ]


def _measured(data: DataSet) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(data).items()}


def _digits() -> Iterator[Recipe]:
    yield Recipe("digits", SNNL, "-", 0.0)
    yield from (Recipe("digits", SNNL, mode, weight) for mode in TEMPERATURES for weight in DIGIT_WEIGHTS[mode])
    yield from (Recipe("digits", kind, "-", weight) for kind in CONTROLS for weight in CONTROL_WEIGHTS[kind])


def _mnist() -> Iterator[Recipe]:
    yield Recipe("mnist", SNNL, "-", 0.0)
    yield from (Recipe("mnist", SNNL, mode, weight) for mode, weight in MNIST_DOSES)
    yield from (Recipe("mnist", kind, "-", weight) for kind in CONTROLS for weight in MNIST_CONTROLS[kind])


def _smoke() -> Iterator[Recipe]:
    yield Recipe("digits", SNNL, "-", 0.0)
    yield from (Recipe("digits", SNNL, "minimised", weight) for weight in (-1.0, 1.0))
    yield from (Recipe("digits", kind, "-", weight) for kind, weight in ((CLASS_MEAN, -0.1), (ACTIVATION_L2, 1e-3)))
