"""Adversarial training of single layers: the cross-entropy after the worst small change of a hidden state.

Szegedy et al. (ICLR 2014, section 4.2) train on adversarial examples of each layer's output, and find those of the
higher layers more useful than those of the input. They keep pools of examples made by L-BFGS. Here each step makes its
own, by the gradient:

    h' = h + epsilon |h| g / |g|,    g = gradient of the cross-entropy at h,    loss = CE(rest of the network at h')

for one layer of `layers` in each step, sampled evenly. |h| is the length of each image's activations, so that growing
activations are no defence. The change itself has no gradient: h' pulls on the layers below as if it were h.

    trial:
      regularizers.adversary.use: hidden_adversarial
      regularizers.adversary.weight: 1.0
      regularizers.adversary.layers: fc1+fc2
      regularizers.adversary.passes: 2

Shapes: B images, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from trainables.mixup import Shift
from trainables.models import Activations
from trainables.regularizers.protocol import Batch, Memory, Needs, Term

__all__ = ["REGULARIZER", "HiddenAdversarial", "ascent", "resized"]


@dataclass(frozen=True, slots=True)
class HiddenAdversarial:
    """Cross-entropy after a change of one layer, `epsilon` times as long as each image's activations.

    `direction`: 'ascent' is that of the gradient; 'random', a control, is even on the sphere. It reports `rise`, by how
    much the change raises the cross-entropy. A layer must be one at which hidden states can be mixed.
    """

    epsilon: Annotated[float, Field(gt=0)] = 0.3
    direction: Literal["ascent", "random"] = "ascent"

    needs = Needs(layers="hidden", passes=2)
    space: ClassVar = {
        "weight": {"float": [0.1, 1.0], "log": True},
        "epsilon": {"float": [0.03, 1.0], "log": True},
    }

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"epsilon: must be > 0, got {self.epsilon}")
        if self.direction not in {"ascent", "random"}:
            raise ValueError(f"direction: must be 'ascent' or 'random', got {self.direction!r}")

    def term(self, batch: Batch, _: Memory) -> Term:
        """Return the cross-entropy after the change, of one pass, or of two where the gradient has to be found."""
        stream, taps = batch.generator(), list(batch.taps)
        tap = taps[int(torch.randint(len(taps), (), generator=stream, device=stream.device))]
        h = batch.taps[tap].detach()
        if self.direction == "random":
            towards = torch.empty_like(h).normal_(generator=stream)
        else:
            towards = ascent(batch.forward, batch.images, batch.labels, h, boundary=tap)
        changed = batch.forward(batch.images, shift=Shift(tap, resized(towards, h, epsilon=self.epsilon)))
        value = functional.cross_entropy(changed.logits, batch.labels)
        return Term(value, metrics={"rise": (value - functional.cross_entropy(batch.logits, batch.labels)).detach()})


def ascent(
    forward: Callable[..., Activations], images: Tensor, labels_B: Tensor, h: Tensor, *, boundary: str
) -> Tensor:
    """Return the gradient of the cross-entropy at the hidden states, of the shape of h (B, ...).

    `forward(images, shift=...)` passes the images through the network, with this change at the boundary.
    """
    with torch.enable_grad():
        leaf = torch.zeros_like(h, requires_grad=True)
        logits_BK = forward(images, shift=Shift(boundary, leaf)).logits
        (gradient,) = torch.autograd.grad(functional.cross_entropy(logits_BK, labels_B, reduction="sum"), leaf)
    return gradient


def resized(towards: Tensor, h: Tensor, *, epsilon: float) -> Tensor:
    """Return directions (B, ...), each as long as epsilon times the hidden states of its image; 0 where it has none.

    The gradients of a confident network are so small that the sum of their squares is 0 in float32, so each is divided
    by its largest entry before its length is taken.

    >>> resized(torch.tensor([[0.0, 2.0], [0.0, 0.0]]), torch.tensor([[3.0, 4.0], [1.0, 0.0]]), epsilon=0.1).tolist()
    [[0.0, 0.5], [0.0, 0.0]]
    """
    flat = (-1, *[1] * (h.dim() - 1))
    largest_B = towards.flatten(1).abs().amax(1)
    even = towards / largest_B.where(largest_B > 0, 1).reshape(flat)
    lengths_B, sizes_B = even.flatten(1).norm(dim=1), h.flatten(1).norm(dim=1)
    changes: Tensor = even * (epsilon * sizes_B / lengths_B.where(lengths_B > 0, 1)).reshape(flat)
    return changes


REGULARIZER = HiddenAdversarial
