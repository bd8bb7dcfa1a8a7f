"""Soft nearest neighbour loss (Frosst, Papernot and Hinton, 2019) over the layers of a model.

It is the regularizer of the parameters `snnl.*`; under a label (`regularizers.LABEL.use: snnl`) a trial can have a
further one, at other layers with another weight.
Shapes: B images, K classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from trainables import snnl
from trainables.regularizers.protocol import Batch, Memory, Needs, Term
from trainables.snnl import Distance, LearnedTemperature, TemperatureMode, TrainingTerm

__all__ = ["REGULARIZER", "SoftNearestNeighbors"]


@dataclass(frozen=True, slots=True)
class SoftNearestNeighbors:
    """Sum of the loss over layers, as in equation 3 of the paper; the parameters are those of `SnnlConfig`.

    On mixed activations it takes the soft-label form, in which two points share a class as far as their targets
    agree. It remembers the learned temperature of each layer, where that is the mode.
    """

    temperature: Annotated[float, Field(gt=0)] = 1.0
    temperature_mode: TemperatureMode = "minimised"
    distance: Distance = "sqeuclidean"

    needs = Needs(layers="hidden", soft_labels=True)
    space: ClassVar = {
        "weight": {"symlog": [-1.0, 1.0], "gap": 1e-3},
        "temperature_mode": {"choice": ["minimised", "relative"]},
        "temperature": {"float": [0.05, 20.0], "log": True, "when": {"temperature_mode": ["relative", "absolute"]}},
        "distance": {"choice": ["sqeuclidean", "cosine"]},
    }

    def term(self, batch: Batch, memory: Memory) -> Term:
        """Return the sum, with its chance level and the images that are alone in their class."""
        if batch.mixed:
            results = self._of_layers(snnl.soft_training_term, batch.taps, batch.targets, memory)
            chances, alone = zip(*(snnl.soft_composition(batch.targets[tap]) for tap in batch.taps), strict=True)
            chance, singletons = torch.stack(chances).sum(), torch.stack(alone).amax()
        else:
            results = self._of_layers(snnl.training_term, batch.taps, dict.fromkeys(batch.taps, batch.labels), memory)
            chance, singletons = snnl.batch_composition(batch.labels)
            chance = len(batch.taps) * chance
        return Term(
            torch.stack([result.loss for result in results.values()]).sum(),
            metrics={"chance": chance, "singletons": singletons},
            memory=_as_memory({tap: result.learned for tap, result in results.items() if result.learned is not None}),
        )

    def _of_layers(
        self,
        loss: Callable[..., TrainingTerm],
        taps: Mapping[str, Tensor],
        classes: Mapping[str, Tensor],
        memory: Memory,
    ) -> dict[str, TrainingTerm]:
        settings: dict[str, Any] = {
            "mode": self.temperature_mode,
            "temperature": self.temperature,
            "distance": self.distance,
        }
        return {
            tap: loss(features, classes[tap], **settings, learned=_learned(memory, tap))
            for tap, features in taps.items()
        }


REGULARIZER = SoftNearestNeighbors


def _as_memory(learned: Mapping[str, LearnedTemperature]) -> Memory:
    return {
        name: value
        for tap, temperature in learned.items()
        for name, value in ((f"{tap}/log_beta", temperature.log_beta), (f"{tap}/origin", temperature.origin))
    }


def _learned(memory: Memory, tap: str) -> LearnedTemperature | None:
    name = f"{tap}/log_beta"
    return LearnedTemperature(memory[name], memory[f"{tap}/origin"]) if name in memory else None
