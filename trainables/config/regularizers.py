"""Regularizers of a trial by label: `regularizers.LABEL.NAME`.

    regularizers.center.use: my_losses:CenterLoss    a class by import path, or a name
    regularizers.center.weight: 0.1                  its strength; 0, the default, is off
    regularizers.center.layers: penultimate          the taps that it reads
    regularizers.center.rate: 0.5                    an argument of the class; every other name is one

Nothing of the class is imported here: `trainables.regularizers.resolved_terms` does that, and checks its arguments.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from trainables.config.values import Arguments, Layers, Real
from trainables.errors import short_repr
from trainables.import_paths import name_in

__all__ = ["GROUP", "NAMES", "REGISTRY", "RegularizerConfig", "Regularizers", "strengths_among"]

GROUP = "regularizers"
REGISTRY = "ravel.regularizers"
"""Entry point group in which packages register regularizers."""
NAMES = tuple(sorted(module.name for module in iter_modules([str(Path(__file__).parents[1] / GROUP / "terms")])))
"""Modules of `trainables.regularizers.terms`, listed without an import: each holds the regularizer of its name."""
RESERVED = ("ce", "control", "kl", "loss", "pgd_accuracy", "snnl", "snnl_chance", "snnl_singletons")
"""Names of other metrics below `train/`, which no label may have."""
_LABEL = r"[a-z][a-z0-9_]*"
_STRENGTH = re.compile(rf"{GROUP}\.{_LABEL}\.weight")


class RegularizerConfig(Arguments):
    """One regularizer: what it is, how strong, where, and the arguments of its class.

    `layers`: taps as in `snnl.layers`; None is the class's own choice. With `on_mixed`, and mixup on, it reads the
    mixed activations and soft targets, otherwise those of a pass of unmixed images. `passes` are the further passes
    of a batch through the network that it makes in each step, so that schedulers know what a trial costs.

    >>> RegularizerConfig(use="my_losses:CenterLoss", weight=0.1, rate=0.5).by_name
    {'rate': 0.5}
    """

    use: Annotated[str, name_in(NAMES, group=REGISTRY)]
    """Regularizer: one of the package, or a class by import path."""
    weight: Real = 0.0
    """Strength; 0 is off."""
    layers: Layers | None = None
    """Taps that it reads, as in `snnl.layers`; None: the class's own choice."""
    on_mixed: bool = False
    """With mixup, read mixed activations and soft targets."""
    passes: Annotated[int, Field(ge=0)] = 0
    """Further passes of a batch that it makes in each step: what schedulers count as its cost."""


class Regularizers(Arguments):
    """Regularizers by label, in the order of their labels.

    >>> Regularizers(center={"use": "my_losses:CenterLoss"}).by_label["center"].weight
    0.0
    """

    names: ClassVar = re.compile(rf"{_LABEL}\.[A-Za-z_]\w*")
    form: ClassVar = "LABEL.NAME, and a label of small letters, digits and _"

    __pydantic_extra__: dict[str, RegularizerConfig]

    @property
    def by_label(self) -> Mapping[str, RegularizerConfig]:
        """Regularizers by label, sorted, so that the sum of their terms does not depend on the order of a file."""
        return dict(sorted((self.__pydantic_extra__ or {}).items()))

    @property
    def kinds(self) -> tuple[tuple[object, ...], ...]:
        """Labels, classes and what they read, which decide if a model has it, whatever weights and arguments."""
        return tuple(
            (label, term.use, term.layers, term.on_mixed, term.passes) for label, term in self.by_label.items()
        )

    @property
    def of_any_strength(self) -> tuple[tuple[str, RegularizerConfig], ...]:
        """Labels and settings but their weights: those of two trials that differ in strength alone are equal."""
        return tuple((label, term.model_copy(update={"weight": 0.0})) for label, term in self.by_label.items())

    @model_validator(mode="after")
    def _labels_are_free(self) -> Self:
        for label in self.by_label:
            if label in RESERVED:
                raise ValueError(
                    f"must have another label, as train/{label} is another metric, got {short_repr(label)}"
                )
        return self


def strengths_among(names: Iterable[str]) -> tuple[str, ...]:
    """Return those of some parameters that are the strength of a regularizer, sorted.

    >>> strengths_among(["regularizers.center.weight", "regularizers.center.use", "snnl.weight"])
    ('regularizers.center.weight',)
    """
    return tuple(sorted(name for name in names if _STRENGTH.fullmatch(name)))
