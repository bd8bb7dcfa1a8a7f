"""Optimizers of all members: each member has its own rate, momentum and weight decay, and its state is a row.

The formulas are those of `torch.optim.SGD` and `torch.optim.AdamW`. A state comes from the member's own optimizer, and
returns to it, so that its checkpoint is that of a trial that trains alone.
Shapes: M members, P parameters of one of them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol, final

import torch
from torch import Tensor

from trainables.batched.weights import Layout
from trainables.config.optimizer import OptimizerConfig

__all__ = ["STEPPERS", "Stepper", "clipped"]


class Stepper(Protocol):
    """Optimizer of all members."""

    def __init__(
        self, configs: Sequence[OptimizerConfig], optimizers: Sequence[torch.optim.Optimizer], layout: Layout
    ) -> None: ...

    def step(self, rows_MP: Tensor, slopes_MP: Tensor, *, rates: Sequence[float]) -> None:
        """Move the weights of each member one step down its gradient, which is overwritten."""

    def unload(self, member: int, optimizer: torch.optim.Optimizer) -> None:
        """Write the state of a member into its own optimizer."""


def clipped(slopes_MP: Tensor, configs: Sequence[OptimizerConfig]) -> Tensor:
    """Return the gradients, each scaled so that its norm is at most `clip_norm` of its member, where that is set."""
    if all(config.clip_norm is None for config in configs):
        return slopes_MP
    limits = slopes_MP.new_tensor([math.inf if config.clip_norm is None else config.clip_norm for config in configs])
    length_M = torch.linalg.vector_norm(slopes_MP, dim=1)
    # As torch.nn.utils.clip_grad_norm_ has it, the small number included.
    scaled_MP: Tensor = slopes_MP * (limits / (length_M + 1e-6)).clamp_max(1)[:, None]
    return scaled_MP


@final
class StackedSGD:
    """Stochastic gradient descent with momentum."""

    def __init__(
        self, configs: Sequence[OptimizerConfig], optimizers: Sequence[torch.optim.Optimizer], layout: Layout
    ) -> None:
        self._layout, self._has_momentum = layout, [config.momentum > 0 for config in configs]
        self._buffers_MP = _rows(optimizers, "momentum_buffer", layout)
        self._momentum, self._decay = (
            _column([getattr(config, name) for config in configs], self._buffers_MP)
            for name in ("momentum", "weight_decay")
        )
        ahead = [config.momentum if config.nesterov else 0.0 for config in configs]
        self._ahead = _column(ahead, self._buffers_MP) if any(ahead) else None

    @torch.no_grad()
    def step(self, rows_MP: Tensor, slopes_MP: Tensor, *, rates: Sequence[float]) -> None:
        """Move the weights of each member; the gradient is overwritten."""
        slopes_MP.addcmul_(rows_MP, self._decay)
        self._buffers_MP.mul_(self._momentum).add_(slopes_MP)
        direction = self._buffers_MP
        if self._ahead is not None:
            # A member without Nesterov's momentum moves along its buffer.
            looking = slopes_MP.addcmul_(self._buffers_MP, self._ahead)
            direction = torch.where(self._ahead > 0, looking, self._buffers_MP)
        rows_MP.addcmul_(direction, _column(rates, rows_MP), value=-1)

    def unload(self, member: int, optimizer: torch.optim.Optimizer) -> None:
        """Write the momentum of a member into its own optimizer."""
        if self._has_momentum[member]:
            _unload(self._buffers_MP[member], "momentum_buffer", optimizer, self._layout)


@final
class StackedAdamW:
    """Adam with decoupled weight decay; `momentum` is beta_1."""

    def __init__(
        self, configs: Sequence[OptimizerConfig], optimizers: Sequence[torch.optim.Optimizer], layout: Layout
    ) -> None:
        self._layout, self._groups = layout, [optimizer.param_groups[0] for optimizer in optimizers]
        self._first_MP, self._second_MP = (_rows(optimizers, name, layout) for name in ("exp_avg", "exp_avg_sq"))
        self._decays = [config.weight_decay for config in configs]
        self._steps = [next((int(state["step"]) for state in optimizer.state.values()), 0) for optimizer in optimizers]

    @torch.no_grad()
    def step(self, rows_MP: Tensor, slopes_MP: Tensor, *, rates: Sequence[float]) -> None:
        """Move the weights of each member; the gradient is overwritten."""
        self._steps = [step + 1 for step in self._steps]
        betas = [group["betas"] for group in self._groups]
        first, second = (_column([pair[i] for pair in betas], rows_MP) for i in (0, 1))
        left = [1 - pair[0] ** step for pair, step in zip(betas, self._steps, strict=True)]
        spread = [math.sqrt(1 - pair[1] ** step) for pair, step in zip(betas, self._steps, strict=True)]
        keep = [1 - rate * decay for rate, decay in zip(rates, self._decays, strict=True)]
        rows_MP.mul_(_column(keep, rows_MP))
        self._first_MP.lerp_(slopes_MP, 1 - first)
        self._second_MP.mul_(second).add_(slopes_MP.square_().mul_(1 - second))
        eps = _column([group["eps"] for group in self._groups], rows_MP)
        size = self._second_MP.sqrt().div_(_column(spread, rows_MP)).add_(eps)
        sizes = [-rate / part for rate, part in zip(rates, left, strict=True)]
        rows_MP.addcmul_(self._first_MP / size, _column(sizes, rows_MP))

    def unload(self, member: int, optimizer: torch.optim.Optimizer) -> None:
        """Write the moments and the count of a member into its own optimizer."""
        for parameter in optimizer.param_groups[0]["params"]:
            state = optimizer.state[parameter]
            for name in ("exp_avg", "exp_avg_sq"):
                if name not in state:
                    state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            state["step"] = torch.tensor(float(self._steps[member]), device=parameter.device)
        _unload(self._first_MP[member], "exp_avg", optimizer, self._layout)
        _unload(self._second_MP[member], "exp_avg_sq", optimizer, self._layout)


STEPPERS: Mapping[str, type[Stepper]] = {"sgd": StackedSGD, "adamw": StackedAdamW}
"""Stacked form of each optimizer of the package."""


def _rows(optimizers: Sequence[torch.optim.Optimizer], name: str, layout: Layout) -> Tensor:
    """Return a tensor of the state of all parameters as rows, zeros where an optimizer has not stepped yet."""
    rows = []
    for optimizer in optimizers:
        parameters = optimizer.param_groups[0]["params"]
        states = (optimizer.state.get(parameter, {}).get(name) for parameter in parameters)
        rows.append(
            layout.row(p.new_zeros(p.shape) if s is None else s for p, s in zip(parameters, states, strict=True))
        )
    return torch.stack(rows)


def _unload(row_P: Tensor, name: str, optimizer: torch.optim.Optimizer, layout: Layout) -> None:
    layout.copy(row_P, [optimizer.state[parameter][name] for parameter in optimizer.param_groups[0]["params"]])


def _column(numbers: Sequence[float], like: Tensor) -> Tensor:
    """Return one number for each row, (M, 1)."""
    return torch.tensor(numbers, dtype=torch.float32, device=like.device)[:, None]
