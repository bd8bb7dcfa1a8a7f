"""Commands of the panel Maintain: sync, import-mlflow, purge, doctor."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestrator.analysis import checkpoint_purge
from orchestrator.analysis import purge as purging
from orchestrator.analysis.result import SweepResult
from orchestrator.cli.shared.arguments import RESULTS, Address, AsJson, Set, StorageFolder, Sweep, complete_spec
from orchestrator.errors import OrchestratorError, SpecError, SweepLocked, quoted
from orchestrator.execution.cluster.addresses import chosen_address
from orchestrator.planning.changes.original import require_original
from orchestrator.planning.loading import load_spec
from orchestrator.planning.plan import tracking_store
from orchestrator.state.s3_mirror import Mirror
from orchestrator.state.sweep_folder import reference, require_writable
from orchestrator.state.sweep_lock import is_held
from orchestrator.state.sweep_lookup import find_sweep
from search_spaces import Problem, dump_yaml
from search_spaces.errors import MissingExtraError
from trainables.metrics import lookup

if TYPE_CHECKING:
    from orchestrator.mlflow_import.runs import ImportedRun, SourceExperiment
    from orchestrator.spec.model import SweepSpec
    from orchestrator.spec.objective import Objective

Mode = Literal["max", "min"]
MaybeSpec = Annotated[
    Path | None,
    typer.Argument(metavar="SPEC", help="Sweep spec to check this machine for.", autocompletion=complete_spec),
]
PANEL = "Maintain"
TOP = 10

app = typer.Typer()


@app.command(rich_help_panel=PANEL, epilog="Example: ravel sync digits")
def sync(sweep: Sweep, folder: StorageFolder = RESULTS) -> None:
    """Send MLflow, and S3 if the sweep is stored there, what they lack of a sweep.

    MLflow gets its report, too.
    """
    from orchestrator.analysis.report.attaching import attach  # noqa: PLC0415
    from orchestrator.redaction import without_password  # noqa: PLC0415
    from orchestrator.tracking.store.store import tracking_uri  # noqa: PLC0415
    from orchestrator.tracking.tracker import Tracker  # noqa: PLC0415  needs MLflow

    try:
        from filelock import FileLock  # noqa: PLC0415  comes with MLflow's extra
    except ImportError as error:
        raise MissingExtraError("filelock", extra="track") from error
    result = SweepResult.read(find_sweep(folder, sweep))
    store = result.folder
    require_original(result.plan, store)
    require_writable(store, purpose="send the sweep")
    if is_held(store):
        remedy = f"ravel status {reference(store)}"
        raise SweepLocked(f"{store.sweep}: its driver runs and sends everything itself; see its progress: {remedy}")
    if store.remote is not None:
        Mirror(store, store.remote).catch_up()
        typer.echo(f"{store.sweep}: {store.uri} has the whole log of this machine")
    tracker = Tracker(result.plan, store, replay=True)
    with FileLock(store.sync_lock):  # two at once would each create the missing runs
        try:
            tracker.catch_up()
        except Exception as error:
            reason = f"{tracking_uri(result.plan)}: MLflow did not take it ({error}); retry later"
            raise OrchestratorError(without_password(reason)) from error
        attach(result)
    refused = f", except {', '.join(tracker.skipped)}, which it refuses" if tracker.skipped else ""
    typer.echo(f"{store.sweep}: MLflow has everything the log has{refused}")


@app.command(
    "import-mlflow",
    rich_help_panel=PANEL,
    epilog="Example: ravel import-mlflow 'resnet tuning' --spec sweep.yaml --metric val_acc --rename lr=optimizer.lr",
)
def import_mlflow(
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="Name or id of the experiment.")],
    spec: Annotated[Path, typer.Option("--spec", metavar="SPEC", help="Sweep spec with the space of the points.")],
    *,
    tracking: Annotated[str | None, typer.Option(metavar="URI", help="MLflow store; default: the spec's.")] = None,
    metric: Annotated[str | None, typer.Option(help="Name of the objective in the runs.")] = None,
    mode: Annotated[Mode | None, typer.Option(help="Direction of that metric; default: the known one.")] = None,
    top: Annotated[int | None, typer.Option(min=1, help=f"Points, at most; default: {TOP}.")] = None,
    wanted: Annotated[
        str, typer.Option("--filter", help="MLflow search string; import only the runs it matches.")
    ] = "",
    rename: Annotated[
        list[str] | None, typer.Option(metavar="THEIRS=OURS", help="Rename a parameter; repeatable.")
    ] = None,
    into: Annotated[
        str | None, typer.Option(metavar="STORAGE", help="Write a sweep with all runs into this storage.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Import the runs of any MLflow experiment.

    Print the best runs as points for a spec. With --into, write all runs as a finished sweep, for ravel status, best
    and compare.
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
        imported = _write_sweep(source, runs, loaded, metric=metric, into=into)
        typer.echo(json.dumps(imported, indent=1) if as_json else _sweep_text(imported))
        return
    offer = importing.offer(runs, loaded.space, metric=metric, mode=mode, top=top or TOP)
    for line in offer.lines:
        typer.echo(line, err=True)
    if not offer.points:
        raise OrchestratorError(f"{source.experiment}: no run became a point of the space of {spec}; see above")
    points = [dict(point) for point in offer.points]
    typer.echo(json.dumps(points, indent=1) if as_json else dump_yaml(points), nl=as_json)


@app.command(rich_help_panel=PANEL, epilog="Example: ravel purge digits-20260101-120000-1a2b --yes")
def purge(
    sweep: Sweep,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Remove everything listed; by default only list it.")] = False,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Remove checkpoints only, those of all but the best trials.")
    ] = False,
    keep_best: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="With --checkpoints: trials that keep theirs.")
    ] = None,
    folder: StorageFolder = RESULTS,
) -> None:
    """Remove everything a sweep wrote, or the checkpoints of all but its best trials.

    List its folder or S3 prefix, its MLflow runs, artifacts and views; with --yes, remove these and nothing else. With
    --checkpoints --keep-best K, only checkpoints of trials that are over go; all measurements stay.
    """
    result = SweepResult.read(find_sweep(folder, sweep))
    if checkpoints or keep_best is not None:
        _purge_checkpoints(result, keep_best=keep_best, is_chosen=checkpoints, yes=yes)
        return
    purged = purging.find(result.plan, result.folder)
    for line in purged.lines():
        typer.echo(line)
    if not yes:
        typer.echo(f"nothing was removed; to remove all of this: ravel purge {reference(result.folder)} --yes")
        return
    purging.carry_out(result.plan, purged)
    later = "" if purged.traces.for_good else "; its server keeps deleted runs until `mlflow gc` runs there"
    typer.echo(f"{result.sweep}: removed{later}")


@app.command(rich_help_panel=PANEL, epilog="Example: ravel doctor sweep.yaml --address auto")
def doctor(
    spec: MaybeSpec = None,
    overrides: Set = None,
    address: Address = None,
    storage: Annotated[
        str | None, typer.Option("--storage", help="Storage to check.  [default: the spec's, else results]")
    ] = None,
    *,
    start_ray: Annotated[bool, typer.Option("--start-ray", help="Start a private Ray, which takes a while.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine, its servers and a cluster; print the fix for each fault.

    With SPEC, import its modules and read its data too. Exit with 0 if nothing failed, with 2 if the spec is wrong,
    else with 3. What is written for a check is removed.
    """
    from orchestrator.doctor import checkup, output  # noqa: PLC0415  imports what each check needs

    subject = checkup.Subject(
        spec=None if spec is None else str(spec),
        overrides=tuple(overrides or ()),
        address=chosen_address(address),
        storage=storage,
        start_ray=start_ray,
    )
    diagnosis = checkup.check_up(subject)
    typer.echo(json.dumps(output.as_json(diagnosis), indent=1) if as_json else "\n".join(output.lines(diagnosis)))
    if diagnosis.is_cut_short:  # a thread may wait in the kernel for ever, and a library may wait for it
        sys.stdout.flush()
        os._exit(diagnosis.exit_code)
    raise typer.Exit(diagnosis.exit_code)


