"""Guard against gradients that a library leaves undefined where a convolution's kernel meets padding alone.

On images of few pixels some positions of a kernel never meet a pixel: the outer eight of a 3 x 3 kernel on an image of
one pixel. Their gradient is 0. oneDNN 3.12 (in torch 2.13 for CPUs with AVX512-BF16) computes it in bfloat16 as what
happens to lie in memory, up to infinity or NaN. The gradients of all other positions and of the input are right
(decision 108 has the measurement).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["guarding"]

_Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


@contextmanager
def guarding(model: nn.Module) -> Iterator[None]:
    """Note the size of the images at each convolution that is called inside; guard their weights from the end on.

    A guarded weight has the gradient 0 where its kernel meets padding alone. Weights that are computed from others
    (``torch.nn.utils.parametrize``) cannot be guarded, and stay as they are.

    >>> convolution = nn.Conv2d(1, 1, kernel_size=3, padding=1, stride=2)
    >>> with guarding(convolution):
    ...     _ = convolution(torch.ones(1, 1, 1, 1))
    >>> (convolution.weight * torch.inf).sum().backward()
    >>> convolution.weight.grad[0, 0]
    tensor([[0., 0., 0.],
            [0., inf, 0.],
            [0., 0., 0.]])
    """
    met: dict[_Convolution, Tensor] = {}

    def note(convolution: Any, inputs: tuple[Any, ...]) -> None:
        unmet = unmet_positions(convolution, tuple(inputs[0].shape[-len(convolution.kernel_size) :]))
        met[convolution] = met.get(convolution, unmet) & unmet

    handles = [
        part.register_forward_pre_hook(note)
        for part in model.modules()
        if isinstance(part, _Convolution) and part.padding_mode == "zeros" and part.weight.is_leaf
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    for convolution, unmet in met.items():
        if unmet.any() and convolution.weight.requires_grad:
            hook = partial(_cleared, unmet=unmet.to(convolution.weight.device))
            convolution.weight.register_hook(hook)  # type: ignore[no-untyped-call]


def unmet_positions(convolution: _Convolution, size: tuple[int, ...]) -> Tensor:
    """Return True where the kernel meets no pixel of an image of this size; the shape is that of the kernel."""
    unmet = torch.zeros(convolution.kernel_size, dtype=torch.bool)
    for axis, pixels in enumerate(size):
        kernel, stride, dilation = (
            values[axis] for values in (convolution.kernel_size, convolution.stride, convolution.dilation)
        )
        before, after = _padding(convolution, axis)
        span = dilation * (kernel - 1) + 1
        starts = torch.arange(-before, pixels + after - span + 1, stride)
        met = starts[:, None] + dilation * torch.arange(kernel)[None]
        along = [1] * len(size)
        along[axis] = kernel
        unmet |= ~((met >= 0) & (met < pixels)).any(dim=0).view(along)
    return unmet


def _padding(convolution: _Convolution, axis: int) -> tuple[int, int]:
    if convolution.padding == "valid":
        return 0, 0
    if convolution.padding == "same":
        total = convolution.dilation[axis] * (convolution.kernel_size[axis] - 1)
        return total // 2, total - total // 2
    pixels = int(convolution.padding[axis])
    return pixels, pixels


def _cleared(gradient: Tensor, *, unmet: Tensor) -> Tensor:
    return gradient.masked_fill(unmet, 0.0)
