"""Check the token of a Ray cluster: present, and readable by its owner alone."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from orchestrator.doctor.finding import Finding, fail, ok, skipped, warn
from orchestrator.execution.cluster import authentication

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OTHERS, ENTER = 0o077, 0o011


def token_findings(address: str) -> Iterator[Finding]:
    """Yield the findings on the token that this process would use at an address."""
    if not authentication.uses_token():
        yield skipped("token", f"{authentication.MODE} says that none is used")
        return
    token, file = authentication.token_here(), authentication.token_file()
    if file.is_file():
        yield from file_findings(file)
    if token.text is not None:
        yield ok("token", f"from {token.source}")
    elif address == "local":
        yield skipped("token", "none is set; a private Ray makes its own for each sweep")
    else:
        yield warn("token", "none is set", authentication.remedy_without(token))


def is_open(file: Path) -> bool:
    """Return True if other users can enter every folder above a file: a home of mode 700 keeps them out."""
    return all(folder.stat().st_mode & ENTER for folder in file.resolve().parents)


def file_findings(file: Path) -> Iterator[Finding]:
    """Yield the finding on the file of a token: a user who has a token runs code as its owner."""
    try:
        mode = file.stat().st_mode & 0o777
    except OSError:
        return
    if mode & OTHERS and is_open(file):
        fix = f"chmod 600 {shlex.quote(str(file))}, and make a new token if this machine has other users"
        yield fail("token file", f"{file} can be read by other users ({mode:o})", fix)
    else:
        yield ok("token file", f"{file} can be read by its owner alone")
