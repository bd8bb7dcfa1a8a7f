"""Error of a worker, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trainables.errors import TrialFailed, WorkerUnusable

if TYPE_CHECKING:
    from orchestrator.state.events import Cause

UNKNOWN = "its worker died"
LONGEST_REASON = 300
MEMORY_REMEDY = (
    "run fewer trials on a machine (resources.cpus, resources.max_concurrent), or lower batch_size or model.width"
)
KILLED = f"its worker was killed or crashed; if dmesg on its machine says out of memory, {MEMORY_REMEDY}"


class WorkerError(NamedTuple):
    """Error that ended an attempt: whose fault it is, one line, and the whole text."""

    cause: Cause
    reason: str
    traceback: str | None


def raised_error(error: Exception, text: str | None) -> WorkerError:
    """Return the error of a worker that raised; ``text`` is its traceback.

    >>> raised_error(OSError("disk is away"), None)
    WorkerError(cause='infrastructure', reason='OSError: disk is away', traceback=None)
    """
    match error:
        case TrialFailed(reason=reason, traceback=whole):
            return WorkerError("user", reason, whole)
        case WorkerUnusable(reason=reason, traceback=whole):
            return WorkerError("infrastructure", reason, whole)
        case _:
            first = (str(error).splitlines() or [""])[0]
            return WorkerError("infrastructure", f"{type(error).__name__}: {first}"[:LONGEST_REASON], text)
