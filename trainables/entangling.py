"""Soft nearest neighbour loss over the layers of a model: the third term of a training step.

Shapes: B images, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables import snnl
from trainables.config import SnnlConfig
from trainables.snnl import LearnedTemperature, TrainingTerm

__all__ = ["Entanglement", "entanglement", "mixed_entanglement"]


@dataclass(frozen=True, slots=True)
class Entanglement:
    """'snnl' summed over layers, what stands beside it, and the temperatures for the next step, by tap."""

    terms: Mapping[str, Tensor]
    learned: Mapping[str, LearnedTemperature]


def entanglement(
    taps: Mapping[str, Tensor],
    y_B: Tensor,
    *,
    settings: SnnlConfig,
    learned: Mapping[str, LearnedTemperature],
) -> Entanglement:
    """Summed over layers, as in equation 3 of the paper."""
    results = {
        tap: snnl.training_term(
            features,
            y_B,
            mode=settings.temperature_mode,
            temperature=settings.temperature,
            distance=settings.distance,
            learned=learned.get(tap),
        )
        for tap, features in taps.items()
    }
    chance, singletons = snnl.batch_composition(y_B)
    return _summed(results, chance=len(taps) * chance, singletons=singletons)


def mixed_entanglement(
    taps: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    *,
    settings: SnnlConfig,
    learned: Mapping[str, LearnedTemperature],
) -> Entanglement:
    """The soft-label form: points are company as far as their targets (B, K), those of each tap, agree."""
    results = {
        tap: snnl.soft_training_term(
            features,
            targets[tap],
            mode=settings.temperature_mode,
            temperature=settings.temperature,
            distance=settings.distance,
            learned=learned.get(tap),
        )
        for tap, features in taps.items()
    }
    chances, singletons = zip(*(snnl.soft_composition(targets[tap]) for tap in taps), strict=True)
    return _summed(results, chance=torch.stack(chances).sum(), singletons=torch.stack(singletons).amax())


def _summed(results: Mapping[str, TrainingTerm], *, chance: Tensor, singletons: Tensor) -> Entanglement:
    total = torch.stack([result.loss for result in results.values()]).sum()
    return Entanglement(
        {"snnl": total, "snnl_chance": chance, "snnl_singletons": singletons},
        {tap: result.learned for tap, result in results.items() if result.learned is not None},
    )
