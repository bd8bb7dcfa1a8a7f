"""Callback by which the driver has its part in each step of Tune's loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.tune import Callback

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray.tune.experiment import Trial as TuneTrial


class StepCallback(Callback):
    """Callback that runs before each step of Tune's loop, at least ten times a second; it may raise to leave the loop.

    Tune releases its actors if it leaves by an ``Exception``, and leaves at once by any other ``BaseException``.
    """

    def __init__(self, before_step: Callable[[], None]) -> None:
        self._before_step = before_step

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:  # noqa: ARG002
        """Run it."""
        self._before_step()

    def __getstate__(self) -> dict[str, object]:
        """Return nothing: Tune pickles its callbacks into a file that is never read."""
        return {}
