"""Thread in which Tune runs, so that its driver can leave it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ray._private import auto_init_hook
from ray.tune import Callback

from orchestrator import timeouts
from orchestrator.state.event_store import SweepOver

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray.tune.experiment import Trial as TuneTrial


class StopTune(Exception):
    """Raised between two events of Tune, so that it leaves its loop and releases its actors."""


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


class FitThread(threading.Thread):
    """Thread of a ``fit``, which its driver can leave.

    Calls into Ray do not return while the GCS is dead or stopped, and take no signal outside the main thread. So the
    driver waits for this thread, or for a reason to leave it.

    Args:
        fit: Called with the ``before_step`` that it must pass on.
        on_end: Called with None or the error when ``fit`` has ended by itself.
    """

    def __init__(
        self, fit: Callable[[Callable[[], None]], None], *, on_end: Callable[[BaseException | None], None]
    ) -> None:
        super().__init__(name="ravel-tune", daemon=True)
        self._fit, self._on_end = fit, on_end
        self._leaving: BaseException | None = None
        self._has_left = threading.Event()

    def leave(self, *, releasing_actors: bool, timeout_s: float) -> None:
        """Have Tune leave its loop between two events; return when it has, or after the timeout."""
        self._leaving = StopTune() if releasing_actors else SweepOver()
        timeouts.waited(self._has_left.wait, timeout_s)

    def abandon(self) -> None:
        """Give up a thread that does not end; its next call must not start another Ray, as Ray's calls do."""
        auto_init_hook.enable_auto_connect = False

    def run(self) -> None:
        """Run ``fit``."""
        error: BaseException | None = None
        try:
            self._fit(self._before_step)
        except (StopTune, SweepOver):
            return
        except BaseException as raised:  # noqa: BLE001  the driver raises it
            error = raised
        finally:
            self._has_left.set()
        self._on_end(error)

    def _before_step(self) -> None:
        if self._leaving is not None:
            self._has_left.set()
            raise self._leaving
