"""State of the model and of autograd while an attack runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["attacking", "evaluating"]


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
    with evaluating(model), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        yield
