"""Tables of docs/scaling.md, from the results."""

from collections.abc import Mapping
from pathlib import Path

import markers
from markers import MISSING, table
from results import ROOT, Row, machines

PAGE = ROOT / "docs/scaling.md"
WAYS = {
    "processes": "Ravel, worker processes",
    "ray": "Ravel, a private Ray",
    "tune none": "plain Tune, no logger",
    "tune files": "plain Tune, its own files",
    "tune mlflow": "plain Tune, its own files and MLflow",
}
READERS = {
    "status": "`ravel status`",
    "replay": "`ravel replay`",
    "resume": "`ravel resume` of the finished sweep",
    "half": "`ravel resume` of half of it, to its first attempt",
    "sync": "`ravel sync` into an empty sqlite file",
}
COUNTED = {
    "driver": "driver: hand out, record, decide, print a line",
    "reading": "read the log",
    "status": "count for `ravel status`",
    "resuming": "rebuild what decisions rest on",
    "replaying": "repeat each decision",
    "tracking": "send to MLflow, a few events at a time",
    "statements": "SQL statements of that",
}
LINEAR, OF_TUNE = 1.5, 0.5
"""Bounds: seconds of a trial in the largest sweep to those in one of 1,000; memory of a trial to that under Tune."""
FIRST, MOST = 1000, 20_000
Rows = Mapping[tuple[str, int], Row]


def tables(rows: Rows) -> dict[str, str]:
    """Return each table by the name of its markers."""
    return {
        "scale bounds": bounds(rows),
        "scale trials": trials_table(rows),
        "scale readers": readers_table(rows),
        "scale rate": rate_table(rows),
        "scale proposals": proposals_table(rows),
        "scale calls": calls_table(rows),
        "scale machines": machines(rows),
    }


def write(rows: Rows, page: Path = PAGE) -> None:
    """Write the tables into the page.

    Raises:
        ValueError: the page lacks a marker.
    """
    markers.write(tables(rows), page)


def bounds(rows: Rows) -> str:
    """Return whether the bounds are met, each with its numbers."""
    lines = [_linear(rows, way) for way in ("processes", "ray")]
    lines += [_of_tune(rows, way) for way in ("processes", "ray")]
    return "\n".join(f"- {line}" for line in lines)


def _linear(rows: Rows, way: str) -> str:
    name = f"Seconds of a trial at {MOST:,} to those at {FIRST:,}, {WAYS[way]} (bound: {LINEAR})"
    first, last = (over_empty(rows, way, size, "seconds") for size in (FIRST, MOST))
    if first is None or last is None:
        return f"{name}: {MISSING}."
    alone = rows[way, MOST].values["s_per_trial"] / rows[way, FIRST].values["s_per_trial"]
    return f"{name}: {alone:.2f} until the last trial is over, {last / first:.2f} from the launch until MLflow has all."


def _of_tune(rows: Rows, way: str) -> str:
    name = f"Memory of a trial to that under plain Tune without a logger, {WAYS[way]} (bound: {OF_TUNE})"
    sizes = [size for stage, size in rows if stage == way and size > 1 and ("tune none", size) in rows]
    mine, theirs = (memory_kb(rows, stage, max(sizes, default=0)) for stage in (way, "tune none"))
    if mine is None or theirs is None:
        return f"{name}: {MISSING}."
    return f"{name}: {mine / theirs:.2f} at {max(sizes):,} trials."


def memory_kb(rows: Rows, stage: str, size: int) -> float | None:
    """Return the memory of the driver for each trial: its most, less that of a sweep of one trial."""
    row, empty = rows.get((stage, size)), rows.get((stage, 1))
    if row is None or empty is None or size <= 1:
        return None
    return 1024 * (row.values["peak_mb"] - empty.values["peak_mb"]) / (size - 1)


