"""Everything that can go wrong outside a trial, and the exit code it has.

::

    OrchestratorError
    |-- SpecError            2    the spec or the arguments are wrong: every problem at once
    |-- PreflightError       3    the machine, the data or a server cannot do what the spec asks
    |-- SweepNotFound        2    no sweep of that name in this storage
    |-- SweepLocked            3    another driver runs this sweep
    |-- LogDamaged           3    an event log that cannot be read
    |-- LogIncomplete        3    events that could not be written before the driver left
    |-- WrongLocation        2    an s3:// address that breaks the grammar
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


class OrchestratorError(Exception):
    """Base of the tree; ``exit_code`` is what the command line exits with."""

    exit_code: ClassVar[int] = 3


class SpecError(OrchestratorError):
    """A spec that cannot run: ``problems`` lists every mistake, each with its path."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PreflightError(OrchestratorError):
    """What a machine was asked and could not do: ``problems`` lists every one."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class SweepNotFound(OrchestratorError):
    """No sweep of that name."""

    exit_code = 2


class SweepLocked(OrchestratorError):
    """Another driver holds the sweep."""


class LogDamaged(OrchestratorError):
    """An event log with a line that is no event."""


class LogIncomplete(OrchestratorError):
    """Events that never reached the disk."""


class WrongLocation(OrchestratorError):
    """An address of S3 that breaks the grammar."""

    exit_code = 2


class StorageError(OrchestratorError):
    """S3 refused, or could not be reached; says where, what the server said and what to do, and never a secret."""


class ObjectMissing(StorageError):
    """No object of that key."""


class ObjectChanged(StorageError):
    """An object is no longer the version that was asked for."""


class Interrupted(OrchestratorError):
    """The user stopped the sweep; what was measured is in its event log."""

    exit_code = 130
