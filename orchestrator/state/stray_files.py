"""Stray files in a sweep's folder: those of other programs, and empty ones. Each is named in one warning and left out.

Copies and synchronised folders bring ``._000001.json`` (macOS), ``events (conflicted copy).jsonl`` (Dropbox) or
``000001 (1).json`` (Google Drive); a machine that loses its power leaves files without content.
"""

from __future__ import annotations

import logging
from functools import cache

logger = logging.getLogger(__name__)


@cache
def leave_out(place: str, reason: str) -> None:
    """Warn that a file or an object is left out: once in a process, as a file is read many times."""
    logger.warning("%s: left out (%s); move it out of the sweep's folder", place, reason)
