"""Regularizer: a term that is added to the loss of a training step.

It is an object with a method `term`, a pure function of what a step computed and of its own memory. The arguments of
its class are its hyperparameters; Ravel passes `num_classes` if the class takes it. A whole one:

    class ConfidencePenalty:
        needs = Needs(layers=None)

        def __init__(self, floor: float = 0.0) -> None:
            self.floor = floor

        def term(self, batch: Batch, memory: Memory) -> Term:
            log_p_BK = batch.logits.log_softmax(1)
            entropy = -(log_p_BK.exp() * log_p_BK).sum(1).mean()
            return Term((self.floor - entropy).relu(), metrics={"entropy": entropy})

A trial that names it has `regularizers.LABEL.use: module:ConfidencePenalty` and `regularizers.LABEL.weight`.
Shapes: B images, C channels, H by W pixels, K classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from trainables.models import Activations
from trainables.seeding import generator

__all__ = ["Batch", "Memory", "Needs", "Regularizer", "Term"]

Memory: TypeAlias = Mapping[str, Tensor]
"""Tensors that a regularizer keeps from step to step, by name: empty before its first step, saved in checkpoints.

Their names, shapes and types stay what its first step returns, and no gradient flows through them.
"""


@dataclass(frozen=True, slots=True)
class Needs:
    """Inputs of a regularizer; the class attribute `needs` of its class, these defaults where it has none.

    `layers`: the taps where a trial names none, 'hidden', 'all' or names joined by '+'; None if it reads no tap.
    `soft_labels`: True if it can take mixed activations and soft targets (`on_mixed`). `passes`: further passes of a
    batch through the network in each step, by `Batch.forward`.
    """

    layers: str | None = "hidden"
    soft_labels: bool = False
    passes: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Results of one step that a regularizer reads: of clean images, never attacked ones.

    `taps` are activations (B, ...) by tap, in the model's order, and `logits` (B, K), in float32 or float64 for a
    user's own. `labels` (B,) are class indices. `mixed`: True if the activations are those of a mixture; then `labels`
    are those of one of its parts, and `targets` (B, K) at each tap, and under 'logits', what was mixed before it.
    Without a mixture the targets are one-hot. `forward` makes a further pass, of other images (B, C, H, W), or with the
    hidden states shifted at a boundary: `forward(images, shift=Shift(boundary, delta))`. What is random comes from
    `generator`, so that a resumed trial has the same.
    """

    taps: Mapping[str, Tensor]
    logits: Tensor
    labels: Tensor
    targets: Mapping[str, Tensor]
    mixed: bool
    images: Tensor
    forward: Callable[..., Activations]
    seed: int = 0
    purpose: str = ""

    def generator(self) -> torch.Generator:
        """Return a new generator on the images' device, of this trial, step and regularizer."""
        return generator(self.seed, self.purpose, device=self.images.device)


@dataclass(frozen=True, slots=True)
class Term:
    """Value before its weight (0-d, differentiable), further 0-d values to report by name, and the next memory."""

    value: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    memory: Memory = field(default_factory=dict)


class Regularizer(Protocol):
    """Object that computes a term; its class may have attributes `needs` and `space` (see `fragments`)."""

    def term(self, batch: Batch, memory: Memory, /) -> Term | Tensor:
        """Return the term of one step; a value alone has no metrics and no memory."""