def _purge_checkpoints(result: SweepResult, *, keep_best: int | None, is_chosen: bool, yes: bool) -> None:
    if keep_best is None or not is_chosen:
        missing, place = ("--keep-best K", "--checkpoints") if is_chosen else ("--checkpoints", "--keep-best")
        raise SpecError([Problem(place, f"must be given with {missing}; without both, purge removes the whole sweep")])
    options = f"{reference(result.folder)} --checkpoints --keep-best {keep_best}"
    if not yes:
        for line in checkpoint_purge.find(result.plan, result.folder, keep_best=keep_best).lines:
            typer.echo(line)
        typer.echo(f"nothing was removed; to delete them: ravel purge {options} --yes")
        return
    try:
        purged = checkpoint_purge.carry_out(result.plan, result.folder, keep_best=keep_best)
    except OSError as error:
        reason = f"{error.filename or result.folder.uri}: cannot be deleted ({error.strerror or error})"
        raise OrchestratorError(
            f"{reason}; delete the rest with the same command: ravel purge {options} --yes"
        ) from None
    typer.echo("\n".join([*purged.lines, f"{result.sweep}: deleted"]))


def direction(metric: str, objective: Objective) -> Mode:
    """Return the known direction of a metric, else that of the objective it is imported as.

    >>> from orchestrator.spec.objective import Objective
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
        requirement = f"must be {objective.mode!r} with --into, as for the objective {objective.metric} of the spec"
        problems.append(Problem("--mode", f"{requirement}, got {quoted(mode)}; change the objective of the spec"))
    if problems:
        raise SpecError(problems)


def _names(renames: list[str]) -> dict[str, str]:
    pairs = [(text, *text.partition("=")) for text in renames]
    wrong = [text for text, theirs, _, ours in pairs if not theirs or not ours]
    if wrong:
        requirement = "must be THEIRS=OURS, for example lr=optimizer.lr"
        raise SpecError(Problem(f"--rename {text}", requirement) for text in wrong)
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


def _sweep_text(imported: dict[str, Any]) -> str:
    source = f"{imported['trials']} trials from MLflow's experiment {imported['experiment']!r}"
    return f"{imported['sweep']}: {source}; {imported['next']}"
