"""Network of all members: the stages of a `StagedClassifier`, with the values of each member.

Shapes: M members, B images, C channels, H by W pixels, K classes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.batched.layers import Values, by_member, stacked
from trainables.batched.mixing import StackedMix, at_boundary, mixed_images
from trainables.mixup import Mix
from trainables.models import Activations
from trainables.models.staged import StagedClassifier
from trainables.models.tapped import LOGITS

__all__ = ["StackedNetwork"]


@dataclass(frozen=True, slots=True)
class StackedNetwork:
    """Architecture of the members; of the model's own values it reads the mean and deviation of the images alone."""

    model: StagedClassifier

    def features(
        self,
        x_MBCHW: Tensor,
        values: Values,
        *,
        mixtures: Sequence[Mix | None] = (),
        taps: Collection[str] = (),
    ) -> Activations:
        """Return logits (M, B, K) and taps (M, B, ...) of each member's own images, with its own mixture.

        As in one model, a tap is read before the mixture at its boundary.
        """
        mixtures = mixtures or [None] * len(x_MBCHW)
        read: dict[str, Tensor] = {}
        x_MBCHW = (mixed_images(x_MBCHW, mixtures) - self.model.mean) / self.model.std
        h = x_MBCHW.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        for name, stage in self.model.stages.items():
            h = stacked(stage, h, values.child("stages").child(name))
            if name in taps:
                read[name] = by_member(h, values.members)
            here = at_boundary(mixtures, name)
            if any(mix is not None for mix in here):
                h = StackedMix.of(here, batch_size=x_MBCHW.shape[1], device=h.device).states(h)
        logits_MBK = stacked(self.model.head, h, values.child("head"))
        if LOGITS in taps:
            read[LOGITS] = logits_MBK
        return Activations(logits_MBK, read)
