"""Runs of any MLflow experiment as plain values, and as points that a new sweep may begin with."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.errors import OrchestratorError, SpecError
from orchestrator.redaction import without_password
from orchestrator.tracking.mlflow_errors import store_errors
from orchestrator.tracking.store import open_store, refuse_deleted
from search_spaces import Fixed, Problem, adopt
from search_spaces.errors import suggestion
from trainables.config.trial import TrialConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mlflow import MlflowClient

    from orchestrator.spec.model import Point
    from search_spaces import Domain, SearchSpace
    from search_spaces.operations.warm_start import Report

    Parameters = Mapping[str, str]
    Values = Mapping[int, tuple[float | None, float]]

PAGE = 1000
LOCAL = "sqlite:///"
RENAME = "--rename THEIRS=OURS says what one is here"
WORDS = {"True": True, "False": False, "None": None}
"""As Python writes what JSON writes in small letters."""


@dataclass(frozen=True)
class ImportedRun:
    """One run as MLflow tells it: parameters are texts, ``metrics`` the last values, times in seconds."""

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
    """Points that lie in a space, best first, and what is told about the runs they come from."""

    points: tuple[Point, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class SourceExperiment:
    """An experiment in a store: its runs are read once, their curves when they are asked for."""

    client: MlflowClient
    uri: str
    experiment: str
    runs: tuple[ImportedRun, ...]

    def curve(self, run: ImportedRun) -> dict[str, Values]:
        """Every metric of a run: by step its last value, null where it is not finite, and when it was measured.

        Raises:
            OrchestratorError: MLflow did not answer.
        """
        with store_errors(self.uri, "is it up? nothing was imported"):
            return {name: _values(self.client.get_metric_history(run.id, name)) for name in run.metrics}


def read_experiment(uri: str, experiment: str, *, wanted: str = "") -> SourceExperiment:
    """The runs of an experiment, oldest first, without those that were deleted and those that sum up a sweep of ours.

    Args:
        uri: of the tracking store.
        experiment: its name, or its id.
        wanted: a filter in MLflow's own words, such as ``metrics.accuracy > 0.9``.

    Raises:
        OrchestratorError: no such store or experiment, or MLflow did not answer.
    """
    if uri.startswith(LOCAL) and not Path(uri.removeprefix(LOCAL)).is_file():
        raise OrchestratorError(f"{uri}: no such file, so no runs; give --tracking URI")
    with store_errors(uri, "see --tracking and --filter"):
        client = open_store(uri)
        found = client.get_experiment_by_name(experiment) or _by_id(client, experiment)
        if found is None:
            names = [each.name for each in client.search_experiments()]
            hint = suggestion(experiment, names)
            raise OrchestratorError(f"{without_password(uri)}: no experiment {experiment!r}{hint}")
        refuse_deleted(found)
        runs = [_run(each) for each in _pages(client, found.experiment_id, wanted)]
    ours = (run for run in runs if run.tags.get("ravel.kind") != "sweep")
    return SourceExperiment(
        client, uri, found.name, tuple(sorted(ours, key=lambda run: (run.started, run.name, run.id)))
    )


def renamed(runs: Iterable[ImportedRun], names: Mapping[str, str]) -> list[ImportedRun]:
    """The runs, with parameters under our names instead of theirs.

    Raises:
        SpecError: a name that no trial has, that no run has, or that a run would have twice.

    Example:
        >>> run = ImportedRun("ab", "bold-cat", "FINISHED", 0.0, None, {"lr": "0.1"}, {}, {})
        >>> renamed([run], {"lr": "optimizer.lr"})[0].parameters
        {'optimizer.lr': '0.1'}
    """
    runs = list(runs)
    there = dict.fromkeys(name for run in runs for name in run.parameters)
    problems = []
    for theirs, ours in names.items():
        place = f"--rename {theirs}={ours}"
        if theirs not in there:
            problems.append(Problem(place, f"no run has the parameter {theirs!r}{suggestion(theirs, there)}"))
        if ours not in TrialConfig.parameter_names():
            hint = suggestion(ours, TrialConfig.parameter_names())
            problems.append(Problem(place, f"no trial has the parameter {ours!r}{hint}"))
        if ours in there or list(names.values()).count(ours) > 1:
            problems.append(Problem(place, f"there are two parameters {ours!r} then; keep one"))
    if problems:
        raise SpecError(problems)
    return [
        replace(run, parameters={names.get(name, name): text for name, text in run.parameters.items()}) for run in runs
    ]


def offer(
    runs: Sequence[ImportedRun], space: SearchSpace, *, metric: str, mode: Literal["max", "min"], top: int
) -> Offer:
    """The best runs as points of a space, as ``adopt`` maps them; what a run does not say takes a trial's default."""
    able = [run for run in runs if run.status != "FAILED"]
    measured = [run for run in able if _is_finite(run.metrics.get(metric))]
    ranked = sorted(measured, key=lambda run: run.metrics[metric], reverse=mode == "max")
    adoption = adopt(space, [_counterparts(run, space) for run in ranked], fill=defaults(space))
    reports = _until(adoption.reports, top)
    points = tuple(_free(point, space) for point in adoption.points[:top])
    header = (
        f"{len(runs)} runs: {len(measured)} measured {metric}, {len(able) - len(measured)} did not, "
        f"{len(runs) - len(able)} failed"
    )
    counts = {kind: sum(each.outcome == kind for each in reports) for kind in ("kept", "clipped", "merged", "dropped")}
    tally = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    told = (_line(report, ranked[report.index], metric) for report in reports if report.notes)
    return Offer(points, (header, *strangers(runs, space), f"the best {len(reports)}: {tally}", *told))