def over_empty(rows: Rows, stage: str, size: int, name: str) -> float | None:
    """Return a value of each trial: what a sweep of so many took more than one of a single trial."""
    row, empty = rows.get((stage, size)), rows.get((stage, 1))
    if row is None or empty is None or size <= 1:
        return None
    return (row.values[name] - empty.values[name]) / (size - 1)


def trials_table(rows: Rows) -> str:
    """Return the costs of a trial, by way and size."""
    head = ("trials", "s a trial", "driver's CPU, ms a trial", "driver's memory, kB a trial", "log, bytes a trial")
    body = []
    for stage, way in WAYS.items():
        for size in _sizes(rows, stage):
            row = rows[stage, size]
            values, is_ours = row.values, stage in {"processes", "ray"}
            seconds = values["s_per_trial"] if is_ours else over_empty(rows, stage, size, "seconds")
            cpu_s = values["cpu_ms_per_trial"] / 1e3 if is_ours else over_empty(rows, stage, size, "cpu_s")
            log = values.get("log_bytes_per_trial")
            cells = (
                _shown(seconds, 3), _shown(None if cpu_s is None else 1e3 * cpu_s, 1),
                _shown(memory_kb(rows, stage, size), 1), _shown(log, 0), _shown(values.get("tracked_after_s"), 0),
            )  # fmt: skip
            body.append((way, f"{size:,}{row.mark}", *cells))
    return table(("", *head, "MLflow has all, s after the end"), body)


def readers_table(rows: Rows) -> str:
    """Return the costs of commands that read a sweep."""
    body = [
        (words, f"{size:,}{row.mark}", *(_shown(row.values[name], digits) for name, digits in columns))
        for stage, words in READERS.items()
        for size in _sizes(rows, stage)
        for row in (rows[stage, size],)
        for columns in ((("seconds", 2), ("cpu_s", 2), ("peak_mb", 0)),)
    ]
    return table(("", "trials", "s", "CPU, s", "most memory, MB"), body)


def rate_table(rows: Rows) -> str:
    """Return what a driver carries of trials that report at a steady rate."""
    names = {
        "asked_per_s": 0, "results_per_s": 0, "cpu_share": 2, "cpu_ms_per_result": 3, "waited_p50_ms": 1,
        "waited_p99_ms": 1, "waited_most_ms": 0, "log_bytes_per_result": 0, "peak_mb": 0,
    }  # fmt: skip
    head = (
        "trials at a time", "results/s asked", "results/s carried", "driver's share of a core", "CPU, ms a result",
        "a worker waits, ms (median)", "99 %", "most", "log, bytes a result", "driver, MB",
    )  # fmt: skip
    body = [
        (f"{size:,}{row.mark}", *(_shown(row.values[name], digits) for name, digits in names.items()))
        for size in _sizes(rows, "concurrent")
        for row in (rows["concurrent", size],)
    ]
    return table(head, body)


def proposals_table(rows: Rows) -> str:
    """Return the CPU time of a proposal by sampler and size."""
    samplers = ("random", "auto", "tpe")
    body = [
        (f"{size:,}{row.mark}", *(_shown(row.values[f"{name}_ms"], 1) for name in samplers))
        for size in _sizes(rows, "proposals")
        for row in (rows["proposals", size],)
    ]
    return table(("trials so far", *(f"`{name}`, ms" for name in samplers)), body)


def calls_table(rows: Rows) -> str:
    """Return function calls of each trial by size, and how much they grow."""
    sizes = _sizes(rows, "calls")
    body = []
    for name, words in COUNTED.items():
        values = [rows["calls", size].values[name] for size in sizes]
        if values:
            body.append((words, *(_shown(value, 0) for value in values), _shown(values[-1] / values[0], 2)))
    return table(("", *(f"{size:,} trials" for size in sizes), "last to first"), body)


def _sizes(rows: Rows, stage: str) -> list[int]:
    return sorted(size for of, size in rows if of == stage and (size > 1 or stage not in WAYS))


def _shown(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
