"""Import of a library that an export needs and an extra installs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from search_spaces.errors import MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType


def library(name: str, *, extra: str) -> ModuleType:
    """Import a library.

    Raises:
        MissingExtraError: it is not installed; names the extra that installs it.

    >>> library("no_such_library", extra="export")
    Traceback (most recent call last):
    search_spaces.errors.MissingExtraError: no_such_library is not installed: pip install 'ravel-sweeps[export]'
    """
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise  # a library that is installed, and lacks one of its own
        raise MissingExtraError(package, extra=extra) from error