def strangers(runs: Sequence[ImportedRun], space: SearchSpace) -> Iterator[str]:
    """The parameters that only the runs have, and those that only the space has."""
    theirs = dict.fromkeys(name for run in runs for name in run.parameters)
    only_theirs = [name for name in theirs if name not in space.names]
    only_ours = [name for name in space.names if name not in theirs]
    if only_theirs:
        foreign = set(only_theirs) - set(TrialConfig.parameter_names())
        yield f"not in the space: {', '.join(only_theirs)}" + (f" ({RENAME})" if foreign else "")
    if only_ours:
        yield f"in no run: {', '.join(only_ours)}"


def defaults(space: SearchSpace) -> dict[str, Any]:
    """What a parameter is where a run does not say: a trial's default, or the middle of its domain."""
    usual = TrialConfig().to_point()
    return {
        name: usual[name] if name in usual and domain.contains(usual[name]) else domain.from_unit(0.5)
        for name, domain in space.parameters.items()
    }


def value_of(text: str, domain: Domain | None = None) -> Any:
    """What a parameter's text means: JSON, a word of Python, or the text itself; nothing of it is ever run.

    Args:
        text: as MLflow keeps it.
        domain: of the parameter, where it has one: what the text means there comes first.

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
    """The part of a point that the space leaves open: what is fixed there is fixed without being said."""
    return {name: value for name, value in point.items() if not isinstance(space.parameters[name], Fixed)}


def _until(reports: Sequence[Report], top: int) -> list[Report]:
    """The reports on the best points, up to the one that made the last of so many."""
    made = 0
    for count, report in enumerate(reports, start=1):
        made += report.outcome in {"kept", "clipped"}
        if made == top:
            return list(reports[:count])
    return list(reports)


def _line(report: Report, run: ImportedRun, metric: str) -> str:
    return f"run {run.name} ({metric} {run.metrics[metric]:.4g}) {report.outcome}: {'; '.join(report.notes)}"


def _is_finite(value: float | None) -> bool:
    """MLflow's databases keep infinity as the largest float."""
    return value is not None and math.isfinite(value) and abs(value) < sys.float_info.max / 1.01


def _values(state: Iterable[Any]) -> dict[int, tuple[float | None, float]]:
    """Of several values at one step the latest stands."""
    points = sorted(state, key=lambda point: (point.step, point.timestamp))
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
