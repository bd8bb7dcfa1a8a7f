"""Pauses before a trial is retried that lost its worker: a function of the event log and the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.state.sweep_state import Trial

PAUSES_S = (0.0, 10.0, 30.0, 60.0)
"""Before the first retry, the second, ...; before each further one the last."""


def pause_s(losses: int) -> float:
    """Return the pause after so many lost workers of a trial.

    >>> [pause_s(losses) for losses in range(7)]
    [0.0, 0.0, 10.0, 30.0, 60.0, 60.0, 60.0]
    """
    return PAUSES_S[min(max(losses, 1), len(PAUSES_S)) - 1]


def pause_of(trial: Trial) -> float:
    """Return the pause before the next attempt of a trial: none, unless it alone lost a worker."""
    last = trial.failures[-1] if trial.failures else None
    if last is None or last.cause != "infrastructure" or last.shared_by is not None:
        return 0.0
    return pause_s(trial.failures_of("infrastructure"))


def is_paused(trial: Trial, *, now: float) -> bool:
    """Return True while a trial pauses after the loss of its worker; a clock that was set back ends the pause.

    Example:
        >>> from orchestrator.state.events import AttemptFailed
        >>> from orchestrator.state.sweep_state import Trial
        >>> trial = Trial("t000", "search", {}, {})
        >>> lost = {"trial": "t000", "attempt": 1, "cause": "infrastructure", "reason": "lost"}
        >>> trial.failures.extend(AttemptFailed(time=time, **lost) for time in (1.0, 5.0))
        >>> [is_paused(trial, now=now) for now in (4.0, 5.0, 14.9, 15.0)]
        [False, True, True, False]
    """
    pause = pause_of(trial)
    return pause > 0.0 and 0.0 <= now - trial.failures[-1].time < pause
