"""Change a sweep, for the command line and Python: give it an order and return the answer, or plan a fork of it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.analysis.result import SweepResult
from orchestrator.decisions.trial_views import DecisionState
from orchestrator.errors import OrchestratorError, RefusedOrder, SpecError, quoted
from orchestrator.orders.acts import NoWorkers, carry_out
from orchestrator.orders.answers import answer
from orchestrator.orders.book import book_of, submit, unanswered
from orchestrator.orders.order import extend_order, stop_order
from orchestrator.orders.waiting import wait_for_answer
from orchestrator.planning.changes.fork import Fork, further_points
from orchestrator.planning.changes.fork import confirmation as planned_confirmation
from orchestrator.planning.changes.fork import fork as planned_fork
from orchestrator.planning.changes.original import require_original
from orchestrator.planning.plan import SweepPlan
from orchestrator.state.log_segments import end_of
from orchestrator.state.sweep_folder import reference
from orchestrator.state.sweep_lock import held_generation, is_held
from search_spaces import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.execution.progress import ProgressCallback
    from orchestrator.orders.book import Unreadable
    from orchestrator.orders.order import Order
    from orchestrator.state.events import Event, OrderAccepted, OrderRefused
    from orchestrator.state.sweep_folder import SweepFolder

WAIT_S = 20.0
BEST = 4
TOP = 3
SEEDS = 5


@dataclass(frozen=True)
class OrderAnswer:
    """Answer of a sweep to an order that was not refused; its text is that of the command line.

    ``outcome`` is ``accepted`` by a driver, or ``written`` for the next one, which ``ravel resume`` starts; then the
    other fields are as the driver will compute them from the state of now.

    Example:
        >>> print(OrderAnswer("digits-1", "0a", "accepted", notes=("search.num_trials: 8 to 10",)))
        digits-1: accepted
          search.num_trials: 8 to 10
    """

    sweep: str
    order: str
    outcome: Literal["accepted", "written"]
    trials: tuple[str, ...] = ()
    """Trials that are stopped, or continue."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """New values of fields of the spec, by their dotted names."""
    notes: tuple[str, ...] = ()
    """Changes in words."""
    reference: str = ""
    """Arguments that name the sweep in a command."""

    def __str__(self) -> str:
        later = f", to be applied by ravel resume {self.reference}" if self.outcome == "written" else ""
        return "".join([f"{self.sweep}: {self.outcome}{later}", *(f"\n  {note}" for note in self.notes)])


def stop(folder: SweepFolder, trials: Sequence[str] = (), *, wait_s: float = WAIT_S) -> OrderAnswer:
    """Stop a sweep that a driver runs, or some of its trials.

    Raises:
        RefusedOrder: a trial does not exist, or is over.
        OrchestratorError: no driver runs it, or the driver does not answer in time.
        SweepCopied: the folder is a copy of the sweep's.
        StorageError: the folder cannot be written, or S3 does not answer.
    """
    generation = held_generation(folder)
    if generation is None:
        raise OrchestratorError(_without_driver(folder))
    return give(folder, stop_order(now=time.time(), generation=generation, trials=trials), wait_s=wait_s)


def give(folder: SweepFolder, order: Order, *, wait_s: float = WAIT_S, now: bool = False) -> OrderAnswer:
    """Write an order into a sweep, and return the answer.

    A sweep without a driver refuses at once what it can see; with ``now`` the order is applied here, else by the next
    driver.

    Raises:
        RefusedOrder: nothing was changed; lists every reason.
        OrchestratorError: the driver does not answer in time; or there is none that could stop.
        SweepCopied: the folder is a copy of the sweep's.
        StorageError: the folder cannot be written, or S3 does not answer.
    """
    if not wait_s >= 0:
        raise SpecError([Problem("--wait", f"must be a number of seconds >= 0, got {wait_s:g}")])
    require_original(SweepPlan.load(folder), folder)
    runs, start = is_held(folder), end_of(folder.events)
    if order.action == "stop" and not runs:  # it ended a moment ago
        raise OrchestratorError(_without_driver(folder))
    preview = None if runs else _accepted(folder, _preview(folder, order))
    submit(folder, order)
    if preview is not None and not now:
        return _answer(folder, "written", preview)
    if preview is not None:
        from orchestrator import launching  # noqa: PLC0415  imports what a run needs

        launching.answer_orders(folder)
    event = wait_for_answer(folder, order.id, start=start, timeout_s=wait_s)
    if event is None:
        raise OrchestratorError(_unanswered(folder, wait_s))
    return _answer(folder, "accepted", _accepted(folder, event))


def fork(folder: SweepFolder, name: str, *, settings: Sequence[str] = (), best: int = BEST) -> Fork:
    """Return the spec of a new sweep from that of an earlier one and its best points, with a report on each point.

    Raises:
        SpecError: lists every mistake.
    """
    result = SweepResult.read(folder)
    return planned_fork(result.plan, result.state, folder, name=name, settings=settings, best=best)


def confirm(
    folder: SweepFolder,
    name: str | None = None,
    *,
    top: int = TOP,
    seeds: int = SEEDS,
    suites: Sequence[str] = ("clean",),
    metric: str | None = None,
    settings: Sequence[str] = (),
) -> Fork:
    """Return the spec of a sweep that confirms the best configurations of an earlier one against a control.

    Its name is by default that of the earlier one with ``-confirm``.

    Raises:
        SpecError: lists every mistake.
        OrchestratorError: its trials are no classifiers.
    """
    result = SweepResult.read(folder)
    return planned_confirmation(
        result.plan,
        result.state,
        folder,
        name=name or f"{result.plan.spec.name}-confirm",
        top=top,
        seeds=seeds,
        suites=suites,
        metric=metric,
        settings=settings,
    )


def number_of_seeds(seeds: int | str, *, further: bool) -> int:
    """Return S of ``5`` or ``"5"``, or N of ``"+5"``, which belongs to a confirmation alone.

    Raises:
        SpecError: it is of the other form, or no such number.

    >>> number_of_seeds(5, further=False), number_of_seeds("+2", further=True)
    (5, 2)
    """
    if re.fullmatch(r"\+[1-9]\d{0,3}" if further else r"[1-9]\d{0,3}", str(seeds)):
        return int(seeds)
    form = "+N, seeds to add to this confirmation" if further else "a whole number, as this sweep is no confirmation"
    raise SpecError([Problem("--seeds", f"must be {form}; got {quoted(str(seeds))}")])


def plan_confirmation(
    folder: SweepFolder,
    name: str | None = None,
    *,
    top: int = TOP,
    seeds: int | str | None = None,
    suites: Sequence[str] = ("clean",),
    metric: str | None = None,
    settings: Sequence[str] = (),
    dry_run: bool = False,
    notify: Callable[[OrderAnswer], None] = lambda _: None,
) -> Fork | SweepFolder:
    """Return the planned confirmation of a search; a confirmation itself is returned with further seeds ordered.

    Args:
        folder: Sweep to confirm, or a confirmation to continue.
        name: Name of the confirmation.
        top: Number of configurations.
        seeds: Number of fresh seeds, 5 by default; of a confirmation ``"+N"``, or None to add none.
        suites: Suites that measure the metric.
        metric: ``"NAME max"`` or ``"NAME min"``; by default the objective's.
        settings: Other values of fields, ``path=value``.
        dry_run: Refuse a confirmation, whose spec is fixed: nothing is left to be planned.
        notify: Called with the answer to the order of further seeds.

    Raises:
        SpecError: lists every mistake.
        OrchestratorError: its trials are no classifiers; or as ``add_seeds``.
    """
    if SweepPlan.load(folder).confirmation is None:
        number = number_of_seeds(SEEDS if seeds is None else seeds, further=False)
        return confirm(folder, name, top=top, seeds=number, suites=suites, metric=metric, settings=settings)
    if dry_run:
        requirement = f"must be left out of {folder.sweep}, a confirmation that is planned already"
        raise SpecError([Problem("--dry-run", f"{requirement}; see ravel status {reference(folder)}")])
    if seeds is not None:
        notify(add_seeds(folder, number_of_seeds(seeds, further=True)))
    return folder


def run_confirmation(
    confirmation: Fork | SweepFolder, *, address: str | None = None, callback: ProgressCallback | None = None
) -> SweepResult:
    """Run a planned confirmation, or what is left of one that began; one that has ended starts no Ray.

    Raises:
        OrchestratorError: as ``ravel.launch`` and ``ravel.resume``.
    """
    from orchestrator import launching  # noqa: PLC0415  imports what a run needs
    from orchestrator.execution.sweep_end import has_orders  # noqa: PLC0415

    if isinstance(confirmation, Fork):
        return launching.launch(confirmation.spec, address=address, callback=callback, parent=confirmation.parent)
    result = SweepResult.read(confirmation)
    is_over = result.state.ended is not None and result.state.ended.status == "completed"
    if is_over and not has_orders(confirmation, result.state):
        return result
    return launching.resume(confirmation, address=address, callback=callback)


def add_seeds(folder: SweepFolder, seeds: int, *, wait_s: float = WAIT_S) -> OrderAnswer:
    """Order further seeds for every configuration of a confirmation.

    Raises:
        SpecError: the sweep confirms nothing.
        RefusedOrder, OrchestratorError, SweepCopied, StorageError: as ``give``.
    """
    result = SweepResult.read(folder)
    if (confirmed := result.plan.confirmation) is None:
        raise SpecError(
            [Problem("--seeds", f"+{seeds} needs a confirmation, and {folder.sweep} searches; leave + out")]
        )
    points = further_points(result.plan, confirmed, result.state, seeds=seeds)
    return give(folder, extend_order(now=time.time(), points=points), wait_s=wait_s)


def _preview(folder: SweepFolder, order: Order) -> OrderAccepted | OrderRefused:
    """Return what the next driver will answer, after the orders that wait for it, as far as can be seen now."""
    result = SweepResult.read(folder)
    decisions = DecisionState(result.plan, result.state)
    store = _Scratch(decisions)

    def answer_to(order: Order | Unreadable) -> OrderAccepted | OrderRefused:
        return answer(order, decisions, has_checkpoint=lambda trial: trial.has_final_checkpoint, now=time.time())

    for earlier in list(unanswered(book_of(folder), result.state.orders)):
        store.append(answer_to(earlier))
        carry_out(store, decisions, NoWorkers(), clock=time.time)
    return answer_to(order)


class _Scratch:
    """Event store without a log: what events would lead to."""

    def __init__(self, decisions: DecisionState) -> None:
        self.state, self._decisions = decisions.state, decisions

    def append(self, event: Event) -> None:
        """Apply an event."""
        self.state.apply(event)
        self._decisions.apply(event)


def _accepted(folder: SweepFolder, event: OrderAccepted | OrderRefused) -> OrderAccepted:
    if event.kind == "order_refused":
        raise RefusedOrder(folder.sweep, event.reasons)
    return event


def _answer(folder: SweepFolder, outcome: Literal["accepted", "written"], event: OrderAccepted) -> OrderAnswer:
    return OrderAnswer(
        folder.sweep,
        event.order,
        outcome,
        trials=event.trials,
        settings=event.settings,
        notes=event.notes,
        reference=reference(folder),
    )


def _without_driver(folder: SweepFolder) -> str:
    ended = SweepResult.read(folder).state.ended
    if ended is not None and ended.status == "completed":
        remedy = f"ravel extend {reference(folder)} adds trials or epochs"
        return f"{folder.sweep}: must run to be stopped, and it has run to its end; {remedy}"
    remedy = f"ravel resume {reference(folder)} continues it, ravel extend {reference(folder)} changes it"
    return f"{folder.sweep}: must have a driver to be stopped, and its driver is gone; {remedy}"


def _unanswered(folder: SweepFolder, wait_s: float) -> str:
    if is_held(folder):
        return f"{folder.sweep}: written, and not answered within {wait_s:g} s; see ravel status {reference(folder)}"
    remedy = f"ravel resume {reference(folder)} answers it"
    return f"{folder.sweep}: written, and the driver ended before it answered; {remedy}"
