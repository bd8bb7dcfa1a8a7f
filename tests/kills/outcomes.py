"""Outcomes of sweeps that something happened to, and the file of them: one JSON object a line."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from moments import Moment

VARIABLE = "RAVEL_CHAOS_RESULTS"
"""Environment variable with the path of a file to which every run appends its outcome."""
FORMAT = 1
REPOSITORY = Path(__file__).parents[2]
MEASURED = ("orchestrator", "ravel", "search_spaces", "trainables", "tests/chaos", "tests/kills")
"""Folders whose changes make a run one of no revision."""
COUNTED = {
    "nothing is lost": "points",
    "epochs are contiguous": "points",
    "no point is there twice": "points",
    "MLflow has the metrics of the log": "points",
    "trials end once": "trials",
    "each trial has a run": "trials",
    "runs show how trials ended": "trials",
    "checkpoints are readable": "trials",
    "S3 has the log": "points",
    "replay agrees": "decisions",
    "orders are answered and carried out once": "decisions",
    "the budget is kept": "decisions",
}
"""What each invariant counts that is lost or doubled; an invariant that is not named here counts nothing."""


@dataclass
class Outcome:
    """How a sweep ended after a moment: exit codes, seconds from the kill, and all faults.

    Args:
        moment: The moment.
        suite: Folder of the tests that ran it.
        code: Exit code of the driver.
        noticed_s: Seconds until the driver noticed; None if it did not, or need not.
        recorded_s: Seconds until the end of the sweep was in the log, None if there was no sweep.
        seconds: Seconds until the driver had ended.
        resumed_code: Exit code of the next driver.
        retries: Attempts that were lost to infrastructure, in the whole sweep.
        lost: Number of points, trials and decisions that were lost or doubled, at the end.
        faults: What must not be.
        about: Further circumstances of the run.
        output: What the driver printed.
    """

    moment: Moment
    suite: str = "kills"
    code: int | None = None
    noticed_s: float | None = None
    recorded_s: float | None = None
    seconds: float = 0.0
    resumed_code: int | None = None
    retries: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    about: dict[str, str] = field(default_factory=dict)
    output: str = ""

    def count(self, violations: Mapping[str, list[str]]) -> None:
        """Count what is lost or doubled."""
        self.lost = dict.fromkeys(dict.fromkeys(COUNTED.values()), 0)
        for invariant, texts in violations.items():
            if invariant in COUNTED:
                self.lost[COUNTED[invariant]] += len(texts)


def append(outcome: Outcome, path: Path | None = None) -> None:
    """Append an outcome to a file, by default the one that the environment names, if it names one.

    A run whose moment did not come is no run of its fault, and is left out.
    """
    named = os.environ.get(VARIABLE)
    path = path or (Path(named) if named else None)
    if path is None or outcome.code is None:
        return
    document = {name: value for name, value in asdict(outcome).items() if name not in {"moment", "output"}}
    line = {"v": FORMAT, **asdict(outcome.moment), **document, "time": round(time.time()), **_circumstances()}
    with path.open("a") as file:
        file.write(json.dumps(line, default=str) + "\n")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the outcomes of a file.

    Raises:
        ValueError: a line is of another format; names it.
    """
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        document = json.loads(line)
        if document.get("v") != FORMAT:
            raise ValueError(f"{path}:{number}: must be of format {FORMAT}, is {document.get('v')}")
        yield document


def _circumstances() -> dict[str, Any]:
    return {"revision": _revision(), "machine": _machine()}


def _revision() -> str:
    """Return the commit of the code, with a plus sign if it was changed since."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    return commit + ("+" if _git("status", "--porcelain", "--", *MEASURED) else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(REPOSITORY), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _machine() -> dict[str, Any]:
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory_gb),
        "system": f"{platform.system()} {platform.release()}",
        "python": ".".join(map(str, sys.version_info[:3])),
        "ray": version("ray"),
    }
