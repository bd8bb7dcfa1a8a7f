"""Session: what a driver needs of the place where the workers of its sweep run, be that Ray or this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.execution.cluster.capacity import Capacity
    from orchestrator.orders.acts import Workers
    from orchestrator.planning.batch_choice import BatchChoice
    from orchestrator.spec.model import SweepSpec
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_folder import SweepFolder


class Session(Protocol):
    """Place of the workers of a sweep, open for the length of it."""

    @property
    def capacity(self) -> Capacity:
        """Resources for trials, as they were when the session began."""

    def batch_choice(self, spec: SweepSpec) -> BatchChoice | None:
        """Choose the trials of a worker, which may take an epoch of some; None if the spec says how many."""

    def run_trials(
        self,
        decisions: DecisionState,
        store: EventStore,
        folder: SweepFolder,
        *,
        before_step: Callable[[], None],
        orders: Callable[[Workers], None],
    ) -> None:
        """Run every trial that is not over; return when all are over, or raise what ``before_step`` raises.

        ``before_step`` is called before each step, at least ten times a second while nothing blocks, then ``orders``
        with the workers that it may stop.
        """

    def watching(self, on_lost: Callable[[str], None]) -> AbstractContextManager[None]:
        """Watch the place during the work; ``on_lost`` is called once, from another thread, with the reason."""

    def loss(self) -> str | None:
        """Return the reason if the place is lost, which explains an error of ``run_trials``."""

    def abandon(self) -> None:
        """Give up a ``run_trials`` that does not return."""
