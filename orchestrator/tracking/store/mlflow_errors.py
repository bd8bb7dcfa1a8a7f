"""Errors of MLflow as our own: the store, MLflow's message, and the remedy."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.errors import OrchestratorError
from orchestrator.redaction import one_line, without_password
from orchestrator.storage.proxies import proxy_note

if TYPE_CHECKING:
    from collections.abc import Iterator

UNREACHED = re.compile(r"max retries|connection|timed out|proxy|\b(403|407|502|503|504)\b", re.IGNORECASE)
"""Messages of MLflow's client about a server that did not answer itself."""


@contextmanager
def store_errors(uri: str, remedy: str) -> Iterator[None]:
    """Raise any error of MLflow inside as one of ours, which names the store and the remedy.

    Args:
        uri: Address of the store; its password is removed.
        remedy: Advice for the user.

    Raises:
        OrchestratorError: MLflow refused, or did not answer.

    Example:
        >>> with store_errors("http://ada:secret@host:5000", "is the server up?"):
        ...     raise ConnectionError("refused")
        Traceback (most recent call last):
        orchestrator.errors.OrchestratorError: http://***@host:5000: ConnectionError: refused; is the server up?
    """
    try:
        yield
    except OrchestratorError:
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {one_line(error)}"
        note = proxy_note(uri) if UNREACHED.search(str(error)) else ""
        raise OrchestratorError(f"{without_password(uri)}: {message}; {remedy}{note}") from error
