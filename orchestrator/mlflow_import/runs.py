"""Runs of any MLflow experiment: as plain values, and as points for the start of a new sweep."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.errors import OrchestratorError, SpecError, quoted
from orchestrator.redaction import without_password
from orchestrator.tracking.store.mlflow_errors import store_errors
from orchestrator.tracking.store.store import open_store, refuse_deleted
from search_spaces import Fixed, Problem, adopt
from search_spaces.errors import suggestion
from trainables.config.trial import TrialConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mlflow import MlflowClient

    from orchestrator.spec.model import Point
    from search_spaces import Domain, SearchSpace
    from search_spaces.warm_start.adoption import Report

    Parameters = Mapping[str, str]
    Values = Mapping[int, tuple[float | None, float]]

PAGE = 1000
LOCAL = "sqlite:///"
RENAME = "--rename THEIRS=OURS says what one is here"
WORDS = {"True": True, "False": False, "None": None}
"""Words of Python that JSON writes in small letters."""


@dataclass(frozen=True)
class ImportedRun:
    """A run of MLflow: parameters are texts, ``metrics`` the last values, times in seconds."""

    id: str
    name: str
    status: str
    started: float
    ended: float | None
    parameters: Parameters
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Offer:
    """Points of a space, best first, and lines for the user about the runs they come from."""

    points: tuple[Point, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class SourceExperiment:
    """An experiment in a store. Its runs are read once; the curve of a run is read on request."""

    client: MlflowClient
    uri: str
    experiment: str
    runs: tuple[ImportedRun, ...]

    def curve(self, run: ImportedRun) -> dict[str, Values]:
        """Return every metric of a run: by step, its last value (None if not finite) and its time in seconds.

        Raises:
            OrchestratorError: MLflow did not answer.
        """
        with store_errors(self.uri, "is it up? nothing was imported"):
            return {name: _values(self.client.get_metric_history(run.id, name)) for name in run.metrics}


def read_experiment(uri: str, experiment: str, *, wanted: str = "") -> SourceExperiment:
    """Read the runs of an experiment, oldest first, without deleted runs and without summary runs of our own sweeps.

    Args:
        uri: Address of the tracking store.
        experiment: Name or id of the experiment.
        wanted: Filter in MLflow's own language, such as ``metrics.accuracy > 0.9``.

    Raises:
        OrchestratorError: no such store or experiment, or MLflow did not answer.
    """
    if uri.startswith(LOCAL) and not Path(uri.removeprefix(LOCAL)).is_file():
        raise OrchestratorError(f"{uri}: no such file, so no runs; give --tracking URI")
    with store_errors(uri, "see --tracking and --filter"):
        client = open_store(uri)
        match = client.get_experiment_by_name(experiment) or _by_id(client, experiment)
        if match is None:
            names = [existing.name for existing in client.search_experiments()]
            hint = suggestion(experiment, names)
            raise OrchestratorError(f"{without_password(uri)}: no experiment {quoted(experiment)}{hint}")
        refuse_deleted(match)
        runs = [_run(run) for run in _pages(client, match.experiment_id, wanted)]
    kept = (run for run in runs if run.tags.get("ravel.kind") != "sweep")
    return SourceExperiment(
        client, uri, match.name, tuple(sorted(kept, key=lambda run: (run.started, run.name, run.id)))
    )


def renamed(runs: Iterable[ImportedRun], names: Mapping[str, str]) -> list[ImportedRun]:
    """Return the runs with their parameters renamed to ours.

    Raises:
        SpecError: no trial or no run has a name, or a run would have it twice.

    Example:
        >>> run = ImportedRun("ab", "bold-cat", "FINISHED", 0.0, None, {"lr": "0.1"}, {}, {})
        >>> renamed([run], {"lr": "optimizer.lr"})[0].parameters
        {'optimizer.lr': '0.1'}
    """
    runs = list(runs)
    present = dict.fromkeys(name for run in runs for name in run.parameters)
    problems = []
    for theirs, ours in names.items():
        place = f"--rename {theirs}={ours}"
        if theirs not in present:
            problems.append(Problem(place, f"no run has the parameter {quoted(theirs)}{suggestion(theirs, present)}"))
        if ours not in TrialConfig.parameter_names():
            hint = suggestion(ours, TrialConfig.parameter_names())
            problems.append(Problem(place, f"no trial has the parameter {quoted(ours)}{hint}"))
        if ours in present or list(names.values()).count(ours) > 1:
            problems.append(Problem(place, f"there are two parameters {quoted(ours)} then; keep one"))
    if problems:
        raise SpecError(problems)
    return [
        replace(run, parameters={names.get(name, name): text for name, text in run.parameters.items()}) for run in runs
    ]


def offer(
    runs: Sequence[ImportedRun], space: SearchSpace, *, metric: str, mode: Literal["max", "min"], top: int
) -> Offer:
    """Return the best runs as points of a space, mapped by ``adopt``; a missing parameter takes its default."""
    finished = [run for run in runs if run.status != "FAILED"]
    measured = [run for run in finished if _is_finite(run.metrics.get(metric))]
    ranked = sorted(measured, key=lambda run: run.metrics[metric], reverse=mode == "max")
    adoption = adopt(space, [_counterparts(run, space) for run in ranked], fill=defaults(space))
    reports = _until(adoption.reports, top)
    points = tuple(_free(point, space) for point in adoption.points[:top])
    header = (
        f"{len(runs)} runs: {len(measured)} measured {metric}, {len(finished) - len(measured)} did not, "
        f"{len(runs) - len(finished)} failed"
    )
    counts = {
        kind: sum(report.outcome == kind for report in reports) for kind in ("kept", "clipped", "merged", "dropped")
    }
    tally = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    lines = (_line(report, ranked[report.index], metric) for report in reports if report.notes)
    return Offer(points, (header, *strangers(runs, space), f"the best {len(reports)}: {tally}", *lines))


def strangers(runs: Sequence[ImportedRun], space: SearchSpace) -> Iterator[str]:
    """Name the parameters that only the runs have, and those that only the space has."""
    theirs = dict.fromkeys(name for run in runs for name in run.parameters)
    only_theirs = [name for name in theirs if name not in space.names]
    only_ours = [name for name in space.names if name not in theirs]
    if only_theirs:
        foreign = set(only_theirs) - set(TrialConfig.parameter_names())
        yield f"not in the space: {', '.join(only_theirs)}" + (f" ({RENAME})" if foreign else "")
    if only_ours:
        yield f"in no run: {', '.join(only_ours)}"


def defaults(space: SearchSpace) -> dict[str, Any]:
    """Return the value of each parameter for a run that lacks it: a trial's default, or the middle of its domain."""
    usual = TrialConfig().to_point()
    return {
        name: usual[name] if name in usual and domain.contains(usual[name]) else domain.from_unit(0.5)
        for name, domain in space.parameters.items()
    }


