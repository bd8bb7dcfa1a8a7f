"""Recipes, sizes and units: what is trained, and on how many images."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from section import JSON, Row, Size, Unit

PIXELS, FEATURES = 10.0, 10.0
"""Weights of the generator, chosen on validation images of a seed of its own, by the manipulation check alone."""
DISCRIMINATOR = 1.0
"""Weight of the discriminator, which lowers the loss in its features; it was not varied."""
_MEANS = {"gan.snnl_penalty": "class_mean"}
_PIXELS = {"gan.generator_snnl": PIXELS, "gan.snnl_features": "pixels"}
_FEATURES = {
    "gan.generator_snnl": FEATURES,
    "gan.discriminator_snnl": DISCRIMINATOR,
    "gan.snnl_features": "discriminator",
}
RECIPES: Mapping[str, Mapping[str, JSON]] = {
    "baseline": {},
    "entangle in pixels": _PIXELS,
    "means in pixels (control)": {**_PIXELS, **_MEANS},
    "entangle in features": _FEATURES,
    "means in features (control)": {**_FEATURES, **_MEANS},
}
CONTROLS = {
    "entangle in pixels": "means in pixels (control)",
    "entangle in features": "means in features (control)",
}
COMMON: Mapping[str, JSON] = {"evaluation.feature_space": "classifier"}
CLASSIFIER: Mapping[str, JSON] = {
    "model.name": "cnn_bn",
    "optimizer.name": "adamw",
    "optimizer.lr": 0.003,
    "optimizer.schedule": "one_cycle",
    "precision": "float32",
    "evaluation.robust_epsilon": 0.0,
}
# `sets` disjoint sets of `images` test images are compared with as many synthetic ones; `mode_images` are counted.
SIZES: Mapping[Size, Mapping[str, Any]] = {
    "smoke": {
        "point": {
            "data.name": "digits",
            "data.fraction": 0.2,
            "epochs": 2,
            "device": "cpu",
            "evaluation.images": 60,
            "gan.generator_width": 0.25,
            "gan.discriminator_width": 0.25,
            "evaluation.mode_images": 100,
        },
        "classifier": {"data.name": "digits", "epochs": 1, "device": "cpu"},
        "sets": 2,
        "images": 60,
        "mode_images": 100,
        "seeds": range(2),
    },
    "whole": {
        "point": {"data.name": "mnist", "data.fraction": 0.2, "epochs": 15, "device": "cpu"},
        "classifier": {"data.name": "mnist", "data.fraction": 0.4, "epochs": 3, "device": "cpu"},
        "sets": 4,
        "images": 500,
        "mode_images": 5000,
        "seeds": range(3),
    },
    "full": {
        "point": {
            "data.name": "mnist",
            "epochs": 60,
            "batch_size": 128,
            "device": "auto",
            "gan.latent_dim": 100,
            "gan.generator_width": 4.0,
            "gan.discriminator_width": 4.0,
        },
        "classifier": {"data.name": "mnist", "epochs": 10, "device": "auto"},
        "sets": 4,
        "images": 2000,
        "mode_images": 10000,
        "seeds": range(5),
    },
}
COURSE: Mapping[str, str] = {
    "pixels": "val/real_fake_entanglement",
    "features": "val/feature_entanglement",
    "precision": "val/manifold_precision",
    "recall": "val/manifold_recall",
    "covered": "val/modes_covered",
    "kl": "val/mode_kl",
}
"""Measured after each epoch, by their short names."""
CHANCE = "val/real_fake_chance"


def units(size: Size) -> list[Unit]:
    """Return one unit for each seed and recipe: seeds first, so that an interrupted run has whole groups."""
    settings = SIZES[size]
    measured = {name: settings[name] for name in ("sets", "images", "mode_images")}
    return [
        Unit(
            f"{recipe} seed {seed}",
            {
                "recipe": recipe,
                "seed": seed,
                "point": {**COMMON, **settings["point"], **changes},
                "classifier": {**CLASSIFIER, **settings["classifier"]},
                **measured,
            },
        )
        for seed in settings["seeds"]
        for recipe, changes in RECIPES.items()
    ]


def by_epoch(rows: Sequence[Row], name: str) -> Iterator[Sequence[float]]:
    """Yield the values of all seeds after each epoch; entanglement as a share of chance."""
    scale = rows[0].metrics["val_chance"] if name in {"pixels", "features"} else 1.0
    for values in zip(*(row.metrics["course"][name] for row in rows), strict=True):
        yield [value / scale for value in values]
