"""Run checks at the same time, each within its own time: a broken server neither raises nor hangs the doctor."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.doctor.finding import Diagnosis, Finding, Group, fail
from orchestrator.redaction import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.doctor.finding import Check


@dataclass(frozen=True)
class Examination:
    """Checks of one group, which run one after the other.

    Args:
        title: title of the group.
        checks: yield the findings.
        limit_s: seconds until the group is given up.
        fix: what to do if it gives no answer in that time.
    """

    title: str
    checks: Sequence[Check]
    limit_s: float = 10.0
    fix: str = "look at what it waits for: a folder of a server that is away, or a name server"


@dataclass
class _Running:
    examination: Examination
    findings: list[Finding] = field(default_factory=list)

    def start(self) -> threading.Thread:
        """Start the checks in a thread that does not keep the process, as it may never return."""
        thread = threading.Thread(target=self.work, name=f"ravel-doctor-{self.examination.title}", daemon=True)
        thread.start()
        return thread

    def work(self) -> None:
        """Run the checks; an error of one is its finding, and the next one runs."""
        for check in self.examination.checks:
            try:
                for finding in check():  # one by one, so that none is lost when the time is over
                    self.findings.append(finding)
            except Exception as error:  # noqa: BLE001  a broken machine raises anything
                name = getattr(check, "__name__", "") or getattr(getattr(check, "func", None), "__name__", "check")
                reason = f"the check itself failed ({type(error).__name__}: {one_line(error)})"
                self.findings.append(fail(name.replace("_", " "), reason, "report this line as an issue"))


def examine(examinations: Iterable[Examination]) -> Diagnosis:
    """Run all examinations at the same time, and return their findings in order."""
    started_s, running = time.monotonic(), [_Running(examination) for examination in examinations]
    threads = [one.start() for one in running]
    groups, is_cut_short = [], False
    for one, thread in zip(running, threads, strict=True):
        thread.join(max(0.0, started_s + one.examination.limit_s - time.monotonic()))
        findings = list(one.findings)
        if thread.is_alive():
            is_cut_short = True
            silent = f"no answer within {one.examination.limit_s:g} s"
            findings.append(fail("time", silent, one.examination.fix))
        groups.append(Group(one.examination.title, tuple(findings)))
    return Diagnosis(tuple(groups), is_cut_short)
