"""Messages of Ray's servers to its drivers: a node that is lost, workers that were killed for their memory."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

logger = logging.getLogger(__name__)


@contextmanager
def logged() -> Iterator[None]:
    """Log the messages during the work; Ray prints them, several lines each, between the lines of the sweep.

    The level is INFO: the event log has what became of the trials, and the display each change of the cluster.
    """
    from ray._private import worker  # noqa: PLC0415

    printing = worker.print_to_stdstream
    worker.print_to_stdstream = _log
    try:
        yield
    finally:
        worker.print_to_stdstream = printing


def _log(message: Mapping[str, Any], ignore_prefix: bool) -> None:  # noqa: FBT001  as Ray calls it
    """Take a message in place of ``print_to_stdstream``."""
    del ignore_prefix
    for line in message["lines"]:
        logger.info("Ray: %s", line)
