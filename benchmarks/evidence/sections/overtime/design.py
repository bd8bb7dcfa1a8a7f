"""Recipes, sizes and units: what is trained, and on how many images."""

from collections.abc import Mapping
from typing import Any

from section import JSON, Size, Unit

BLOCKS = tuple(f"block{number}" for number in range(1, 9))
TAPS = (*BLOCKS, "penultimate")
LOWER = BLOCKS[:4]
"""Blocks of the first two of four stages."""
REGULARISED = ("block2", "block4", "block6")
"""Blocks that the group `hidden` reads: the last ones of all stages but the last."""
MARGIN = 0.05
"""Share of chance that a layer may lose and still count as one that keeps its entanglement."""

ENTANGLE, SEPARATE = -0.3, 0.3
"""Weights. The first was chosen on validation images of a seed of its own, of three by their distance to the control;
the second is its size, and was not tried: of 1 the control had lost much of its accuracy."""
_ENTANGLE = {"snnl.weight": ENTANGLE, "snnl.layers": "hidden"}
_SEPARATE = {"snnl.weight": SEPARATE, "snnl.layers": "hidden"}
_MEANS = {"snnl.penalty": "class_mean"}
RECIPES: Mapping[str, Mapping[str, JSON]] = {
    "baseline": {},
    "entangle": _ENTANGLE,
    "means together (control)": {**_ENTANGLE, **_MEANS},
    "separate": _SEPARATE,
    "means apart (control)": {**_SEPARATE, **_MEANS},
}
CONTROLS = {"entangle": "means together (control)", "separate": "means apart (control)"}
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


REVISION = 2
"""What is measured counts among the settings, so that a change of it measures all again."""


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
                "revision": REVISION,
            },
        )
        for seed in settings["seeds"]
        for recipe, changes in RECIPES.items()
    ]
