"""Soft nearest neighbour loss, or one of its controls, over the layers of a model: third term of a training step.

Shapes: B images, K classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables import snnl
from trainables.config.trial import SnnlConfig
from trainables.snnl import LearnedTemperature, TrainingTerm
from trainables.snnl.controls import activation_l2, class_mean, soft_class_mean

__all__ = ["Entanglement", "entanglement", "mixed_entanglement"]


@dataclass(frozen=True, slots=True)
class Entanglement:
    """Sum over layers, the named terms to report with it, and the next step's temperatures, by tap.

    For a control, `terms` has the one name 'control'.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    learned: Mapping[str, LearnedTemperature]


def entanglement(
    taps: Mapping[str, Tensor],
    y_B: Tensor,
    *,
    settings: SnnlConfig,
    learned: Mapping[str, LearnedTemperature],
) -> Entanglement:
    """Sum the loss over layers, as in equation 3 of the paper."""
    if settings.penalty != "soft_nearest_neighbor":
        return _control(taps, settings, lambda tap: class_mean(taps[tap], y_B, distance=settings.distance))
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
    """Sum the soft-label form, in which two points share a class as far as their targets (B, K) at this tap agree."""
    if settings.penalty != "soft_nearest_neighbor":
        return _control(
            taps, settings, lambda tap: soft_class_mean(taps[tap], targets[tap], distance=settings.distance)
        )
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
        total,
        {"snnl": total, "snnl_chance": chance, "snnl_singletons": singletons},
        {tap: result.learned for tap, result in results.items() if result.learned is not None},
    )


def _control(taps: Mapping[str, Tensor], settings: SnnlConfig, class_mean_of: Callable[[str], Tensor]) -> Entanglement:
    by_class = settings.penalty == "class_mean"
    parts = [class_mean_of(tap) if by_class else activation_l2(features) for tap, features in taps.items()]
    total = torch.stack(parts).sum()
    return Entanglement(total, {"control": total}, {})
