"""``ravel register`` and ``ravel import-mlflow``: a model out of a sweep, and runs of elsewhere into one."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestrator.analysis.result import SweepResult
from orchestrator.cli.arguments import RESULTS, AsJson, StorageFolder, Sweep
from orchestrator.errors import OrchestratorError, SpecError
from orchestrator.planning.loading import load_spec
from orchestrator.planning.plan import tracking_store
from orchestrator.state.sweep_folder import reference
from orchestrator.state.sweep_lookup import find_sweep
from search_spaces import Problem, dump_yaml
from trainables.metrics import lookup

if TYPE_CHECKING:
    from orchestrator.analysis.result import TrialResult
    from orchestrator.mlflow_import.runs import ImportedRun, SourceExperiment
    from orchestrator.spec.model import Objective, SweepSpec

Mode = Literal["max", "min"]
TOP = 10


def register(
    sweep: Sweep,
    *,
    trial: Annotated[str | None, typer.Option(metavar="TRIAL", help="Default: the best at full budget.")] = None,
    name: Annotated[str | None, typer.Option(metavar="MODEL", help="Default: the spec's name.")] = None,
    alias: Annotated[str, typer.Option(help="Moved to this version.")] = "champion",
    folder: StorageFolder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Register the best trial's model in MLflow.

    With its signature, metrics and sweep; mlflow.pyfunc.load_model takes it by its alias.
    """
    from orchestrator.tracking import registry  # noqa: PLC0415

    result = SweepResult.read(find_sweep(folder, sweep))
    chosen = best_at_full_budget(result) if trial is None else result.named(trial)
    found = registry.register(result.plan, chosen, name=name, alias=alias)
    if as_json:
        typer.echo(json.dumps({**asdict(found), "uri": found.uri}, indent=1))
        return
    measured = f"{result.plan.spec.objective.metric} {chosen.score:.4f}"
    made = "made" if found.is_new else "there already"
    typer.echo(
        f"{found.uri}: version {found.version} ({made}), {found.trial}, {measured} after epoch {chosen.trial.epoch}"
    )


def import_mlflow(
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="The experiment's name or id.")],
    spec: Annotated[Path, typer.Option("--spec", metavar="SPEC", help="The sweep spec the runs are mapped into.")],
    *,
    tracking: Annotated[str | None, typer.Option(metavar="URI", help="Default: where the spec is tracked.")] = None,
    metric: Annotated[str | None, typer.Option(help="The runs' name of the objective.")] = None,
    mode: Annotated[Mode | None, typer.Option(help="Whether more of it is better; default: as it is known.")] = None,
    top: Annotated[int | None, typer.Option(min=1, help=f"At most so many points; default: {TOP}.")] = None,
    wanted: Annotated[str, typer.Option("--filter", help="Only runs of this search, in MLflow's words.")] = "",
    rename: Annotated[
        list[str] | None, typer.Option(metavar="THEIRS=OURS", help="A parameter's name there and here; repeatable.")
    ] = None,
    into: Annotated[str | None, typer.Option(metavar="STORAGE", help="Write a sweep here, to report on.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the best runs of any MLflow experiment as points for a spec.

    Or write all of them as a sweep to report on, with --into.
    """
    from orchestrator.mlflow_import import runs as importing  # noqa: PLC0415

    loaded = load_spec(spec)
    objective = loaded.objective
    metric = metric or objective.metric
    mode = mode or direction(metric, objective)
    _refuse_settings(objective, mode, top=top, into=into)
    uri = tracking or tracking_store(loaded, Path.cwd()) or os.environ["MLFLOW_TRACKING_URI"]
    source = importing.read_experiment(uri, experiment, wanted=wanted)
    if not source.runs:
        raise OrchestratorError(f"{source.experiment}: no runs to import{'; see --filter' if wanted else ''}")
    runs = importing.renamed(source.runs, _names(rename or []))
    if into is not None:
        told = _write_sweep(source, runs, loaded, metric=metric, into=into)
        typer.echo(json.dumps(told, indent=1) if as_json else _sweep_text(told))
        return
    offer = importing.offer(runs, loaded.space, metric=metric, mode=mode, top=top or TOP)
    for line in offer.lines:
        typer.echo(line, err=True)
    if not offer.points:
        raise OrchestratorError(f"{source.experiment}: no run became a point of the space of {spec}; see above")
    points = [dict(point) for point in offer.points]
    typer.echo(json.dumps(points, indent=1) if as_json else dump_yaml(points), nl=as_json)


def best_at_full_budget(result: SweepResult) -> TrialResult:
    """The best trial that ran its full budget.

    Raises:
        OrchestratorError: none did.
    """
    best = result.best()
    if best.trial.status != "completed":
        told = f"no trial has run its full budget yet, the best of the others is {best.trial.id}"
        raise OrchestratorError(f"{result.sweep}: {told}; wait, or choose one with --trial")
    return best


def direction(metric: str, objective: Objective) -> Mode:
    """Whether more of a metric is better: as we know it, else as of the objective that it stands for.

    >>> from orchestrator.spec.model import Objective
    >>> direction("val/nll", Objective()), direction("their_accuracy", Objective())
    ('min', 'max')
    """
    try:
        return lookup(metric).direction or objective.mode
    except KeyError:
        return objective.mode


def _refuse_settings(objective: Objective, mode: Mode, *, top: int | None, into: str | None) -> None:
    problems = []
    if into is not None and top is not None:
        problems.append(Problem("--top", "counts points; leave it out with --into, which takes all runs"))
    if into is not None and mode != objective.mode:
        law = f"must be {objective.mode!r} with --into, as of the objective {objective.metric} of the spec"
        problems.append(Problem("--mode", f"{law}, got {mode!r}; change the objective of the spec"))
    if problems:
        raise SpecError(problems)


def _names(renames: list[str]) -> dict[str, str]:
    pairs = [(text, *text.partition("=")) for text in renames]
    wrong = [text for text, theirs, _, ours in pairs if not theirs or not ours]
    if wrong:
        law = "must be THEIRS=OURS, for example lr=optimizer.lr"
        raise SpecError(Problem(f"--rename {text}", law) for text in wrong)
    return {theirs: ours for _, theirs, _, ours in pairs}


def _write_sweep(
    source: SourceExperiment, runs: list[ImportedRun], spec: SweepSpec, *, metric: str, into: str
) -> dict[str, Any]:
    from orchestrator.mlflow_import import sweep as imported_sweep  # noqa: PLC0415

    curves = [source.curve(run) for run in runs]
    trials = imported_sweep.as_trials(runs, curves, metric=metric, objective=spec.objective.metric)
    now = datetime.now(UTC)
    folder = imported_sweep.import_sweep(trials, spec, storage=into, now=now, working_directory=Path.cwd())
    return {
        "sweep": folder.sweep,
        "experiment": source.experiment,
        "trials": len(trials),
        "uri": folder.uri,
        "next": f"ravel status {reference(folder)}",
    }


def _sweep_text(told: dict[str, Any]) -> str:
    return f"{told['sweep']}: {told['trials']} trials from MLflow's experiment {told['experiment']!r}; {told['next']}"
