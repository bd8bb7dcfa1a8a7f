"""What a sweep costs as it grows, against plain Ray Tune: docs/scaling.md.

    python benchmarks/scale/scale.py list                                       units of the whole size, and minutes
    python benchmarks/scale/scale.py run --results docs/scaling.jsonl           the whole size: `make scale`
    python benchmarks/scale/scale.py run --stages processes calls --trials 50   some of it, smaller
    python benchmarks/scale/scale.py write                                      tables of docs/scaling.md

A unit is a stage at a size. With --results, each appends a line when it is measured, and is skipped when it has one, so
that a run that was broken off goes on; --again measures all once more, and the last line counts. One program at a time
may compute on the machine: a unit that begins while another one does is marked in the tables.

    processes    a sweep of trials that report at once, launched in worker processes; then what reads it
    ray          the same on a private Ray
    tune         the same under plain Tune: none, files, mlflow (its loggers)
    concurrent   so many trials at a time, which ask the driver 2,000 times a second
    calls        function calls and SQL statements of each trial, which other programs do not change

Prediction, written before the first run of the whole size: seconds of a trial at 20,000 within 1.2 times those at 1,000
in both ways; memory of a trial 0.3 times Tune's in worker processes, 0.4 times on Ray.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import page
from results import ROOT, Results, Row, busy_cores
from watched import watch

HERE = Path(__file__).parent
READERS = ("status", "replay", "resume", "proposals", "sync", "half")
"""Stages on the sweep of ``processes``, in this order: `sync` removes its store, `half` cuts its log."""
WHOLE: Mapping[str, Sequence[int]] = {
    "processes": (1, 1000, 5000, 20_000),
    **dict.fromkeys(READERS, (1000, 5000, 20000)),
    "ray": (1, 1000, 5000, 20_000),
    "tune none": (1, 1000, 5000),
    "tune files": (1, 1000),
    "tune mlflow": (1, 1000),
    "concurrent": (50, 200),
    "calls": (200, 400, 800),
}
"""Sizes of each stage. Plain Tune gets sizes that it can carry in minutes."""
PREDICTED_S: Mapping[str, tuple[float, float]] = {
    "processes": (20, 0.027), "ray": (25, 0.04), "status": (2, 0.0002), "replay": (2, 0.0007), "resume": (12, 0.002),
    "proposals": (8, 0.0003), "sync": (10, 0.02), "half": (6, 0.0005), "tune none": (10, 0.019),
    "tune files": (10, 0.05), "tune mlflow": (20, 0.6), "concurrent": (90, 0.5), "calls": (30, 0.4),
}  # fmt: skip
"""Seconds of a unit on two idle cores: of any, and of each trial."""


class Unit(NamedTuple):
    """A stage at a size."""

    stage: str
    size: int


def units(stages: Sequence[str], trials: Sequence[int]) -> list[Unit]:
    """Return the units of some stages in their order: a sweep, then what reads it; by default the whole size.

    ``trials`` replace the sizes, but not those of `concurrent`, nor the sweep of one trial that others are compared to.

    >>> [tuple(unit) for unit in units(["processes", "status"], [50])]
    [('processes', 1), ('processes', 50), ('status', 50)]
    """
    chosen = {stage: sizes for stage, sizes in WHOLE.items() if stage in stages or stage.split()[0] in stages}
    if trials:
        chosen = {
            stage: sizes if stage == "concurrent" else (*(size for size in sizes if size == 1), *trials)
            for stage, sizes in chosen.items()
        }
    sweeps = [Unit(stage, size) for stage, sizes in chosen.items() if stage not in READERS for size in sizes]
    return [unit for sweep in sweeps for unit in (sweep, *_readers(sweep, chosen))]


def _readers(sweep: Unit, chosen: Mapping[str, Sequence[int]]) -> Iterator[Unit]:
    if sweep.stage == "processes":
        yield from (Unit(reader, sweep.size) for reader in READERS if sweep.size in chosen.get(reader, ()))


def predicted_s(unit: Unit, rows: Mapping[tuple[str, int], Row]) -> float:
    """Return the seconds that a unit will take, by the largest of its stage that was measured, or else by a guess."""
    fixed, each = PREDICTED_S[unit.stage]
    known = max((size for stage, size in rows if stage == unit.stage and size > 1), default=None)
    if known is not None and "seconds" in rows[unit.stage, known].values:
        each = max(0.0, rows[unit.stage, known].values["seconds"] - fixed) / known
    return fixed + each * unit.size


def measure(unit: Unit, work: Path) -> Mapping[str, float]:
    """Measure one unit. A sweep in worker processes stays in the folder of work for what reads it."""
    import rate  # noqa: PLC0415  needs Ravel
    import sweeps  # noqa: PLC0415

    folder = work / f"{unit.stage.replace(' ', '-')}-{unit.size}"
    sweep = work / f"processes-{unit.size}"
    match unit.stage.split():
        case ["processes"]:
            return sweeps.launched("processes", unit.size, folder)
        case ["ray"]:
            return sweeps.launched("local", unit.size, folder)
        case ["tune", loggers]:
            return plain(unit.size, loggers, folder)
        case ["concurrent"]:
            return rate.concurrent(unit.size, folder)
        case ["calls"]:
            return script("calls.py", str(unit.size))
        case ["proposals"]:
            return script("proposals.py", str(sweep / "results"))
        case ["sync"]:
            return sweeps.synced(unit.size, sweep)
        case ["half"]:
            return sweeps.half_resumed("processes", unit.size, sweep)
        case [reader]:
            return sweeps.reading(reader, unit.size, sweep)
        case _:
            raise ValueError(f"stage: must be one of {', '.join(WHOLE)}, got {unit.stage!r}")


def plain(trials: int, loggers: str, folder: Path) -> dict[str, float]:
    """Measure plain Tune."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, str(HERE / "plain_tune.py"), "--trials", str(trials), "--loggers", loggers]
    run = watch(command, folder, environ={"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"})
    shutil.rmtree(folder)
    return {"seconds": run.seconds, "cpu_s": run.cpu_s, "peak_mb": run.peak_mb}


