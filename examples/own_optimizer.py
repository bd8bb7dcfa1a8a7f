"""Lion (Chen et al., NeurIPS 2023), as an optimizer of a user's own.

    c_t = sign(beta_1 m_{t-1} + (1 - beta_1) g_t)        the step, algorithm 2
    w_t = w_{t-1} - lr (c_t + decay w_{t-1})
    m_t = beta_2 m_{t-1} + (1 - group["beta_2"]) g_t

Ravel sets the rate in `param_groups` before each step and saves `state_dict()` in each checkpoint, so the class needs
nothing for schedules, warm-up or a resume. `optimizer.weight_decay` is passed, because it takes `weight_decay`; a trial
leaves `optimizer.momentum` out, because it takes no `momentum`.

    trial:
      optimizer.name: "own_optimizer:Lion"
    space:
      parameters:
        optimizer.lr: {float: [1.0e-5, 1.0e-2], log: true}
        optimizer.args.beta_1: {choice: [0.9, 0.95]}

`lion_without_decay_of_biases` asks for the names of parameters, and makes two groups of them.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


class Lion(torch.optim.Optimizer):
    """Steps of one size in each coordinate, along the sign of two blends of the gradient and its average."""

    def __init__(
        self, params: Any, lr: float = 1e-4, beta_1: float = 0.9, beta_2: float = 0.99, weight_decay: float = 0.0
    ) -> None:
        if not (0 <= beta_1 < 1 and 0 <= beta_2 < 1):
            raise ValueError(f"beta_1, beta_2: must be in [0, 1), got {beta_1} and {beta_2}")
        super().__init__(params, {"lr": lr, "beta_1": beta_1, "beta_2": beta_2, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # noqa: ARG002 - torch's signature
        """Move each parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
                direction = torch.lerp(parameter.grad, average, group["beta_1"]).sign_()
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"])
                average.lerp_(parameter.grad, 1 - group["beta_2"])


def lion_without_decay_of_biases(
    named_parameters: Iterable[tuple[str, nn.Parameter]], lr: float, weight_decay: float = 0.0
) -> Lion:
    """Return Lion with weight decay of matrices and kernels alone."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in named_parameters:
        groups[parameter.dim() > 1 and not name.endswith("bias")].append(parameter)
    decays = {True: weight_decay, False: 0.0}
    return Lion([{"params": groups[key], "weight_decay": decays[key]} for key in groups if groups[key]], lr=lr)
