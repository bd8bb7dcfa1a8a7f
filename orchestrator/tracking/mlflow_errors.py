"""What MLflow answers, in our words: the place, what it said, what to do."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.errors import OrchestratorError
from orchestrator.redaction import one_line, without_password

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def store_errors(uri: str, remedy: str) -> Iterator[None]:
    """Promotion whatever MLflow raises inside into an error that names the store and the remedy.

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
        said = f"{type(error).__name__}: {one_line(error)}"
        raise OrchestratorError(f"{without_password(uri)}: {said}; {remedy}") from error
