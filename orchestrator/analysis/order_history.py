"""Orders of a sweep and what they made of its plan, for people: from the log, and from the order book what waits."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from orchestrator.errors import MAX_LINE_LENGTH, StorageError, cut, visible
from orchestrator.orders.book import Unreadable, book_of, unanswered
from orchestrator.planning.changes.extension import differences, shown_value
from orchestrator.state.events import OrderAccepted

if TYPE_CHECKING:
    from orchestrator.orders.order import Order
    from orchestrator.planning.plan import Parent, SweepPlan
    from orchestrator.state.events import Action, OrderRefused
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_state import SweepState

logger = logging.getLogger(__name__)
Outcome: TypeAlias = Literal["accepted", "refused", "waiting"]
MOST_LINES = 10


@dataclass(frozen=True)
class OrderEntry:
    """Order and its outcome; ``time`` is that of the answer, or of the order while it waits."""

    order: str
    time: float | None
    author: str
    action: Action | None
    outcome: Outcome
    words: tuple[str, ...]
    """Changes of an accepted order, reasons of a refused one, the wish of one that waits."""
    trials: tuple[str, ...] = ()
    """Trials that it stopped, or that continued."""

    def __str__(self) -> str:
        clock = "unknown time" if self.time is None else _clock(self.time)
        author = self.author or "an unknown user"
        return cut(visible(f"{clock}  {author}  {self.outcome}: {'; '.join(self.words)}"), MAX_LINE_LENGTH)


def order_history(state: SweepState, folder: SweepFolder) -> tuple[OrderEntry, ...]:
    """Return all orders of a sweep: those with an answer, in the order of the log, then those that wait.

    If the order book cannot be read, warn and return those with an answer.
    """
    try:
        waiting = tuple(map(_waiting, unanswered(book_of(folder), state.orders)))
    except StorageError as error:
        logger.warning("orders that wait are not shown: %s", error)
        waiting = ()
    return (*answered_orders(state), *waiting)


def answered_orders(state: SweepState) -> tuple[OrderEntry, ...]:
    """Return the orders that have an answer, in the order of the log."""
    return tuple(map(_answered, state.orders.values()))


def order_lines(orders: tuple[OrderEntry, ...], *, most: int = MOST_LINES) -> list[str]:
    """Return a line for each order, the latest ``most`` of them."""
    left_out = len(orders) - most
    earlier = [f"{left_out} more before these: ravel status --json"] if left_out > 0 else []
    return [*earlier, *(str(order) for order in orders[-most:])]


def lineage(plan: SweepPlan) -> dict[str, Any]:
    """Return, as plain data, what accepted orders changed in the plan since the launch, and the parent of a fork."""
    launched = plan.launched
    changes = {path: list(pair) for path, pair in differences(launched.spec, plan.spec).items()}
    rungs = {"rungs": [list(launched.rungs), list(plan.rungs)]} if launched.rungs != plan.rungs else {}
    parent = plan.parent and {
        "kind": _kind(plan.parent),
        "sweep": plan.parent.sweep,
        "place": plan.parent.place,
        "trials": [*plan.parent.trials],
    }
    return {"changed": {**changes, **rungs}, "parent": parent}


def lineage_lines(plan: SweepPlan) -> list[str]:
    """Return a line for each number of the plan that differs from the launch, and one for the parent of a fork."""
    launched, parent = plan.launched, plan.parent
    pairs = differences(launched.spec, plan.spec).items()
    lines = [
        f"{path}: {shown_value(old, path)} at the launch, {shown_value(new, path)} now" for path, (old, new) in pairs
    ]
    if launched.rungs != plan.rungs:
        lines.append(f"rungs: {_listed(launched.rungs)} at the launch, {_listed(plan.rungs)} now")
    if parent is not None:
        lines.append(
            f"{_kind(parent)} of {parent.sweep}" + (f", from {', '.join(parent.trials)}" if parent.trials else "")
        )
    return lines


def _kind(parent: Parent) -> str:
    return "fork" if parent.confirmation is None else "confirmation"


def as_json(orders: tuple[OrderEntry, ...]) -> list[dict[str, Any]]:
    """Return orders as plain data for ``--json``."""
    return [asdict(order) for order in orders]


def _answered(event: OrderAccepted | OrderRefused) -> OrderEntry:
    if isinstance(event, OrderAccepted):
        return OrderEntry(
            event.order, event.time, event.author, event.action, "accepted", words=event.notes, trials=event.trials
        )
    return OrderEntry(event.order, event.time, event.author, event.action, "refused", words=event.reasons)


def _waiting(order: Order | Unreadable) -> OrderEntry:
    if isinstance(order, Unreadable):
        return OrderEntry(order.id, None, "", None, "waiting", words=(order.reason,))
    return OrderEntry(order.id, order.time, order.author, order.action, "waiting", words=(order.words,))


def _clock(time: float) -> str:
    return datetime.fromtimestamp(time, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _listed(rungs: tuple[int, ...]) -> str:
    return ", ".join(map(str, rungs)) or "none"
