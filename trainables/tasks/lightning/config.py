"""Configuration of one trial of a user's own `LightningModule`.

>>> point = {"task": "lightning:nets:LitNet", "model.args.width": 32, "data.name": "sets:Digits", "epochs": 9}
>>> config = LightningConfig.from_point(point)
>>> config.module, config.arguments
('nets:LitNet', {'model.args.width': 32, 'data.name': 'sets:Digits'})
>>> LightningConfig.from_point(config.to_point()) == config
True
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from trainables.config.points import FlatConfig
from trainables.config.values import Arguments, Frozen, Real
from trainables.errors import short_repr
from trainables.import_paths import is_import_path

__all__ = ["PREFIX", "LightningConfig"]

PREFIX = "lightning:"
"""Of the task's name, before the import path of the `LightningModule`."""


def _import_path(name: str) -> str:
    if not is_import_path(name):
        raise ValueError(f"must be the import path of a LightningDataModule (module:Class), got {short_repr(name)}")
    return name


class LightningModelConfig(Frozen):
    """Arguments of the `LightningModule`."""

    args: Arguments = Arguments()
    """Arguments by name."""


class LightningDataConfig(Frozen):
    """`LightningDataModule` by import path, and its arguments; None where the module has dataloaders of its own."""

    name: Annotated[str, AfterValidator(_import_path)] | None = None
    """Import path of the `LightningDataModule`."""
    args: Arguments = Arguments()
    """Its arguments, by name."""


class LightningTrainerConfig(Frozen):
    """Arguments of Lightning's `Trainer` that change what is trained; Ravel decides all others."""

    accumulate_grad_batches: Annotated[int, Field(ge=1)] = 1
    """Batches whose gradients one step takes together."""
    gradient_clip_val: Annotated[Real, Field(gt=0)] | None = None
    """Bound of the gradients; None: no bound."""
    gradient_clip_algorithm: Literal["norm", "value"] | None = None
    """Bound their norm or each value; None: Lightning's own."""


class LightningConfig(FlatConfig):
    """Configuration of one trial; `precision` 'auto' is bfloat16 autocast where the device computes in it."""

    trial_kind: ClassVar[str] = "trial of a LightningModule"

    task: str = f"{PREFIX}module:Class"
    """`lightning:` and the import path of the `LightningModule`."""
    model: LightningModelConfig = LightningModelConfig()
    """Arguments of the module."""
    data: LightningDataConfig = LightningDataConfig()
    """Data module."""
    trainer: LightningTrainerConfig = LightningTrainerConfig()
    """Arguments of the trainer."""
    epochs: Annotated[int, Field(ge=1)] = 27
    """Epochs of a full run."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of all that is random."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """Device: 'auto' is the first GPU, or the CPU."""
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """Arithmetic: 'auto' is bfloat16 autocast where the device computes in it."""

    @property
    def module(self) -> str:
        """Import path of the `LightningModule`."""
        return self.task.removeprefix(PREFIX)

    @property
    def arguments(self) -> dict[str, Any]:
        """Name of the data module and the arguments of both classes, by dotted name."""
        return {name: value for name, value in self.to_point().items() if name.startswith(("model.", "data."))}
