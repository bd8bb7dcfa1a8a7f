"""Limit of a training step: its matrix products and convolutions alone, at the same shapes, strides and types.

A step is recorded once, below autograd and autocast, so that forward, backward, attacks and regularizers are all in it,
in the arithmetic that they run in. The limit repeats these calls in their order, and nothing else. Calls of the same
form share their tensors, so weights and images may be in the cache more often than in a step: no step is faster.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.flop_counter import flop_registry

PRODUCTS = frozenset(
    f"aten.{name}"
    for name in (
        *("mm", "addmm", "addmm_", "bmm", "baddbmm", "baddbmm_", "addbmm", "mv", "addmv", "dot"),
        *("convolution", "convolution_backward", "linear"),
    )
)
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Products:
    """Calls of one step, ready to be repeated, and their floating-point operations."""

    calls: tuple[Call, ...]
    flops: int

    def repeat(self) -> None:
        """Run all calls in their order."""
        with torch.no_grad():
            for operation, arguments, named in self.calls:
                operation(*arguments, **named)


def recorded(step: Callable[[], object]) -> Products:
    """Run a step, and return its matrix products and convolutions.

    >>> a, b = torch.ones(3, 4, requires_grad=True), torch.ones(4, 5)
    >>> [str(call[0]) for call in recorded(lambda: (a @ b).relu().sum().backward()).calls]
    ['aten.mm.default', 'aten.mm.default']
    """
    recorder = _Recorder()
    with recorder:
        step()
    return Products(tuple(recorder.calls), recorder.flops)


class _Recorder(TorchDispatchMode):
    """Calls of matrix products and convolutions, with tensors of their own for each form of call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.flops = 0
        self._forms: dict[tuple[object, ...], Call] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        result = func(*args, **named)
        if str(func.overloadpacket) in PRODUCTS:
            self.calls.append(self._own(func, args, named))
        if func.overloadpacket in flop_registry:
            self.flops += flop_registry[func.overloadpacket](*args, **named, out_val=result)
        return result

    def _own(self, func: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Call:
        """Return a call of the same form; results of one that writes into an argument go to a copy of it."""
        leaves, structure = tree_flatten((args, named))
        form = (func, *(_form(leaf) for leaf in leaves))
        if form not in self._forms:
            own = [leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            self._forms[form] = (func, *tree_unflatten(own, structure))
        return self._forms[form]


def _form(leaf: object) -> object:
    if isinstance(leaf, Tensor):
        return tuple(leaf.shape), leaf.stride(), leaf.dtype, leaf.device
    return repr(leaf)
