"""Findings: the result of a check in one line, with the fix where something is broken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from orchestrator.errors import MAX_LINE_LENGTH, OrchestratorError, SpecError, cut, visible
from orchestrator.redaction import without_password

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Status: TypeAlias = Literal["ok", "warn", "fail", "skipped"]
Check: TypeAlias = "Callable[[], Iterable[Finding]]"
"""A check yields its findings one by one, so that those before a server fell silent are kept."""
STATUSES: tuple[Status, ...] = ("fail", "warn", "ok", "skipped")


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Args:
        name: what was checked.
        status: ``ok``; ``warn``: a sweep runs, and something is worth mending; ``fail``: it cannot do what was asked;
            ``skipped``: not checked, and why.
        text: what was seen, in one line, without secrets.
        fix: what to do; required with ``warn`` and ``fail``.

    Raises:
        ValueError: something is broken, and nothing says how to mend it.

    Example:
        >>> print(Finding("disk results", "fail", "12 MB free", "free some space"))
        FAIL disk results: 12 MB free; free some space
    """

    name: str
    status: Status
    text: str
    fix: str = ""

    def __post_init__(self) -> None:
        if self.status in {"warn", "fail"} and not self.fix:
            raise ValueError(f"{self.name}: {self.status} must have a fix")
        for field, text in (("text", self.text), ("fix", self.fix)):
            object.__setattr__(self, field, cut(visible(without_password(text)), MAX_LINE_LENGTH))

    def __str__(self) -> str:
        word = self.status.upper() if self.status == "fail" else self.status
        return f"{word} {self.name}: {self.text}" + (f"; {self.fix}" if self.fix else "")


@dataclass(frozen=True)
class Group:
    """Findings about one thing: this machine, the storage, a cluster."""

    title: str
    findings: tuple[Finding, ...]

    def has(self, status: Status) -> bool:
        """Return True if a finding has this status."""
        return any(finding.status == status for finding in self.findings)


@dataclass(frozen=True)
class Diagnosis:
    """All groups, in the order in which they are printed.

    ``is_cut_short`` is True if a check gave no answer in time: it may still wait for its server.
    """

    groups: tuple[Group, ...]
    is_cut_short: bool = False

    @property
    def exit_code(self) -> int:
        """0 if nothing failed, 2 if the spec alone is wrong, else 3: the exit codes of every command."""
        broken = {group.title for group in self.groups if group.has("fail")}
        if not broken:
            return 0
        return SpecError.exit_code if broken == {SPEC} else OrchestratorError.exit_code

    def count(self, status: Status) -> int:
        """Return the number of findings of a status."""
        return sum(finding.status == status for group in self.groups for finding in group.findings)


SPEC = "Spec"
"""Title of the group about the spec."""


def ok(name: str, text: str) -> Finding:
    """Return the finding of something that works."""
    return Finding(name, "ok", text)


def warn(name: str, text: str, fix: str) -> Finding:
    """Return the finding of something that is worth mending."""
    return Finding(name, "warn", text, fix)


def fail(name: str, text: str, fix: str) -> Finding:
    """Return the finding of something that is broken."""
    return Finding(name, "fail", text, fix)


def skipped(name: str, text: str) -> Finding:
    """Return the finding of something that was not checked."""
    return Finding(name, "skipped", text)


def split(message: str) -> tuple[str, str]:
    """Return an error message of the house as text and fix: ``PROBLEM; REMEDY``.

    >>> split("12 MB free; free some space")
    ('12 MB free', 'free some space')
    >>> split("does not answer")
    ('does not answer', 'correct that')
    """
    problem, _, remedy = message.partition("; ")
    return problem, remedy or "correct that"