def script(name: str, *arguments: str) -> dict[str, float]:
    """Run a script of this folder, which prints its values.

    Raises:
        SystemExit: it failed; shows the end of what it printed.
    """
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{HERE}"}
    command = [sys.executable, str(HERE / name), *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-4000:]}")
    values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return values


def run(chosen: Sequence[Unit], results: Results, work: Path, *, again: bool, keep: bool) -> None:
    """Measure the units that have no row yet, and say how many minutes are left."""
    for number, unit in enumerate(chosen):
        rows = results.rows()
        missing = [other for other in chosen[number:] if again or tuple(other) not in rows]
        if unit in missing:
            _make_sweep_of(unit, work)
            minutes = sum(predicted_s(other, rows) for other in missing) / 60
            print(f"{unit.stage} {unit.size:,}: unit {number + 1} of {len(chosen)}, {minutes:.0f} min left", flush=True)
            busy = busy_cores()
            results.append(*unit, measure(unit, work), busy=busy)
        is_last = number + 1 == len(chosen) or chosen[number + 1].stage not in READERS
        if is_last and not keep:
            shutil.rmtree(work / f"processes-{unit.size}", ignore_errors=True)


def _make_sweep_of(unit: Unit, work: Path) -> None:
    """Launch the sweep that a unit reads once more, if a run was broken off between the two."""
    if unit.stage in READERS and not (work / f"processes-{unit.size}").exists():
        measure(Unit("processes", unit.size), work)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["list", "run", "write"])
    stages = [*dict.fromkeys([*WHOLE, "tune"])]
    parser.add_argument("--stages", nargs="+", choices=stages, default=list(WHOLE), metavar="STAGE")
    parser.add_argument("--trials", nargs="+", type=int, default=[], help="in the place of the whole sizes")
    parser.add_argument(
        "--results", type=Path, help="file of results (docs/scaling.jsonl); else they are printed alone"
    )
    parser.add_argument("--work", type=Path, default=ROOT / "build/scale", help="folder of the sweeps, on a local disk")
    parser.add_argument("--again", action="store_true", help="measure what has a line, too")
    parser.add_argument("--keep", action="store_true", help="keep the sweeps")
    options = parser.parse_args()
    chosen = units(options.stages, options.trials)
    match options.command:
        case "list":
            rows = Results(options.results or page.PAGE.with_suffix(".jsonl")).rows()
            for unit in chosen:
                state = "measured" if tuple(unit) in rows else f"{predicted_s(unit, rows) / 60:.1f} min"
                print(f"{unit.stage} {unit.size:,}: {state}")
            left = sum(predicted_s(unit, rows) for unit in chosen if tuple(unit) not in rows)
            print(f"{left / 60:.0f} min left")
        case "run":
            run(chosen, Results(options.results), options.work.resolve(), again=options.again, keep=options.keep)
        case "write":
            page.write(Results(page.PAGE.with_suffix(".jsonl")).rows())


if __name__ == "__main__":
    main()
