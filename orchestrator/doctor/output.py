"""A diagnosis as lines for people, and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from orchestrator.doctor.finding import STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.doctor.finding import Diagnosis, Finding

WORDS = {"fail": "FAIL", "warn": "warn", "ok": "ok", "skipped": "-"}
COUNTED = {"fail": "failed", "warn": "to mend", "ok": "well", "skipped": "not checked"}


def lines(diagnosis: Diagnosis) -> Iterator[str]:
    """Yield the lines of a diagnosis: a line for each finding, with the fix, below the title of its group."""
    for group in diagnosis.groups:
        yield group.title
        yield from (line(finding) for finding in group.findings)
        yield ""
    yield summary(diagnosis)


def line(finding: Finding) -> str:
    """Return the line of one finding.

    >>> from orchestrator.doctor.finding import fail
    >>> line(fail("disk results", "12 MB free", "free some space"))
    '  FAIL  disk results: 12 MB free; free some space'
    """
    fix = f"; {finding.fix}" if finding.fix else ""
    return f"  {WORDS[finding.status]:<4}  {finding.name}: {finding.text}{fix}"


def summary(diagnosis: Diagnosis) -> str:
    """Return the last line: how many findings of each status."""
    counts = ((diagnosis.count(status), COUNTED[status]) for status in STATUSES)
    return ", ".join(f"{count} {word}" for count, word in counts if count or word in {"failed", "well"})


def as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis for programs."""
    return {
        "format": 1,
        "exit_code": diagnosis.exit_code,
        "groups": [
            {"title": group.title, "findings": [asdict(finding) for finding in group.findings]}
            for group in diagnosis.groups
        ],
        "counts": {status: diagnosis.count(status) for status in STATUSES},
    }
