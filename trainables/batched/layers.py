"""Stacked forms of layers: one call computes a layer of all members, each with its own weights.

Images of all members share a tensor (B, M * C, H, W), in which a member's channels are adjacent: a convolution is one
of M groups, and a layer that acts on each channel alone stays as it is. Vectors are (M, B, D), and a linear layer is
one batched product. A `Flatten` leads from one form to the other. `STACKED` maps the type of a layer to its form.

Shapes: M members, B images of a batch, C channels, H by W pixels, D features, O outputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Self, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.models.cnn import CoveringConvolution
from trainables.models.residual import PreActivationBlock

__all__ = ["STACKED", "Values", "by_member", "stacked", "unstackable"]


@dataclass(frozen=True, slots=True)
class Values:
    """Parameters and buffers of some members by name, each (M, ...).

    With `training`, batch normalisation takes the statistics of the batch, and moves its buffers in place.
    """

    members: int
    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    training: bool = False
    prefix: str = ""

    def child(self, name: str) -> Self:
        """Return the values of a layer's part."""
        return replace(self, prefix=f"{self.prefix}{name}.")

    def parameter(self, name: str) -> Tensor | None:
        """Return a parameter of this layer (M, ...), None if it has none of this name."""
        return self.parameters.get(f"{self.prefix}{name}")

    def buffer(self, name: str) -> Tensor | None:
        """Return a buffer of this layer, flattened over the members (M * C,), None if it has none of this name."""
        values = self.buffers.get(f"{self.prefix}{name}")
        return None if values is None else values.view(-1)


StackedForm: TypeAlias = Callable[[Any, Tensor, Values], Tensor]


def stacked(layer: nn.Module, h: Tensor, values: Values) -> Tensor:
    """Return the output of a layer for all members, in the form of this module.

    Raises:
        TypeError: the layer has no stacked form.

    >>> layer, h = nn.Linear(2, 1, bias=False), torch.ones(3, 5, 2)
    >>> stacked(layer, h, Values(3, {"weight": torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1).expand(3, 1, 2)}, {}))[:, 0]
    tensor([[2.],
            [4.],
            [6.]])
    """
    form = STACKED.get(type(layer))
    if form is None:
        raise TypeError(f"{type(layer).__name__}: has no stacked form; add one to trainables.batched.layers.STACKED")
    return form(layer, h, values)


def unstackable(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the layers' types that have no stacked form.

    >>> unstackable(nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.GELU())))
    ('GELU',)
    """
    kind = type(model)
    if kind is not nn.Sequential:
        return () if kind in STACKED else (kind.__name__,)
    return tuple(dict.fromkeys(name for part in model.children() for name in unstackable(part)))


def by_member(h: Tensor, members: int) -> Tensor:
    """Return images (B, M * C, H, W) as (M, B, C, H, W), a view where the memory allows it; vectors as they are."""
    return h if h.dim() == 3 else torch.unflatten(h, 1, (members, -1)).transpose(0, 1)


def _chain(layer: nn.Sequential, h: Tensor, values: Values) -> Tensor:
    for name, part in layer.named_children():
        h = stacked(part, h, values.child(name))
    return h


def _convolution(layer: nn.Conv2d, h: Tensor, values: Values) -> Tensor:
    weight, bias = values.parameter("weight"), values.parameter("bias")
    if weight is None or layer.padding_mode != "zeros":
        raise TypeError("Conv2d: must have a weight of its own and zeros as padding to be stacked")
    # Memory in the order (O, H, W, C), that of the rows of `Layout`: the copy is the weight in channels_last.
    weight = weight.permute(0, 1, 3, 4, 2).flatten(0, 1).permute(0, 3, 1, 2)
    bias = None if bias is None else bias.reshape(-1)
    groups = values.members * layer.groups
    return functional.conv2d(h, weight, bias, layer.stride, layer.padding, layer.dilation, groups)


def _covering_convolution(_: CoveringConvolution, h: Tensor, values: Values) -> Tensor:
    weight = values.parameter("weight")
    if weight is None:
        raise TypeError("CoveringConvolution: must have a weight of its own to be stacked")
    x_MBD, weight_MOD = (part.permute(0, 1, 3, 4, 2).flatten(2) for part in (by_member(h, values.members), weight))
    return _products(x_MBD, weight_MOD, values.parameter("bias")).transpose(0, 1).flatten(1)[:, :, None, None]


def _linear(_: nn.Linear, h_MBD: Tensor, values: Values) -> Tensor:
    weight_MOD = values.parameter("weight")
    if weight_MOD is None:
        raise TypeError("Linear: must have a weight of its own to be stacked")
    return _products(h_MBD, weight_MOD, values.parameter("bias"))


def _products(h_MBD: Tensor, weight_MOD: Tensor, bias_MO: Tensor | None) -> Tensor:
    if bias_MO is None:
        return torch.bmm(h_MBD, weight_MOD.transpose(1, 2))
    return torch.baddbmm(bias_MO[:, None], h_MBD, weight_MOD.transpose(1, 2))


def _batch_normalisation(layer: nn.BatchNorm2d, h: Tensor, values: Values) -> Tensor:
    if layer.momentum is None:
        raise TypeError("BatchNorm2d: must have a momentum to be stacked")
    weight, bias = values.parameter("weight"), values.parameter("bias")
    mean, variance = values.buffer("running_mean"), values.buffer("running_var")
    return functional.batch_norm(
        h,
        mean,
        variance,
        None if weight is None else weight.reshape(-1),
        None if bias is None else bias.reshape(-1),
        training=values.training or mean is None,
        momentum=layer.momentum,
        eps=layer.eps,
    )


def _flatten(layer: nn.Flatten, h: Tensor, values: Values) -> Tensor:
    if (layer.start_dim, layer.end_dim) != (1, -1):
        raise TypeError("Flatten: must flatten all but the first axis to be stacked")
    return by_member(h, values.members).flatten(2)


def _of_each_channel(layer: nn.Module, h: Tensor, _: Values) -> Tensor:
    output: Tensor = layer(h)
    return output


def _residual_block(block: PreActivationBlock, h: Tensor, values: Values) -> Tensor:
    def part(name: str, x: Tensor) -> Tensor:
        return stacked(getattr(block, name), x, values.child(name))

    inner = functional.relu(part("norm1", h))
    shortcut = h if block.shortcut is None else part("shortcut", inner)
    inner = functional.relu(part("norm2", part("conv1", inner)))
    return part("conv2", inner) + shortcut


STACKED: Mapping[type[nn.Module], StackedForm] = MappingProxyType(
    {
        nn.Sequential: _chain,
        nn.Conv2d: _convolution,
        CoveringConvolution: _covering_convolution,
        nn.Linear: _linear,
        nn.BatchNorm2d: _batch_normalisation,
        nn.Flatten: _flatten,
        nn.ReLU: _of_each_channel,
        nn.MaxPool2d: _of_each_channel,
        nn.AdaptiveAvgPool2d: _of_each_channel,
        PreActivationBlock: _residual_block,
    }
)
"""Stacked form of each type of layer: a function of the layer, the hidden state and the values of its members."""
