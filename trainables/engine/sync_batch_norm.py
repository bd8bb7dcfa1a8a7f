"""Synchronised batch normalisation: statistics of the whole batch, of which each process of a trial has a share.

    mean = sum w_r mean_r        variance = sum w_r (variance_r + (mean_r - mean)^2)        w_r = n_r / n

Process r has n_r of the n values of a channel. Each process gathers the statistics of all (`Share.whole`), so that a
loss is differentiable through them any number of times: an image has its part in the statistics of all shares. One
message for each layer and pass, and one more backwards. `nn.SyncBatchNorm` of torch has no form for CPUs.

Shapes: S images of a share, C channels, R processes.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from trainables.engine.share import Share

__all__ = ["synchronised"]


def synchronised(share: Share, *, is_on: bool) -> AbstractContextManager[object]:
    """Return a context in which batch normalisation takes its statistics from all shares; nothing changes in one alone.

    It is for passes of a share, which all processes make in the same order. Layers in eval mode are left as they are.

    >>> with synchronised(Share(), is_on=True):
    ...     functional.batch_norm(torch.tensor([[1.0], [3.0]]), None, None, training=True).flatten().round()
    tensor([-1.,  1.])
    """
    return _Synchronised(share) if is_on and not share.is_whole else nullcontext()


@final
class _Synchronised(TorchFunctionMode):
    """Replaces `functional.batch_norm`, which every layer of batch normalisation calls, users' own ones too."""

    def __init__(self, share: Share) -> None:
        super().__init__()
        self._share = share

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is functional.batch_norm:
            return _batch_norm(self._share, *args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _batch_norm(  # noqa: PLR0917  the signature of `functional.batch_norm`
    share: Share,
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,  # noqa: FBT001, FBT002
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Return what `functional.batch_norm` would give this process of the whole batch, and update the running values."""
    if not training:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    x_SC = input if input.dtype in {torch.float32, torch.float64} else input.float()
    mean_C, variance_C, count = _statistics(share, x_SC)
    with torch.no_grad():
        if running_mean is not None:
            running_mean.lerp_(mean_C.to(running_mean.dtype), momentum)
        if running_var is not None:
            running_var.lerp_((variance_C * (count / (count - 1))).to(running_var.dtype), momentum)
    scale_C = (variance_C + eps).rsqrt()
    broadcast = (1, -1, *[1] * (x_SC.dim() - 2))
    normal_SC = (x_SC - mean_C.view(broadcast)) * (scale_C if weight is None else scale_C * weight).view(broadcast)
    return (normal_SC if bias is None else normal_SC + bias.view(broadcast)).to(input.dtype)


def _statistics(share: Share, x_SC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and biased variance (C,) of each channel over all shares, and the number of its values."""
    axes = [axis for axis in range(x_SC.dim()) if axis != 1]
    variance_C, mean_C = torch.var_mean(x_SC, axes, correction=0)
    channels = len(mean_C)
    own = torch.cat([mean_C, variance_C, mean_C.new_full((1,), x_SC.numel() / channels)])
    gathered = share.whole(own[None])
    means_RC, variances_RC, counts_R1 = gathered[:, :channels], gathered[:, channels:-1], gathered[:, -1:]
    count = counts_R1.detach().sum()
    weights_R1 = counts_R1.detach() / count
    mean_C = (weights_R1 * means_RC).sum(0)
    return mean_C, (weights_R1 * (variances_RC + (means_RC - mean_C).square())).sum(0), count