def value_of(text: str, domain: Domain | None = None) -> Any:
    """Parse the text of a parameter: JSON, a word of Python, or the text itself. Nothing is evaluated.

    Args:
        text: Text that MLflow keeps.
        domain: Domain of the parameter, if any: a value that the domain contains is preferred.

    Example:
        >>> [value_of(text) for text in ("1e-3", "True", "[3, 9]", "adam", "NaN", "007")]
        [0.001, True, [3, 9], 'adam', 'NaN', '007']
    """
    value = _parsed(text)
    if domain is None or domain.contains(value):
        return value
    return text if domain.contains(text) else value


def _parsed(text: str) -> Any:
    if text in WORDS:
        return WORDS[text]
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        pass
    try:
        return _finite(text) if any(digit in text for digit in ".eE") else text
    except ValueError:
        return text


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _no_number(text: str) -> float:
    raise ValueError(f"must be finite, got {text}")


def _counterparts(run: ImportedRun, space: SearchSpace) -> dict[str, Any]:
    return {
        name: value_of(text, space.parameters[name]) for name, text in run.parameters.items() if name in space.names
    }


def _free(point: Point, space: SearchSpace) -> Point:
    """Return a point without the parameters that the space fixes."""
    return {name: value for name, value in point.items() if not isinstance(space.parameters[name], Fixed)}


def _until(reports: Sequence[Report], top: int) -> list[Report]:
    """Return the reports on the best points, up to the report of the last of so many points."""
    count = 0
    for end, report in enumerate(reports, start=1):
        count += report.outcome in {"kept", "clipped"}
        if count == top:
            return list(reports[:end])
    return list(reports)


def _line(report: Report, run: ImportedRun, metric: str) -> str:
    return f"run {run.name} ({metric} {run.metrics[metric]:.4g}) {report.outcome}: {'; '.join(report.notes)}"


def _is_finite(value: float | None) -> bool:
    """Return True for a finite value. MLflow's databases keep infinity as the largest float."""
    return value is not None and math.isfinite(value) and abs(value) < sys.float_info.max / 1.01


def _values(history: Iterable[Any]) -> dict[int, tuple[float | None, float]]:
    """Return value and time by step; the latest of several values at one step counts."""
    points = sorted(history, key=lambda point: (point.step, point.timestamp))
    return {point.step: (point.value if _is_finite(point.value) else None, point.timestamp / 1000) for point in points}


def _by_id(client: MlflowClient, experiment: str) -> Any:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    if not experiment.isdecimal():
        return None
    try:
        return client.get_experiment(experiment)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _pages(client: MlflowClient, experiment: str, wanted: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs([experiment], wanted, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _run(run: Any) -> ImportedRun:
    info, data = run.info, run.data
    return ImportedRun(
        id=info.run_id,
        name=info.run_name or info.run_id,
        status=info.status,
        started=(info.start_time or 0) / 1000,
        ended=None if info.end_time is None else info.end_time / 1000,
        parameters=dict(data.params),
        metrics=dict(data.metrics),
        tags=dict(data.tags),
    )
