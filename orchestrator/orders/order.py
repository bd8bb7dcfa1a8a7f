"""Order of a user to a sweep: a JSON document of format 1."""

from __future__ import annotations

import getpass
import os
import re
import socket
import uuid
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from orchestrator.errors import SpecError, quoted
from orchestrator.planning.changes.extension import Wish, num_points
from orchestrator.state.events import Action
from search_spaces import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.spec.model import Point

ID_PATTERN = r"[0-9a-f]{32}"
NUM_TRIALS = "search.num_trials"
LATEST_S = 1e11
"""A time of the year 5138: later ones are no times, and not every clock can show them."""
SURROGATE = r"[\ud800-\udfff]"
CONTROL = rf"[\x00-\x1f\x7f-\x9f\u2028\u2029]|{SURROGATE}"
MAX_AUTHOR = 256


def in_one_line(author: str) -> str:
    """Return the name of an author; refuse control characters, which a terminal would obey."""
    if len(author) > MAX_AUTHOR or re.search(CONTROL, author):
        raise ValueError(f"must be one line of at most {MAX_AUTHOR} characters")
    return author


Author: TypeAlias = Annotated[str, AfterValidator(in_one_line)]


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
    time: float = Field(ge=0, le=LATEST_S, allow_inf_nan=False)
    author: Author
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

    @model_validator(mode="after")
    def _without_what_it_would_ignore(self) -> Self:
        extends = bool(self.more_trials or self.settings or self.points or self.retry_failed)
        if self.action == "stop" and extends:
            raise ValueError("an order to stop must not extend")
        if self.action == "extend" and (self.trials or self.generation is not None):
            raise ValueError("an order to extend must not name trials or a driver")
        return self

    @property
    def words(self) -> str:
        """Wish in one line, as on the command line."""
        if self.action == "stop":
            return f"stop {', '.join(self.trials) or 'the sweep'}"
        parts = [
            *([f"--trials +{self.more_trials}"] if self.more_trials else []),
            *(f"--set {setting}" for setting in self.settings),
            *([num_points(len(self.points))] if self.points else []),
            *(["--retry-failed"] if self.retry_failed else []),
        ]
        return f"extend {' '.join(parts)}"

    @property
    def wish(self) -> Wish:
        """Changes of the plan that it asks for."""
        return Wish(self.more_trials, self.points, self.settings)


def stop_order(*, now: float, generation: int, trials: Sequence[str] = ()) -> Order:
    """Return an order of this user to stop trials, or the whole sweep that a driver of this generation runs.

    Raises:
        SpecError: the name of a trial is no text.
    """
    _require_text("trial", trials)
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
    trials: int | str | None = None,
    epochs: int | None = None,
    points: Sequence[Point] = (),
    retry_failed: bool = False,
    settings: Sequence[str] = (),
) -> Order:
    """Return an order of this user to extend a sweep.

    Args of note: ``trials`` is ``"+N"`` for N more, or their number in all; ``settings`` are ``path=value``.

    Raises:
        SpecError: the number of trials is none, or is given twice; or a setting is no text.

    Example:
        >>> order = extend_order(now=1.0, trials="+8", epochs=81)
        >>> order.more_trials, order.settings
        (8, ('trial.epochs=81',))
    """
    _require_text("--set", settings)
    more, numbers = _numbers_of(trials)
    settings = [*numbers, *([] if epochs is None else [f"trial.epochs={epochs}"]), *settings]
    if [setting.partition("=")[0] for setting in settings].count(NUM_TRIALS) + (more is not None) > 1:
        raise SpecError([Problem("--trials", "must be the one place with a number of trials; leave the rest out")])
    return Order(
        id=uuid.uuid4().hex,
        time=now,
        author=author(),
        action="extend",
        more_trials=more,
        settings=tuple(settings),
        points=tuple(points),
        retry_failed=retry_failed,
    )


def _numbers_of(trials: int | str | None) -> tuple[int | None, list[str]]:
    """Return the number of further trials, or a setting with their number in all."""
    if trials is None:
        return None, []
    text = str(trials)
    if isinstance(trials, bool) or not re.fullmatch(r"\+?[1-9]\d{0,6}", text):
        raise SpecError([Problem("--trials", f"must be +N for N more, or their number in all; got {quoted(trials)}")])
    return (int(text), []) if text.startswith("+") else (None, [f"{NUM_TRIALS}={text}"])


def _require_text(place: str, values: Iterable[str]) -> None:
    """Refuse bytes of a command line that are no UTF-8, which no order can hold."""
    problems = [
        Problem(place, f"must be text in UTF-8, got {quoted(value)}") for value in values if re.search(SURROGATE, value)
    ]
    if problems:
        raise SpecError(problems)


def author() -> str:
    """Return this user and host, as USER@HOST."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = f"user {os.getuid()}"
    return re.sub(CONTROL, "?", f"{user}@{socket.gethostname()}")[:MAX_AUTHOR]  # the environment may name the user
