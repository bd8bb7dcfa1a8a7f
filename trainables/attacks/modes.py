"""State of the model and of autograd while an attack runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["attacking", "evaluating", "outside_inference_mode"]

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set eval mode for the block, then restore the flag of every submodule.

    >>> model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval())
    >>> with evaluating(model):
    ...     [module.training for module in model]
    [False, False]
    >>> [module.training for module in model]
    [True, False]
    """
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def attacking(model: nn.Module, *, device: torch.device) -> Iterator[None]:
    """Set eval mode with gradients on and autocast off: in half precision small gradients become zeros.

    >>> with torch.no_grad(), attacking(nn.Linear(2, 2), device=torch.device("cpu")):
    ...     torch.is_grad_enabled()
    True
    """
    if any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError(
            "model: must have tensors that autograd may use, got some from torch.inference_mode(); "
            "build and load the model outside of it"
        )
    with evaluating(model), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        yield


def outside_inference_mode(attack: Callable[P, R]) -> Callable[P, R]:
    """Let an attack take gradients also if it is called under `torch.inference_mode()`, of tensors from there too.

    `torch.enable_grad` alone does not end inference mode, and autograd refuses its tensors, so these are copied.

    >>> slope = outside_inference_mode(lambda x: torch.autograd.grad((x.requires_grad_() ** 2).sum(), x)[0])
    >>> with torch.inference_mode():
    ...     slope(torch.ones(1))
    tensor([2.])
    """

    @wraps(attack)
    def run(*arguments: P.args, **named: P.kwargs) -> R:
        with torch.inference_mode(mode=False):
            # Copies of other types are the values themselves, so the parameters keep their types.
            own = tuple(_own(value) for value in arguments)
            return attack(*own, **{name: _own(value) for name, value in named.items()})  # type: ignore[arg-type]

    return run


def _own(value: object) -> object:
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value
