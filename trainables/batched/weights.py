"""Weights of all members as one matrix, a row for each member, and their buffers.

One matrix makes a step of the optimizer a handful of operations, whatever the number of members and of layers, and the
norm of a member's gradient that of a row. Within a row the parameters have the model's order, those of convolutions
with their channels last. A member's values come from its own model, and go back to it.

Shapes: M members, P parameters of one of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Self, final

import torch
from torch import Tensor, nn

from trainables.batched.layers import Values
from trainables.models.cnn import CoveringConvolution

__all__ = ["Layout", "StackedWeights", "taken"]

_COUNT = "num_batches_tracked"


@dataclass(frozen=True, slots=True)
class Layout:
    """Names and shapes of the parameters of one member, in the order of its row.

    >>> layout = Layout.of(nn.Linear(2, 1))
    >>> layout.row([torch.tensor([[1.0, 2.0]]), torch.tensor([3.0])])
    tensor([1., 2., 3.])
    """

    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, model: nn.Module) -> Self:
        """Return the layout of a model's parameters."""
        return cls({name: tuple(parameter.shape) for name, parameter in model.named_parameters()})

    def row(self, tensors: Iterable[Tensor]) -> Tensor:
        """Return one tensor for each parameter, in the model's order, as a new row (P,)."""
        return torch.cat([_channels_last(tensor.detach()).reshape(-1) for tensor in tensors])

    def copy(self, row_P: Tensor, tensors: Iterable[Tensor]) -> None:
        """Write the parts of a row into tensors of the parameters' shapes."""
        parts = self.split(row_P[None]).values()
        for part, tensor in zip(parts, tensors, strict=True):
            tensor.detach().copy_(part[0])

    def split(self, rows_MP: Tensor) -> dict[str, Tensor]:
        """Return each parameter of all rows, (M, ...): views, whose gradient is one concatenation."""
        parts = torch.split(rows_MP, [prod(shape) for shape in self.shapes.values()], 1)
        return {name: _as(part, shape) for part, (name, shape) in zip(parts, self.shapes.items(), strict=True)}


@final
class StackedWeights:
    """Rows of all members, a leaf of autograd, and their buffers by name.

    `layout` is that of the rows. What the members share (the statistics of the images) is no part of it.
    """

    def __init__(self, models: Sequence[nn.Module], *, shared: Iterable[str]) -> None:
        self.layout = Layout.of(models[0])
        self.rows_MP = torch.stack([self.layout.row(model.parameters()) for model in models]).requires_grad_()
        own = [
            {name: buffer for name, buffer in model.named_buffers() if name not in shared and not _is_count(name)}
            for model in models
        ]
        self.buffers = {name: torch.stack([buffers[name].detach() for buffers in own]) for name in own[0]}
        self._passes = [0] * len(models)
        self._is_cast = frozenset(
            f"{name}.{parameter}"
            for name, module in models[0].named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
            for parameter, _ in module.named_parameters(recurse=False)
            if not (isinstance(module, CoveringConvolution) and parameter == "weight")  # a view: cast in each pass
        )

    def values(self, *, training: bool) -> Values:
        """Return the values of all members; the gradient by `rows_MP` flows through the parameters.

        Within autocast, weights of convolutions and linear layers are cast once for all passes, as it does for those
        of one model: so their gradients are summed in its precision.
        """
        parameters, device = self.layout.split(self.rows_MP), self.rows_MP.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            cast = {name: value.to(dtype) for name, value in parameters.items() if name in self._is_cast}
            parameters = {**parameters, **cast}
        return Values(len(self.rows_MP), parameters, self.buffers, training=training)

    def put_back(self, members: Sequence[int], values: Values) -> None:
        """Take over the buffers of a pass of some members in training, which were a copy of theirs, and count it."""
        for member in members:
            self._passes[member] += 1
        index = torch.tensor(members, device=self.rows_MP.device)
        for name, buffer in self.buffers.items():
            buffer.index_copy_(0, index, values.buffers[name])

    def unload(self, member: int, model: nn.Module) -> None:
        """Write the parameters and buffers of a member into its own model."""
        self.layout.copy(self.rows_MP[member].detach(), model.parameters())
        for name, buffer in model.named_buffers():
            if _is_count(name):
                buffer.add_(self._passes[member])
            elif name in self.buffers:
                buffer.copy_(self.buffers[name][member])
        self._passes[member] = 0


def taken(values: Values, members: Sequence[int]) -> Values:
    """Return the values of some of the members; the buffers are copies, as autograd may keep those of a pass."""
    index = torch.tensor(members, device=next(iter(values.parameters.values())).device)
    buffers = {name: buffer.index_select(0, index) for name, buffer in values.buffers.items()}
    if list(members) == list(range(values.members)):
        return replace(values, buffers=buffers)
    parameters = {name: parameter.index_select(0, index) for name, parameter in values.parameters.items()}
    return replace(values, members=len(members), parameters=parameters, buffers=buffers)


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor


def _as(part_MP: Tensor, shape: tuple[int, ...]) -> Tensor:
    if len(shape) != 4:
        return torch.unflatten(part_MP, 1, shape)
    out, channels, height, width = shape
    return torch.unflatten(part_MP, 1, (out, height, width, channels)).permute(0, 1, 4, 2, 3)


def _is_count(name: str) -> bool:
    return name.rpartition(".")[2] == _COUNT
