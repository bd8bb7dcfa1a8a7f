"""Context of a training function: where it starts, and how it saves its state."""

from collections.abc import Callable, Mapping
from typing import Any, final

__all__ = ["TrialContext"]

State = Mapping[str, Any]


@final
class TrialContext:
    """Argument `context` of a training function.

    `epoch` is the number of complete epochs, 0 at the start; `epochs` are those to train. `restored` is the state
    that the function saved after `epoch`, else None. `device` is `cpu` or `cuda`, `seed` that of the trial.

    A function that saves nothing is resumed by running its first epochs once more.

    >>> context = TrialContext(epoch=0, epochs=3, seed=1, device="cpu", restored=None)
    >>> context.save_with(lambda: {"weight": 0.5})
    >>> context.state()
    {'weight': 0.5}
    """

    def __init__(self, *, epoch: int, epochs: int, seed: int, device: str, restored: State | None) -> None:
        self.epoch, self.epochs, self.seed, self.device, self.restored = epoch, epochs, seed, device, restored
        self._state: Callable[[], State] | None = None

    def save_with(self, state: Callable[[], State]) -> None:
        """Save what `state` returns, whenever a checkpoint is due; call this once, before the first epoch.

        Args:
            state: Returns tensors, numbers, texts, and dicts and lists of these: for example
                `lambda: {"model": model.state_dict(), "optimizer": optimizer.state_dict()}`.
        """
        self._state = state

    def state(self) -> State | None:
        """Return the state to save; None if the function saves nothing."""
        return None if self._state is None else self._state()
