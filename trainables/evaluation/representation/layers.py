"""Activations of a network's hidden layers, unit by unit.

A unit is one channel at one place, as one coordinate of phi(x) is in Szegedy et al. (ICLR 2014, section 3). The taps
of a pre-activation network are read before the rectifier, so its units have either sign. Shapes: N images, D units.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from trainables.attacks import evaluating
from trainables.evaluation.core.prediction import batches
from trainables.evaluation.representation.directions import live_units
from trainables.models.tapped import LOGITS
from trainables.seeding import generator

if TYPE_CHECKING:
    from trainables.data import Split
    from trainables.models import TappedClassifier

__all__ = ["LayerUnits", "read_layers"]

MAX_UNITS: Final = 1000


@dataclass(frozen=True, slots=True, eq=False)
class LayerUnits:
    """Activations (N, D) of the live units of a tap.

    units_D: indices of these units in the flattened `shape` of the tap. sampled: number of units that were read.
    """

    tap: str
    features_ND: Tensor
    units_D: Tensor
    shape: tuple[int, ...]
    sampled: int

    @property
    def dead(self) -> int:
        """Number of sampled units with the same value for each image."""
        return self.sampled - len(self.units_D)

    @property
    def limits(self) -> tuple[str, ...]:
        """Line with the number of sampled units, if not all were read."""
        total = prod(self.shape)
        note = f"{self.tap}: {self.sampled:,} of {total:,} units, sampled by seed; all directions combine these"
        return (note,) if self.sampled < total else ()

    def name(self, column: int) -> str:
        """Return the name of the unit in a column of the features."""
        return f"{self.tap}[{', '.join(map(str, np.unravel_index(int(self.units_D[column]), self.shape)))}]"


@torch.no_grad()
def read_layers(
    model: TappedClassifier, split: Split, *, max_units: int = MAX_UNITS, seed: int = 0
) -> tuple[LayerUnits, ...]:
    """Read the hidden layers in eval mode; of a larger layer, `max_units` units sampled by the seed."""
    taps = tuple(tap for tap in model.taps if tap != LOGITS)
    with evaluating(model):
        first = model.features(next(batches(split, size=1))[0], taps=taps).taps
        shapes = {tap: tuple(first[tap].shape[1:]) for tap in taps}
        units = {tap: _sampled(tap, prod(shape), max_units=max_units, seed=seed) for tap, shape in shapes.items()}
        parts: dict[str, list[Tensor]] = {tap: [] for tap in taps}
        for x, _ in batches(split):
            for tap, h in model.features(x, taps=taps).taps.items():
                parts[tap].append(h.flatten(1)[:, units[tap].to(h.device)].cpu())
    return tuple(_layer(tap, torch.cat(parts[tap]), units[tap], shapes[tap]) for tap in taps)


def _sampled(tap: str, units: int, *, max_units: int, seed: int) -> Tensor:
    if units <= max_units:
        return torch.arange(units)
    return torch.randperm(units, generator=generator(seed, f"units of {tap}"))[:max_units].sort().values


def _layer(tap: str, features_ND: Tensor, units_D: Tensor, shape: tuple[int, ...]) -> LayerUnits:
    live_D = live_units(features_ND)
    return LayerUnits(tap, features_ND[:, live_D], units_D[live_D], shape, len(units_D))
