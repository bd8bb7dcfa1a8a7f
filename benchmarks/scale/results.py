"""Results of `scale.py`: a file of JSON lines, one for each measured unit, with the machine and the versions."""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

FORMAT = 1
ROOT = Path(__file__).parents[2]
BUSY = 0.3
"""Cores in use by other programs, from which on a unit is marked."""
VERSIONS = ("ray", "torch", "optuna", "mlflow", "sqlalchemy")


@dataclass(frozen=True)
class Row:
    """A measured unit: a stage at a size, its values by name, and where it was measured."""

    stage: str
    size: int
    values: Mapping[str, float]
    machine: Mapping[str, Any]
    revision: str

    @property
    def is_busy(self) -> bool:
        """Return True if other programs computed on the machine when the unit began: times say little then."""
        return bool(self.machine["busy_cores"] > BUSY)

    @property
    def mark(self) -> str:
        """Return the mark of a busy machine in a table."""
        return " *" if self.is_busy else ""


@dataclass(frozen=True)
class Results:
    """Rows of a file; of a unit that was measured more than once, the last one counts. Without a path none is kept."""

    path: Path | None

    def rows(self) -> dict[tuple[str, int], Row]:
        """Return the rows by stage and size.

        Raises:
            ValueError: a line is not one of this format.
        """
        return {(row.stage, row.size): row for row in self._all()}

    def append(self, stage: str, size: int, values: Mapping[str, float], *, busy: float) -> None:
        """Print a measured unit, and append it to the file."""
        document = {
            "format": FORMAT,
            "stage": stage,
            "size": size,
            "values": {name: round(value, 4) for name, value in values.items()},
            "machine": machine() | {"busy_cores": round(busy, 1)},
            "revision": revision(),
        }
        print(json.dumps({name: document[name] for name in ("stage", "size", "values")}), flush=True)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(document) + "\n")

    def _all(self) -> Iterator[Row]:
        if self.path is None or not self.path.exists():
            return
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                document = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{self.path}:{number}: must be a line of JSON; delete it") from error
            if document.get("format") != FORMAT:
                raise ValueError(f"{self.path}:{number}: must have format {FORMAT}, got {document.get('format')!r}")
            names = ("stage", "size", "values", "machine", "revision")
            yield Row(**{name: document[name] for name in names})


def machines(rows: Mapping[tuple[str, int], Row]) -> str:
    """Return a line for each machine and revision, with what was measured there."""
    text = (
        "{processor}, {cores} cores, {memory_gb} GB, {system}, Python {python}, Ray {ray}, torch {torch}, "
        "Optuna {optuna}, MLflow {mlflow}, SQLAlchemy {sqlalchemy}"
    )
    by_machine: dict[str, list[str]] = {}
    for (stage, size), row in sorted(rows.items()):
        by_machine.setdefault(f"{text.format(**row.machine)}, at `{row.revision}`", []).append(f"{stage} {size:,}")
    return "\n".join(f"- {where}: {', '.join(units)}" for where, units in by_machine.items()) or "Not measured yet."


def machine() -> dict[str, Any]:
    """Describe this machine."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory_gb),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in VERSIONS},
    }


def spread(name: str, values: Sequence[float], scale: float = 1.0) -> dict[str, float]:
    """Return the median of values, the smallest and the largest.

    >>> spread("a", [3.0, 1.0, 2.0], 10)
    {'a': 20.0, 'a low': 10.0, 'a high': 30.0}
    """
    shown = {"": statistics.median(values), " low": min(values), " high": max(values)}
    return {f"{name}{which}": scale * value for which, value in shown.items()}


def busy_cores() -> float:
    """Return how many cores are in use now, by the second that follows."""
    before = _jiffies()
    time.sleep(1.0)
    after = _jiffies()
    total, idle = (sum(now) - sum(then) for now, then in ((after, before), (after[3:5], before[3:5])))
    return (os.cpu_count() or 1) * (1 - idle / max(1, total))


def _jiffies() -> list[int]:
    """Return the time of all cores by kind; idle and waiting for a disk are the fourth and the fifth."""
    line = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0]
    return [int(field) for field in line.split()[1:9]]


def processor() -> str:
    """Return the name of the processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def revision() -> str:
    """Return the revision of the working tree, with a mark if the code was changed since."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    changes = _git("status", "--porcelain", "orchestrator", "trainables")
    return f"{commit or 'unknown'}{'+changes' if changes else ''}"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return done.stdout.strip()
