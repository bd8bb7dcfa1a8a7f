"""Exceptions of everything that fails outside a trial, with the exit code of each.

::

    OrchestratorError
    |-- SpecError            2    the spec or the arguments are wrong: every problem at once
    |-- PreflightError       3    the machine, the data or a server cannot do what the spec asks
    |   `-- TrialsRefused    2    trials of the spec cannot be built or run: the spec, or the user's own code, is wrong
    |-- SweepNotFound        2    no sweep of that name in this storage
    |-- RefusedOrder         2    an order that a sweep refused: every reason at once; it changed nothing
    |-- SweepLocked          3    another driver runs this sweep
    |-- SweepCopied          3    a copy of a sweep, which must not change what the original has in MLflow
    |-- LogDamaged           3    an event log that cannot be read
    |-- PlanDamaged          3    a plan that is not as it was written at the launch
    |-- LogIncomplete        3    events that could not be written before the driver left
    |-- OwnCodeFailed        3    a user's own sampler or scheduler failed; the sweep can be resumed once it is mended
    |-- WrongLocation        2    an s3:// address that breaks the grammar
    |-- RayLost              3    Ray died under the driver; the sweep can be resumed
    |-- StorageError         3    S3 refused, or could not be reached
    |   |-- ObjectMissing    3    no object of that key
    |   `-- ObjectChanged    3    an object is no longer the version that was asked for
    `-- Interrupted        130    stopped by the user; the sweep can be resumed
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from search_spaces.errors import Problem

MAX_VALUE_LENGTH = 80
MAX_PATH_LENGTH = 120
MAX_LINE_LENGTH = 400
"""Of a message, its path included."""


def quoted(value: object) -> str:
    """Return a value as a message quotes it: its ``repr``, cut to 80 characters.

    >>> quoted("digitz"), len(quoted("x" * 5000))
    ("'digitz'", 80)
    """
    return cut(repr(value), MAX_VALUE_LENGTH)


def visible(text: str) -> str:
    r"""Return a text in one line, its line breaks and control characters escaped.

    >>> visible("t00\n3"), visible("t00\x1b[2J"), visible("météo")
    ('t00\\n3', 't00\\x1b[2J', 'météo')
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def cut(text: str, length: int) -> str:
    """Return the text, or its beginning and ``...`` where it is longer.

    >>> cut("a" * 9, 8)
    'aaaaa...'
    """
    return text if len(text) <= length else f"{text[: length - 3]}..."


class OrchestratorError(Exception):
    """Base of the tree; ``exit_code`` is the exit status of the command line."""

    exit_code: ClassVar[int] = 3


class SpecError(OrchestratorError):
    """A spec that cannot run: ``problems`` lists every mistake with its path, each in 400 characters."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(_fitted(problem) for problem in problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PreflightError(OrchestratorError):
    """A machine that cannot run the spec: ``problems`` lists every reason."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class TrialsRefused(PreflightError):
    """A spec whose trials cannot be built or run, or a user's own code in it; found only with the data and the code."""

    exit_code = 2


class SweepNotFound(OrchestratorError):
    """No sweep of that name."""

    exit_code = 2


class RefusedOrder(OrchestratorError):
    """An order that a sweep refused, and that changed nothing: ``reasons`` lists every one."""

    exit_code = 2

    def __init__(self, sweep: str, reasons: Iterable[str]) -> None:
        self.sweep, self.reasons = sweep, tuple(reasons)
        super().__init__("\n".join([f"{sweep}: refused", *(f"  {reason}" for reason in self.reasons)]))


class SweepLocked(OrchestratorError):
    """Another driver holds the sweep."""


class SweepCopied(OrchestratorError):
    """A copy of a sweep's folder, or of its objects in S3."""


class LogDamaged(OrchestratorError):
    """An event log with a line that is not an event."""


class PlanDamaged(OrchestratorError):
    """A plan that was edited or damaged since the launch."""


class LogIncomplete(OrchestratorError):
    """Events that could not be written to the disk."""


class RayLost(OrchestratorError):
    """Ray died under the driver; the event log has everything that was measured."""


class OwnCodeFailed(OrchestratorError):
    """A user's own sampler or scheduler raised an error, or broke a rule; the event log has all that was measured."""

    def __init__(self, place: str, message: str) -> None:
        self.place, self.message = place, message
        super().__init__(f"{place}: {message}; mend it, then `ravel resume` continues the sweep")


class WrongLocation(OrchestratorError):
    """An ``s3://`` address that breaks the grammar."""

    exit_code = 2


class StorageError(OrchestratorError):
    """S3 refused, or could not be reached; the message has the address, the answer and a remedy, and no secret."""


class ObjectMissing(StorageError):
    """No object of that key."""


class ObjectChanged(StorageError):
    """An object that is no longer the version that was asked for."""


class Interrupted(OrchestratorError):
    """The user stopped the sweep; the event log has everything that was measured."""

    exit_code = 130


def _fitted(problem: Problem) -> Problem:
    """Return the problem within a line: a place keeps its field, a message its remedy."""
    path = _without_middle(visible(problem.path), MAX_PATH_LENGTH)
    message = _without_middle(problem.message, MAX_LINE_LENGTH - len(f"{path}: "))
    return problem._replace(path=path, message=message)


def _without_middle(text: str, length: int) -> str:
    """Return the text, or its beginning and its end where it is longer.

    >>> _without_middle("abcdefghijklmnopqrstuvwxyz", 20)
    'abcdefghi ... uvwxyz'
    """
    if len(text) <= length:
        return text
    end = text[-length // 3 + 1 :]
    return f"{text[: length - len(end) - 5]} ... {end}"
