"""Acts that accepted orders require: one event for each trial, in a running driver and at the start of the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from orchestrator.decisions.rung import late_decision
from orchestrator.state.events import RungDecided, TrialEnded, TrialReopened
from orchestrator.state.sweep_state import ORDERED

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.state.events import Event, OrderAccepted, TrialStatus
    from orchestrator.state.sweep_state import SweepState, Trial


class Workers(Protocol):
    """Workers of a running driver, as far as orders reach them."""

    def stop(self, trial: str) -> bool:
        """End the worker of a trial, which then records the end; return False if no worker has the trial."""

    def enqueue(self, trial: str) -> None:
        """Have a free worker continue a trial."""


class NoWorkers:
    """Workers of a driver that has not begun: what is due for a worker is taken from the state later."""

    def stop(self, trial: str) -> bool:  # noqa: ARG002  the protocol's
        """Return False: no trial has a worker."""
        return False

    def enqueue(self, trial: str) -> None:
        """Do nothing."""


class Store(Protocol):
    """Event store, as far as acts need it."""

    @property
    def state(self) -> SweepState:
        """State of the sweep."""

    def append(self, event: Event) -> None:
        """Append an event, and apply it."""


def carry_out(store: Store, decisions: DecisionState, workers: Workers, *, clock: Callable[[], float]) -> None:
    """Append what accepted orders require and the log lacks; nothing if it lacks nothing."""
    state = store.state
    for name, order in list(state.to_stop.items()):
        if not workers.stop(name):
            store.append(ordered_end(name, order, now=clock()))
    for name, order in list(state.to_reopen.items()):
        trial = state.trials[name]
        rung = trial.stopping_rung if trial.status == "stopped" else None
        store.append(TrialReopened(time=clock(), order=order.order, trial=name, rung=rung))
        if rung is None and settle(store, decisions, trial, clock=clock):
            workers.enqueue(name)


def settle_unfinished(store: Store, decisions: DecisionState, *, clock: Callable[[], float]) -> None:
    """Decide about trials that had reached their end when an order extended them, and whose driver was killed then."""
    for trial in store.state.with_status("waiting", "interrupted", "running"):
        if trial.has_final_checkpoint:
            settle(store, decisions, trial, clock=clock)


def settle(store: Store, decisions: DecisionState, trial: Trial, *, clock: Callable[[], float]) -> bool:
    """Append the decisions that an extended trial has not met at its last epoch; return True if it continues."""
    while (fields := late_decision(decisions, trial)) is not None:
        store.append(RungDecided(time=clock(), **fields))
    if trial.rejected_at is None:
        return True
    status: TrialStatus = "paused" if decisions.plan.pauses else "stopped"
    store.append(TrialEnded(time=clock(), trial=trial.id, status=status, rung=trial.rejected_at))
    return False


def ordered_end(trial: str, order: OrderAccepted, *, now: float) -> TrialEnded:
    """Return the end of a trial that an order stops."""
    return TrialEnded(time=now, trial=trial, status="stopped", reason=f"{ORDERED} {order.author}")
