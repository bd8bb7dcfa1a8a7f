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

    A user's own class or function gets `momentum`, `nesterov` and `weight_decay` where its signature has them (see
    `trainables.engine.optimization.own_optimizers`). The schedule 'one_cycle' rises linearly over the first 3/10 and
    falls linearly to 0. With `ema_decay` above 0, the decay of the average rises to it. `sam_rho` is sharpness-aware
    minimisation (Foret et al., 2021), with any optimizer.
    """

    name: Annotated[str, name_in(OPTIMIZER_NAMES, group=OPTIMIZER_GROUP)] = "sgd"
    """'sgd', 'adamw', or the import path of a class or function."""
    args: Arguments = Arguments()
    """Arguments of a user's own optimizer, by name."""
    lr: Annotated[Real, Field(gt=0)] = 0.05
    """Learning rate, the highest of the schedule."""
    momentum: Annotated[Real, Field(ge=0, lt=1)] = 0.9
    """Momentum of sgd; beta_1 of adamw."""
    nesterov: bool = False
    """Nesterov's momentum, for sgd."""
    weight_decay: Annotated[Real, Field(ge=0)] = 1e-4
    """Weight decay."""
    schedule: Literal["cosine", "constant", "step", "one_cycle"] = "cosine"
    """How the rate changes, at every step, to the last epoch."""
    warmup_epochs: Annotated[Real, Field(ge=0)] = 0.0
    """Epochs of a linear rise before any schedule but 'one_cycle' begins."""
    milestones: Fractions = (0.5, 0.75)
    """Fractions of the epochs at which 'step' multiplies the rate by `decay`."""
    decay: Annotated[Real, Field(gt=0, lt=1)] = 0.1
    """Factor of 'step'."""
    clip_norm: Annotated[Real, Field(gt=0)] | None = None
    """Bound of the gradient's global L2 norm; None: no bound."""
    ema_decay: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    """Decay of the average of the weights that is evaluated; 0 evaluates the weights themselves."""
    # Absent where it is not set, so that configurations are what they were before it.
    sam_rho: Annotated[Real | None, Field(ge=0, exclude_if=lambda value: value is None)] = None
    """Distance, in L2 and up the loss, at whose weights each step takes the gradient (SAM's rho); 0 and None: none."""

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
