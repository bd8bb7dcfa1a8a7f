"""Configuration of one trial of a user's own training function: its import path, and its arguments by name.

>>> config = FunctionConfig.from_point({"task": "training:train", "epochs": 9, "lr": 0.1})
>>> config.epochs, config.arguments
(9, {'lr': 0.1})
>>> FunctionConfig.from_point(config.to_point()) == config
True
"""

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, ConfigDict, Field

from trainables.config.points import FlatConfig
from trainables.config.values import scalar_or_list

__all__ = ["PROVIDED", "FunctionConfig"]

PROVIDED = ("context", "epochs", "seed", "device")
"""Arguments that a function receives if its signature has them."""


class FunctionConfig(FlatConfig):
    """Configuration of one trial; every name besides the fields is an argument of the function."""

    trial_kind: ClassVar[str] = "trial of a function"
    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, Annotated[Any, BeforeValidator(scalar_or_list)]]

    task: str = "module:function"
    """Import path of the function."""
    epochs: Annotated[int, Field(ge=1)] = 27
    """Epochs of a full run; the function gets it if its signature has it."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the trial; the function gets it if its signature has it."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """Device; the function gets it if its signature has it."""

    @classmethod
    def accepts(cls, name: str) -> bool:
        """Return True if a parameter may have this name: that of a field, or of an argument of a function.

        >>> FunctionConfig.accepts("lr"), FunctionConfig.accepts("optimizer.lr"), FunctionConfig.accepts("context")
        (True, False, False)
        """
        return name.isidentifier() and name != "context"

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the function by name, without those that are None."""
        return {name: value for name, value in (self.__pydantic_extra__ or {}).items() if value is not None}
