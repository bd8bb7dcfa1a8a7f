"""The complaint in the logs of a Ray that did not start."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAX_CAUSE = 150
_AGENTS = ("dashboard_agent.err", "dashboard_agent.log", "runtime_env_agent.err", "runtime_env_agent.log")
_EXCEPTION = re.compile(r"(?P<text>[\w.]*(?:Error|Exception): .*\S)")
_SERVERS = ("raylet.err", "raylet.out", "gcs_server.err", "gcs_server.out")
_COMPLAINT = re.compile(r"\[[^]]* [EFC] \d+ \d+\] (?:\(\w+\) )?(?:[\w./]+:\d+: )?(?:.*Check failed: )?(?P<text>.*\S)")


def complaint_in(logs: Path, keeper_log: Path) -> str | None:
    """Return the last line of Ray's logs that complains, with the name of its file; the keeper's own is asked last."""
    searches = [*((name, _EXCEPTION) for name in _AGENTS), *((name, _COMPLAINT) for name in _SERVERS)]
    for name, pattern in searches:
        complaints = [match["text"] for line in _lines(logs / name) if (match := pattern.match(line))]
        if complaints:
            return f"{name}: {in_one_line(complaints[-1])}"
    return next((in_one_line(line) for line in reversed(_lines(keeper_log)) if line.strip()), None)


def in_one_line(text: str) -> str:
    """Return a text in one line of limited length."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_CAUSE else f"{line[:MAX_CAUSE]}..."


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
