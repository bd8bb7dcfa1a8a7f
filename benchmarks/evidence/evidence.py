"""Measure the sections of the evidence, and write their pages from the stored results.

    python benchmarks/evidence/evidence.py list                                    sections, units, time
    python benchmarks/evidence/evidence.py run dose gan --data-root FOLDER         measure what is missing, and write
    python benchmarks/evidence/evidence.py run dose --data-root FOLDER --part 1/2  the first half of the units
    python benchmarks/evidence/evidence.py write [dose ...]                        pages from data; trains nothing

A run appends a line to data/SECTION.jsonl after each unit, and skips the units that are there with the same settings.
Each process computes on one core, so that a result does not depend on how many there are: run a part on each. Times
are seconds of that core's work, which are longer on the clock where other programs run too. Pages
are written when all units of a section are measured, until then they say that it is not measured yet.
"""

import argparse
import importlib
import re
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from answer_tables import claims_table, shown
from questions import Claim, claims_of, unmeasured
from section import DATA, Places, Row, Section, Size, Store, Unit, machine

ROOT = Path(__file__).parents[2]
SECTIONS = Path(__file__).parent / "sections"
CLAIMS = "claims"
"""Marker of the table of claims."""


class Part(NamedTuple):
    """A part of all units: each `count`-th one, so that long and short ones are shared evenly."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Parse `1/2`.

        Raises:
            ValueError: it is not a number from 1, a slash and a number that is not below it.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"part: must be as 1/2, got {text!r}")
        return cls(int(found[1]), int(found[2]))

    def of(self, units: Sequence[Unit]) -> Sequence[Unit]:
        """Return the units of this part."""
        return units[self.number - 1 :: self.count]


def names() -> list[str]:
    """Return the names of all sections."""
    found = (path.stem for path in SECTIONS.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())
    return sorted(name for name in found if not name.startswith("_"))


def load(name: str) -> Section:
    """Import a section."""
    section: Section = importlib.import_module(f"sections.{name}").SECTION
    return section


def run(section: Section, places: Places, *, size: Size, part: Part, folder: Path = DATA) -> list[Row]:
    """Measure the units of a part that are missing; return the rows of all units that are measured now."""
    units, store = section.units(size), Store.of(section, size, folder=folder)
    before = store.rows(units)
    measured = {row.name for row in before}
    left = [unit for unit in part.of(units) if unit.name not in measured]
    seconds = {row.name: row.seconds for row in before}
    print(f"{section.name}: {len(before)} of {len(units)} units are measured, {len(left)} to do here", flush=True)
    for number, unit in enumerate(left):
        start = time.process_time()
        metrics = section.measure(unit, places)
        seconds[unit.name] = time.process_time() - start
        store.append(Row(unit, metrics, seconds[unit.name], machine()))
        spent = f"{seconds[unit.name]:.1f} s"
        print(f"{section.name}: {unit.name}: {spent}, {_minutes(left[number + 1 :], seconds)} left", flush=True)
    rows = store.rows(units)
    if len(rows) == len(units):
        store.pack()
    return rows


def expected_seconds(units: Sequence[Unit], seconds: Mapping[str, float]) -> float | None:
    """Return the time that units will take, by the mean of measured ones; None if none is measured.

    A unit takes the mean of those whose names begin with the same word, or of all.

    >>> units = [Unit("mnist seed 2", {}), Unit("digits seed 1", {})]
    >>> expected_seconds(units, {"mnist seed 0": 60, "mnist seed 1": 80})
    140.0
    """
    if not seconds:
        return None
    kinds: dict[str, list[float]] = {}
    for name, own in seconds.items():
        kinds.setdefault(name.split()[0], []).append(own)
    overall = statistics.mean(seconds.values())
    means = (kinds.get(unit.name.split()[0]) for unit in units)
    return float(sum(overall if own is None else statistics.mean(own) for own in means))


def _minutes(units: Sequence[Unit], seconds: Mapping[str, float]) -> str:
    found = expected_seconds(units, seconds)
    return "unknown time" if found is None else f"{found / 60:.1f} min"


def write(section: Section, *, size: Size = "whole", folder: Path = DATA, docs: Path = ROOT / "docs") -> None:
    """Write the page of a section: its tables and figures, or that it is not measured yet."""
    page = docs / "results" / f"{section.name}.md"
    rows, total = _measured(section, size, folder=folder)
    text = page.read_text(encoding="utf-8")
    if len(rows) == total:
        for name, own in contents(section, rows).items():
            if name.endswith(".svg"):
                (page.parent / name).write_text(own, encoding="utf-8")
            else:
                text = between_markers(text, name, own)
    else:
        note = f"Not measured yet ({len(rows)} of {total} units). Run {command(section.name)}."
        for name in re.findall(r"<!-- (.+?): begin -->", text):
            text = between_markers(text, name, note)
    page.write_text(text, encoding="utf-8")


def contents(section: Section, rows: Sequence[Row]) -> dict[str, str]:
    """Return what is between the markers of a page, and its figures."""
    return {**section.write(rows), f"{section.name} conclusions": shown(section.questions(rows), rows)}


def write_claims(sections: Sequence[Section], *, folder: Path = DATA, docs: Path = ROOT / "docs") -> None:
    """Write the table of the claims of all sections into docs/results.md; it has no verdict without measurements."""
    page = docs / "results.md"
    table = claims_table({section.name: claims(section, folder=folder) for section in sections})
    page.write_text(between_markers(page.read_text(encoding="utf-8"), CLAIMS, table), encoding="utf-8")


def claims(section: Section, *, folder: Path = DATA) -> list[Claim]:
    """Return the claims of a section; not measured yet unless all units of the whole size are."""
    rows, total = _measured(section, "whole", folder=folder)
    if len(rows) < total:
        return unmeasured(section.questions(()))
    return claims_of(section.questions(rows), rows)


def _measured(section: Section, size: Size, *, folder: Path) -> tuple[list[Row], int]:
    """Return the rows of a section, and the number of its units."""
    units = section.units(size)
    return Store.of(section, size, folder=folder).rows(units), len(units)


def between_markers(text: str, name: str, contents: str) -> str:
    """Return a page with contents between `<!-- NAME: begin -->` and `<!-- NAME: end -->`.

    Raises:
        ValueError: the page does not have the two markers once each.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"page: must have the markers {begin} and {end} once each")
    before, rest = text.split(begin)
    return f"{before}{begin}\n\n{contents}\n\n{end}{rest.split(end)[1]}"


