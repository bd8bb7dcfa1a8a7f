"""A section of the evidence: what is trained and measured, the stored results, and what is written of them.

A section is a module `sections/NAME.py`, or a package of that name, with a frozen value `SECTION`. `evidence.py` finds
it there. Its results are `data/NAME.jsonl`, one line for each measured unit, and its page is `docs/results/NAME.md`.
"""

import gzip
import json
import math
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from questions import Question

JSON = str | int | float | bool | Sequence[Any] | Mapping[str, Any] | None
Size = Literal["smoke", "whole", "full"]
"""Seconds on digits or few images, for the tests; up to 40 minutes of one core; what a GPU can do, if it differs."""

FORMAT = 1
DATA = Path(__file__).parent / "data"
PACKED_ABOVE = 300_000
"""Size in bytes above which results are compressed."""


class Unit(NamedTuple):
    """What is trained and measured at once, in at most three minutes of one core; a run resumes at this grain.

    `name` is unique in the section, and `settings` are all that identifies the unit: if they change, it is measured
    again.
    """

    name: str
    settings: Mapping[str, JSON]


class Row(NamedTuple):
    """A measured unit: its metrics by name, the CPU time in seconds, and the machine."""

    unit: Unit
    metrics: Mapping[str, Any]
    seconds: float
    machine: Mapping[str, JSON]

    @property
    def name(self) -> str:
        """Name of the unit."""
        return self.unit.name

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of the unit."""
        return self.unit.settings


class Places(NamedTuple):
    """Folders: of the data sets (None: only what needs no download), and of checkpoints that units keep."""

    data_root: Path | None
    kept: Path


@dataclass(frozen=True)
class Section:
    """A section of the evidence.

    `write` returns Markdown by the name of the marker that it goes to, and figures by the name of their file, which
    ends in .svg and lies next to the page. `questions` are written to the marker `NAME conclusions`, and into the table
    of claims. Both are given the rows of all units in their order. `questions` of no rows must have predictions of the
    same claims: the table shows them as not measured yet.
    """

    name: str
    title: str
    units: Callable[[Size], Sequence[Unit]]
    measure: Callable[[Unit, Places], Mapping[str, JSON]]
    write: Callable[[Sequence[Row]], Mapping[str, str]]
    questions: Callable[[Sequence[Row]], Sequence[Question]]


class Store(NamedTuple):
    """Results of a section at one size: a file of JSON lines, and a compressed one of those that were packed."""

    path: Path

    @classmethod
    def of(cls, section: Section, size: Size, *, folder: Path = DATA) -> "Store":
        """Return the store of a section; `whole` is the size without a suffix."""
        return cls(folder / f"{section.name}{'' if size == 'whole' else '-' + size}.jsonl")

    @property
    def packed(self) -> Path:
        """Path of the compressed file."""
        return self.path.with_suffix(".jsonl.gz")

    def rows(self, units: Sequence[Unit]) -> list[Row]:
        """Return the rows of those units that were measured with the same settings, in the order of the units.

        Raises:
            ValueError: a line is not one of this format.
        """
        found = {(row.name, _canonical(row.settings)): row for row in self._all()}
        keys = [(unit.name, _canonical(unit.settings)) for unit in units]
        return [found[key] for key in keys if key in found]

    def append(self, row: Row) -> None:
        """Append a line, in one write, so that two processes may measure a half each."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "format": FORMAT,
            "unit": row.name,
            "settings": row.settings,
            "metrics": row.metrics,
            "seconds": round(row.seconds, 2),
            "machine": row.machine,
        }
        line = json.dumps(_finite(document), allow_nan=False) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def pack(self) -> None:
        """Compress a file that is too large for the repository; its lines stay the same."""
        if self.path.exists() and self.path.stat().st_size > PACKED_ABOVE:
            text = "".join(f"{line}\n" for _, line in self._lines())
            self.packed.write_bytes(gzip.compress(text.encode(), mtime=0))
            self.path.unlink()

    def _all(self) -> Iterator[Row]:
        for place, line in self._lines():
            try:
                document = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{place}: must be a line of JSON, got {line[:40]!r}; delete the line") from error
            if document.get("format") != FORMAT:
                raise ValueError(f"{place}: must have format {FORMAT}, got {document.get('format')!r}")
            unit = Unit(document["unit"], document["settings"])
            yield Row(unit, document["metrics"], document["seconds"], document["machine"])

    def _lines(self) -> Iterator[tuple[str, str]]:
        for path, opened in ((self.packed, gzip.open), (self.path, open)):
            if path.exists():
                with opened(path, "rt", encoding="utf-8") as lines:
                    yield from ((f"{path}:{number}", line.rstrip("\n")) for number, line in enumerate(lines, start=1))


def machine() -> dict[str, JSON]:
    """Describe the machine, the version of torch and the precision of steps."""
    import torch  # noqa: PLC0415

    from trainables.engine.placement import resolve_device, resolve_precision  # noqa: PLC0415

    device = resolve_device("auto")
    cpu = torch.cpu.get_capabilities().get("cpu_name", platform.processor())
    return {
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else str(cpu),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__.partition("+")[0],
        "precision": str(resolve_precision("auto", device)).removeprefix("torch."),
    }


def described(rows: Sequence[Row]) -> str:
    """Describe the machines of rows in words; they are more than one if a run was continued elsewhere."""
    machines = dict.fromkeys(
        "{processor}, threads: {threads}, torch {torch}, steps in {precision}".format(**row.machine) for row in rows
    )
    return "; ".join(machines)


def _canonical(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def _finite(value: Any) -> Any:
    """Return the same value with null for each number that is not finite, as JSON has none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(own) for name, own in value.items()}
    return [_finite(own) for own in value] if isinstance(value, (list, tuple)) else value
