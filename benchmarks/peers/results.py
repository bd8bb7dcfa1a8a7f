"""Results of runs: one line of JSON for each, in a file that the page is written from."""

import itertools
import json
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

FORMAT = 1
RESULTS = Path(__file__).with_name("results.jsonl")
TARGET = 0.98
"""Validation accuracy until which the time is taken."""


class Report(NamedTuple):
    """Measurement after an epoch of a trial; `time` is that of the clock."""

    time: float
    trial: int | str
    epoch: int
    accuracy: float


@dataclass(frozen=True)
class Size:
    """Size of a run: training images, points, and rungs in epochs, the last of them the whole training."""

    images: int = 12_000
    points: int = 24
    rungs: tuple[int, ...] = (1, 3, 9)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rungs", tuple(self.rungs))
        factors = {high / low for low, high in itertools.pairwise(self.rungs)}
        if len(factors) != 1 or factors & {1} or any(factor % 1 for factor in factors):
            raise ValueError(f"rungs: must each be the same whole number of times the one before, got {self.rungs}")


@dataclass(frozen=True)
class Result:
    """A run of a peer: what it is of, what was measured, and where.

    `target_s` are the seconds from the start of the command until the first accuracy of TARGET, None if there was none.
    `others` is the share of the cores' time that other processes of the machine had meanwhile.
    """

    work: str
    peer: str
    round: int
    size: Size
    wall_s: float
    first_epoch_s: float
    target_s: float | None
    epochs: int
    trials: int
    best_accuracy: float
    cpu_s: float
    pss_mb: float
    rss_mb: float
    others: float
    time: int
    revision: str
    versions: Mapping[str, str]
    machine: Mapping[str, Any]

    @property
    def epoch_s(self) -> float:
        """Wall time for each epoch that a trial trained."""
        return self.wall_s / self.epochs

    @property
    def key(self) -> tuple[str, str, int, Size]:
        """Identity of the run: one with the same key is not run once more."""
        return self.work, self.peer, self.round, self.size


def summary(reports: Sequence[Report], *, began: float) -> dict[str, Any]:
    """Return what the reports of a run say, by the names of a result.

    >>> summary([Report(11.0, 0, 1, 0.9), Report(14.0, 1, 1, 0.98)], began=10.0)["target_s"]
    4.0
    """
    ordered = sorted(reports)
    reached = [report.time - began for report in ordered if report.accuracy >= TARGET]
    return {
        "first_epoch_s": round(ordered[0].time - began, 2),
        "target_s": round(reached[0], 2) if reached else None,
        "epochs": len({(report.trial, report.epoch) for report in ordered}),
        "trials": len({report.trial for report in ordered}),
        "best_accuracy": round(max(report.accuracy for report in ordered), 4),
    }


def read_results(path: Path) -> list[Result]:
    """Return the results in a file, none if there is no file.

    Raises:
        ValueError: a line is not one of this format.
    """
    if not path.exists():
        return []
    return [_parsed(line, f"{path}:{number}") for number, line in enumerate(_lines(path), start=1)]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _parsed(line: str, place: str) -> Result:
    try:
        document = json.loads(line)
        return {FORMAT: _of_this_format}[document.pop("format")](document)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{place}: must be a result of format {FORMAT}, got {line[:60]!r}; delete the line") from error


def _of_this_format(document: Mapping[str, Any]) -> Result:
    return Result(**{**document, "size": Size(**document["size"])})


def append_result(path: Path, result: Result) -> None:
    """Append a line, in one write."""
    line = json.dumps({"format": FORMAT, **asdict(result)}, allow_nan=False) + "\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def refuse_others(
    results: Iterable[Result], *, machine: Mapping[str, Any], versions: Mapping[str, Mapping[str, str]]
) -> None:
    """Refuse results of another machine, or of other versions of a peer's packages, as they are not to be compared.

    Raises:
        SystemExit: there is one.
    """
    for result in results:
        if result.machine != machine:
            raise SystemExit(f"machine: must be that of the stored runs, {result.machine}, got {machine}; {_REMEDY}")
        if result.versions != versions.get(result.peer, result.versions):
            mine, theirs = versions[result.peer], result.versions
            raise SystemExit(
                f"{result.peer}: must have the versions of the stored runs, {theirs}, got {mine}; {_REMEDY}"
            )


_REMEDY = "give another file with --results"


def medians(results: Sequence[Result], names: Iterable[str]) -> dict[str, float | None]:
    """Return the median of each measurement; None if half of the runs or more have none.

    A time that was not reached counts as longer than any other.
    """
    return {name: _median([getattr(result, name) for result in results]) for name in names}


def _median(values: Sequence[float | None]) -> float | None:
    middle = statistics.median(float("inf") if value is None else value for value in values)
    return None if middle == float("inf") else middle
