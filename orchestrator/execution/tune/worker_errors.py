"""Errors of workers in plain words, read from the files that Tune writes into the driver's staging folder."""

from __future__ import annotations

import pickle
from pathlib import Path

from ray.exceptions import RayActorError

from orchestrator.execution.trials.worker_error import (
    KILLED,
    LONGEST_REASON,
    MEMORY_REMEDY,
    UNKNOWN,
    WorkerError,
    raised_error,
)

PLAIN = (
    ("running low on memory", f"its worker was killed because its machine ran low on memory; {MEMORY_REMEDY}"),
    (
        "connection error code 2",
        KILLED,
    ),
    ("because its node has died", "its machine is gone, or no longer answers"),
    ("actor is temporarily unavailable", "the connection to its worker broke; its machine may be gone"),
)
"""What Ray writes of a dead worker, and what to say of it."""


def worker_error(text_file: str | None, pickle_file: str | None) -> WorkerError:
    """Return the error of a trial of Tune whose actor raised, or is lost, from its two error files."""
    text = _text(text_file)
    match _raised(pickle_file):
        case RayActorError(preempted=True):
            return WorkerError("preemption", plain_reason(text or ""), text)
        case Exception() as error:
            return raised_error(error, text)
        case _:
            return WorkerError("infrastructure", plain_reason(text or ""), text)


def plain_reason(text: str) -> str:
    r"""Return one line of Ray's text about a lost worker.

    >>> plain_reason("The actor died unexpectedly before finishing this task.\nThe actor died because its node died.")
    'The actor died because its node died.'
    >>> plain_reason("The actor 3feb301f is unavailable: The actor is temporarily unavailable: RpcError: Socket closed")
    'the connection to its worker broke; its machine may be gone'
    >>> plain_reason("1 worker(s) were killed due to the node running low on memory.").partition(";")[0]
    'its worker was killed because its machine ran low on memory'
    """
    for sign, words in PLAIN:
        if sign in text:
            return words
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return UNKNOWN
    if "raised in its creation task" in lines[0]:
        return lines[-1][:LONGEST_REASON]
    causes = (line for line in lines[1:] if line.startswith(("The actor is dead because", "The actor died because")))
    return next(causes, lines[0])[:LONGEST_REASON]


def _text(path: str | None) -> str | None:
    """Return Tune's text of the last failure."""
    try:
        text = Path(path or "").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return "\n".join(text.rpartition("Failure #")[2].splitlines()[1:])


def _raised(path: str | None) -> Exception | None:
    """Return the exception that the actor raised, or its death with its node if that was announced; None if neither."""
    try:
        error = pickle.loads(Path(path or "").read_bytes())  # noqa: S301  written by Tune in this process
    except Exception:  # noqa: BLE001  missing, or of a class that cannot be read here: the text is left
        return None
    if isinstance(error, RayActorError):
        return error if error.preempted else None
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else None
