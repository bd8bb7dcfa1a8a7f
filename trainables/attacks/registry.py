"""Attacks of a fixed radius by name, with one signature and a moderate budget.

Use them for a quick check and for comparisons. A claim of robustness requires `autoattack`, or the budgets of a paper.
"""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Final, Protocol

import torch
from torch import Tensor, nn

from trainables.attacks.auto_pgd import apgd
from trainables.attacks.balls import Norm
from trainables.attacks.boundary import fab
from trainables.attacks.gradient import fgsm, fgsm_rs, pgd
from trainables.attacks.random_search import square
from trainables.config.adversarial import pgd_step_size

__all__ = ["ATTACKS", "Attack"]

_STEPS = 20
_QUERIES = 500


class Attack(Protocol):
    """Attack: maps images (B, ...) in [0, 1] and labels (B,) to attacked images in the ball and the box."""

    def __call__(
        self, model: nn.Module, x: Tensor, y_B: Tensor, /, *, epsilon: float, generator: torch.Generator | None
    ) -> Tensor:
        """Attack in the ball of radius epsilon; sample from this generator alone."""


def _fgsm(model: nn.Module, x: Tensor, y_B: Tensor, /, *, epsilon: float, generator: torch.Generator | None) -> Tensor:
    del generator  # it samples nothing
    return fgsm(model, x, y_B, epsilon=epsilon)


def _pgd(
    model: nn.Module,
    x: Tensor,
    y_B: Tensor,
    /,
    *,
    epsilon: float,
    generator: torch.Generator | None,
    norm: Norm = "linf",
    restarts: int = 1,
) -> Tensor:
    return pgd(
        model,
        x,
        y_B,
        epsilon=epsilon,
        steps=_STEPS,
        step_size=pgd_step_size(epsilon, steps=_STEPS),
        random_start=True,
        norm=norm,
        restarts=restarts,
        generator=generator,
    )


ATTACKS: Final[Mapping[str, Attack]] = MappingProxyType(
    {
        "fgsm": _fgsm,
        "fgsm-rs": fgsm_rs,
        "pgd": _pgd,
        "pgd-restarts": partial(_pgd, restarts=3),
        "pgd-l2": partial(_pgd, norm="l2"),
        "apgd-ce": apgd,
        "apgd-dlr": partial(apgd, loss="dlr"),
        "apgd-t": partial(apgd, loss="dlr_targeted", steps=_STEPS),
        "apgd-ce-l2": partial(apgd, norm="l2"),
        "fab": partial(fab, steps=_STEPS, restarts=2),
        "fab-t": partial(fab, steps=_STEPS, targeted=True),
        "fab-l2": partial(fab, steps=_STEPS, restarts=2, norm="l2"),
        "square": partial(square, queries=_QUERIES),
        "square-l2": partial(square, queries=_QUERIES, norm="l2"),
    }
)
