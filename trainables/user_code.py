"""Descriptions of what users' code returns and raises, for messages."""

import inspect
import traceback
from typing import Any

from trainables.errors import short_repr

__all__ = ["described", "raised"]


def described(value: object) -> str:
    """Return the type and the value of a result.

    >>> described(0.5), described(None)
    ('float 0.5', 'None')
    """
    return "None" if value is None else f"{type(value).__name__} {short_repr(value)}"


def raised(error: Exception, target: Any) -> str:
    """Return what an error says, with the last line of the file that defines a class, function or object."""
    cause = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    owner = target if isinstance(target, type) or inspect.isroutine(target) else type(target)
    file = inspect.getsourcefile(owner)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"raises {short_repr(cause)}{where}"
