"""Optimizer and learning rate of a trial."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from trainables.config.values import Arguments, Fractions, Frozen, Real, of_own_code
from trainables.import_paths import name_in

__all__ = ["OPTIMIZER_GROUP", "OptimizerConfig"]

OPTIMIZER_NAMES = ("sgd", "adamw")
OPTIMIZER_GROUP = "ravel.optimizers"
"""Entry point group in which packages register optimizers."""


class OptimizerConfig(Frozen):
    """Optimizer and learning rate; `momentum` is beta_1 for adamw, and the schedule is applied at every step.

    `name` may be the import path of a user's own class or function, whose arguments are `args`. It gets `momentum`,
    `nesterov` and `weight_decay` where its signature has them (see `trainables.engine.own_optimizers`).
    `schedule`: 'step' multiplies the rate by `decay` at each of `milestones` (fractions of the epochs),
    'one_cycle' rises linearly over the first 3/10 and falls linearly to 0. `warmup_epochs` rise linearly
    before any other schedule begins. `clip_norm` bounds the gradient's global L2 norm. With `ema_decay`
    above 0, the exponential moving average of the weights is evaluated; its decay rises to `ema_decay`. With
    `sam_rho` above 0, each step takes the gradient at weights moved by so much, in L2, up the loss: sharpness-aware
    minimisation (Foret et al., 2021), with any optimizer.
    """

    name: Annotated[str, name_in(OPTIMIZER_NAMES, group=OPTIMIZER_GROUP)] = "sgd"
    args: Arguments = Arguments()
    lr: Annotated[Real, Field(gt=0)] = 0.05
    momentum: Annotated[Real, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: Annotated[Real, Field(ge=0)] = 1e-4
    schedule: Literal["cosine", "constant", "step", "one_cycle"] = "cosine"
    warmup_epochs: Annotated[Real, Field(ge=0)] = 0.0
    milestones: Fractions = (0.5, 0.75)
    decay: Annotated[Real, Field(gt=0, lt=1)] = 0.1
    clip_norm: Annotated[Real, Field(gt=0)] | None = None
    ema_decay: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    # Absent where it is not set, so that configurations are what they were before it.
    sam_rho: Annotated[Real | None, Field(ge=0, exclude_if=lambda value: value is None)] = None

    @property
    def is_own(self) -> bool:
        """True if the optimizer is not one of this package.

        >>> OptimizerConfig().is_own, OptimizerConfig(name="torch.optim:RMSprop").is_own
        (False, True)
        """
        return self.name not in OPTIMIZER_NAMES

    @field_validator("args")
    @classmethod
    def _takes_arguments(cls, args: Arguments, info: ValidationInfo) -> Arguments:
        return of_own_code(args, info.data.get("name"), OPTIMIZER_NAMES)

    @field_validator("nesterov")
    @classmethod
    def _needs_momentum(cls, nesterov: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
        if nesterov and info.data.get("name") == "sgd" and info.data.get("momentum") == 0:
            raise ValueError("must be false where optimizer.momentum is 0, got True")
        return nesterov
