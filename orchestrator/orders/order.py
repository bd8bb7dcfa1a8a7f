"""Order of a user to a sweep: a JSON document of format 1."""

from __future__ import annotations

import getpass
import os
import socket
import uuid
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import quoted
from orchestrator.planning.extension import Wish
from orchestrator.state.events import Action

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.spec.model import Point

ID_PATTERN = r"[0-9a-f]{32}"


class Order(BaseModel):
    """Order to stop a sweep or some of its trials, or to extend its plan.

    Args of note: ``generation`` is the driver that a stop of the whole sweep is meant for; ``trials`` are those to
    stop; ``more_trials`` counts from the number in force when the order is answered; ``settings`` are ``path=value``.

    Example:
        >>> order = Order(id="0" * 32, time=1.0, author="ada@gpu-1", action="stop", trials=("t003",))
        >>> Order.read(order.model_dump_json().encode()) == order
        True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    id: str = Field(pattern=f"^{ID_PATTERN}$")
    time: float
    author: str
    action: Action
    generation: int | None = None
    trials: tuple[str, ...] = ()
    more_trials: int | None = Field(default=None, ge=1)
    settings: tuple[str, ...] = ()
    points: tuple[dict[str, Any], ...] = ()
    retry_failed: bool = False

    @classmethod
    def read(cls, content: bytes) -> Order:
        """Read an order.

        Raises:
            ValueError: it is no order of this version; the message has one line.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "content"
            message = f"must be an order of format 1: {place}: {first['msg']}, got {quoted(first['input'])}"
            raise ValueError(message) from None

    @property
    def wish(self) -> Wish:
        """Changes of the plan that it asks for."""
        return Wish(self.more_trials, self.points, self.settings)


def stop_order(*, now: float, generation: int, trials: Sequence[str] = ()) -> Order:
    """Return an order of this user to stop trials, or the whole sweep that a driver of this generation runs."""
    return Order(
        id=uuid.uuid4().hex,
        time=now,
        author=author(),
        action="stop",
        generation=None if trials else generation,
        trials=tuple(trials),
    )


def extend_order(
    *,
    now: float,
    more_trials: int | None = None,
    settings: Sequence[str] = (),
    points: Sequence[Point] = (),
    retry_failed: bool = False,
) -> Order:
    """Return an order of this user to extend a sweep."""
    return Order(
        id=uuid.uuid4().hex,
        time=now,
        author=author(),
        action="extend",
        more_trials=more_trials,
        settings=tuple(settings),
        points=tuple(points),
        retry_failed=retry_failed,
    )


def author() -> str:
    """Return this user and host, as USER@HOST."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