def command(name: str) -> str:
    """Return the command that measures a section."""
    return f'`make evidence SECTIONS="{name}" DATA=FOLDER`'


def main() -> int:
    """Run the command."""
    options = _options()
    sections = [load(name) for name in options.sections or names()]
    if options.command == "list":
        for section in sections:
            units = section.units(options.size)
            rows = Store.of(section, options.size).rows(units)
            seconds = {row.name: row.seconds for row in rows}
            left = _minutes([unit for unit in units if unit.name not in seconds], seconds)
            took = f"{sum(seconds.values()) / 60:.1f} min"
            print(f"{section.name}: {section.title}: {len(rows)} of {len(units)} units in {took}, {left} left")
        return 0
    if options.command == "run":
        import torch  # noqa: PLC0415

        from trainables.errors import TrainableError  # noqa: PLC0415

        torch.set_num_threads(1)
        for section in sections:
            places = Places(options.data_root, options.kept / section.name)
            places.kept.mkdir(parents=True, exist_ok=True)
            try:
                run(section, places, size=options.size, part=options.part)
            except TrainableError as error:
                print(f"{section.name}: {error}", file=sys.stderr)
                return 2
    if options.size != "smoke":
        for section in sections:
            write(section, size=options.size)
        write_claims([load(name) for name in names()])
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "write", "list"])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="default: all")
    parser.add_argument("--data-root", type=Path, help="folder with MNIST/raw, notMNIST/raw and the others")
    parser.add_argument("--kept", type=Path, default=Path("results/evidence"), help="folder of checkpoints")
    parser.add_argument("--size", choices=["smoke", "whole", "full"], default="whole")
    parser.add_argument("--part", type=Part.parse, default=Part(1, 1), help="as 1/2")
    options = parser.parse_args()
    if unknown := sorted(set(options.sections) - set(names())):
        parser.error(f"SECTION: must be of {', '.join(names())}; got {', '.join(unknown)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
