"""Commands of the panel Analyse: plot, report, replay, audit, evaluate, transfer."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.analysis.evaluation.output import plain, show, show_matrix, write
from orchestrator.analysis.evaluation.target import find_target, subject_of, target_of
from orchestrator.analysis.replay_output import replay_text, what_if_text
from orchestrator.analysis.result import SweepResult
from orchestrator.cli.shared.arguments import RESULTS, AsJson, Epoch, StorageFolder, Sweep
from orchestrator.cli.shared.evaluation_options import (
    DataRoot,
    Device,
    Epsilon,
    Model,
    Out,
    Seed,
    Subset,
    Suites,
    Track,
    chosen_trials,
    evaluation_bar,
    evaluation_console,
    one_radius,
    send_report,
    suites_of,
)
from orchestrator.errors import OrchestratorError
from orchestrator.state.sweep_lookup import find_sweep
from trainables.errors import ConfigError

if TYPE_CHECKING:
    from trainables.evaluation.core.report import Report

WhatIf = Annotated[
    list[str] | None,
    typer.Option(
        "--what-if", metavar="scheduler.FIELD=VALUE", help="Replay with another scheduler setting; repeatable."
    ),
]
ATTACKING = {"robust", "dknn"}
PANEL = "Analyse"

app = typer.Typer()


@app.command(rich_help_panel=PANEL, epilog="Example: ravel plot digits slice --epoch 9")
def plot(
    sweep: Sweep,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="history, curves, rungs, importance, slice, rank, contour, parallel, pareto, timeline, cost, "
            "entanglement, effect, or all.",
        ),
    ],
    *,
    epoch: Epoch = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Default: SWEEP-KIND.html; of all, the folder SWEEP-figures."),
    ] = None,
    track: Annotated[
        bool, typer.Option("--track/--no-track", help="Send figures to the sweep's run in MLflow.")
    ] = False,
    folder: StorageFolder = RESULTS,
) -> None:
    """Draw a figure of a sweep as an HTML page that needs no network.

    Trials are compared at one epoch, which the figure names: the highest that at least 12 trials reached, or --epoch.
    """
    from orchestrator.analysis.figures import registry  # noqa: PLC0415  plotly is an extra
    from orchestrator.tracking.evaluations import log_figure  # noqa: PLC0415

    result = SweepResult.read(find_sweep(folder, sweep))
    is_all = kind == registry.ALL
    for name in registry.KINDS if is_all else [kind]:
        default = Path(f"{result.sweep}-figures") if is_all else Path(f"{result.sweep}-{kind}.html")
        path = (out or default) / f"{name}.html" if is_all else out or default
        try:
            page = registry.write_page(registry.draw(result, name, epoch=epoch), path)
        except OrchestratorError as error:
            if not is_all:
                raise
            typer.echo(f"{name}: left out: {error}", err=True)
            continue
        typer.echo(path)
        if track:
            log_figure(result.plan, name, page)


@app.command(rich_help_panel=PANEL, epilog="Example: ravel report digits --out digits.html")
def report(
    sweep: Sweep,
    against: Annotated[
        str | None, typer.Option("--against", metavar="OTHER", help="Another sweep, to put both side by side.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Default: SWEEP-report.html.")] = None,
    folder: StorageFolder = RESULTS,
) -> None:
    """Write a sweep as one HTML page to send to others.

    It has what ran, what can be claimed, figures, all trials, and all that is needed to repeat it. It needs no network.
    """
    from orchestrator.analysis.report.report import write_report  # noqa: PLC0415

    result = SweepResult.read(find_sweep(folder, sweep))
    other = None if against is None else SweepResult.read(find_sweep(folder, against))
    path = out or Path(f"{result.sweep}-report.html" if other is None else f"{result.sweep}-and-{other.sweep}.html")
    write_report(result, path, against=other)
    typer.echo(path)


@app.command(rich_help_panel=PANEL, epilog="Example: ravel replay digits --what-if scheduler.grace_period=4")
def replay(
    sweep: Sweep,
    what_if: WhatIf = None,
    folder: StorageFolder = RESULTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Replay every decision of a sweep from its log.

    Exit with 3 if a decision differs from the recorded one. With --what-if, show the decisions of other scheduler
    settings on the recorded curves.
    """
    from orchestrator.analysis import replay as replaying  # noqa: PLC0415  the search imports Optuna
    from orchestrator.planning.provenance import changed_code  # noqa: PLC0415
    from orchestrator.state.event_log import read_events  # noqa: PLC0415

    result = SweepResult.read(find_sweep(folder, sweep))
    events = [event for event, _ in read_events(result.folder.events)]
    if what_if:
        workers = replaying.most_at_once(events)
        other, outcome = replaying.what_if(result.plan, result.state, what_if, workers=workers)
        typer.echo(what_if_text(result, other, outcome, as_json=as_json))
        return
    replayed = replaying.replay(result.plan, events)
    for module in changed_code(result.plan.provenance, Path(result.plan.working_directory)):
        typer.echo(f"{module} changed since the launch; decisions are repeated with the new code", err=True)
    typer.echo(json.dumps(asdict(replayed), indent=1) if as_json else replay_text(result.sweep, replayed))
    if replayed.differences:
        raise typer.Exit(OrchestratorError.exit_code)


@app.command(rich_help_panel=PANEL, epilog="Example: ravel audit digits")
def audit(sweep: Sweep, folder: StorageFolder = RESULTS, as_json: AsJson = False) -> None:  # noqa: FBT002
    """Report the cost of early stopping in scores.

    Report how often, and by how much, rejected trials end better. Launch the sweep with scheduler.audit above 0.
    """
    report = SweepResult.read(find_sweep(folder, sweep)).audit()
    typer.echo(json.dumps(_plain(asdict(report)), indent=1) if as_json else "\n".join(report.lines()))


@app.command(rich_help_panel=PANEL, epilog="Example: ravel evaluate digits/t003 --suite clean,robust --subset 1000")
def evaluate(
    run: Model,
    *,
    suite: Suites = "clean",
    subset: Subset = None,
    ood: Annotated[
        list[str] | None,
        typer.Option(metavar="SET", help="rotated, permuted, noise, NAME=FOLDER or NAME=ROOT; repeatable."),
    ] = None,
    epsilon: Epsilon = None,
    aa_lite: Annotated[bool, typer.Option("--aa-lite", help="Attack with the AA-lite ensemble too.")] = False,
    autoattack: Annotated[bool, typer.Option("--autoattack", help="Attack with AutoAttack (standard) too.")] = False,
    data_root: DataRoot = None,
    device: Device = "auto",
    seed: Seed = 0,
    out: Out = None,
    track: Track = True,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Recompute cached suites.")] = False,
    folder: StorageFolder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Evaluate a trained model on test images.

    Write numbers, tables and figures. Each finished suite is cached: run the same command to continue after a stop.
    """
    from trainables.data import cache_folder  # noqa: PLC0415  imports torch
    from trainables.evaluation.core import report  # noqa: PLC0415
    from trainables.evaluation.core.results import EvaluationBudget  # noqa: PLC0415

    names = suites_of(suite)
    target = find_target(run, results=folder)
    subject = subject_of(
        target,
        data_root=data_root,
        epsilon=epsilon,
        outliers=ood or [],
        device=device,
        seed=seed,
        attacked=bool(ATTACKING & set(names)),
    )
    budget = EvaluationBudget(images=subset, aa_lite=aa_lite, autoattack=autoattack)
    cache, place = cache_folder(_data_of(target.checkpoint)) / "evaluations", out or Path("evaluations") / target.slug
    reports, failed = [], []
    remedy = "" if subset is None else f"; --subset {subset} may be too few"
    with evaluation_bar(quiet=as_json) as progress:
        for name in names:
            try:
                (measured,) = report.evaluate(
                    subject, [name], budget, cache=cache, progress=progress, recompute=no_cache
                )
            except (ValueError, ConfigError) as error:  # too few images, a user's bug: the remaining suites can run
                if isinstance(error, ConfigError) and os.environ.get("RAVEL_DEBUG"):
                    raise
                failed.append(str(error) if isinstance(error, ConfigError) else f"{name}: {error}{remedy}")
                continue
            write(measured, place)
            reports.append(measured)
            if not as_json:
                show(measured, evaluation_console())
            if track and target.plan is not None:
                send_report(target.plan, measured, epoch=_epoch(target.checkpoint), trial=target.trial)
    _finish(reports, place, as_json=as_json)
    if failed:
        raise OrchestratorError("\n".join(f"not measured: {line}" for line in failed))


@app.command(rich_help_panel=PANEL, epilog="Example: ravel transfer digits -k 4 --attack pgd")
def transfer(
    sweep: Sweep,
    *,
    trials: Annotated[str, typer.Option(metavar="TRIALS", help="Trials, separated by commas; default: the best.")] = "",
    k: Annotated[int, typer.Option("-k", min=2, help="Number of best trials.")] = 4,
    attack: Annotated[str, typer.Option(help="fgsm, pgd, pgd-l2, lbfgs, ...; default: PGD in the trials' norm.")] = "",
    subset: Subset = 1000,
    epsilon: Epsilon = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    seed: Seed = 0,
    out: Out = None,
    track: Track = True,
    folder: StorageFolder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Attack several trials, and measure which trials the same images fool."""
    from trainables.evaluation.core import report  # noqa: PLC0415  imports torch
    from trainables.evaluation.core.prediction import within  # noqa: PLC0415
    from trainables.evaluation.robustness.transfer import transfer as measure  # noqa: PLC0415

    result = SweepResult.read(find_sweep(folder, sweep))
    chosen = chosen_trials(result, trials, k)
    targets = {name: target_of(result, result.named(name)) for name in chosen}
    subjects = {
        name: subject_of(target, data_root=data_root, epsilon=epsilon, device=device, seed=seed)
        for name, target in targets.items()
    }
    first = next(iter(subjects.values()))
    attack = attack or ("pgd-l2" if first.norm == "l2" else "pgd")
    radius = one_radius(subjects, attack)
    images, cut = within(first.test, subset)
    with evaluation_bar(quiet=as_json) as progress:
        progress(f"transfer, {attack}", 0)
        matrix = measure(
            {name: subject.model for name, subject in subjects.items()},
            images,
            attack=attack,
            epsilon=radius,
            seed=seed,
        )
    matrix = replace(matrix, limits=(*cut, *matrix.limits))
    document = report.document("transfer", {attack: matrix}, key="", seconds=0)
    place = out or Path("evaluations") / f"{result.sweep}-transfer"
    write(document, place)
    if not as_json:
        show_matrix(matrix, evaluation_console())
    if track:
        send_report(result.plan, document)
    _finish([document], place, as_json=as_json)


def _plain(value: Any) -> Any:
    """Return a value as strict JSON: null for a number that is not finite."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _data_of(checkpoint: Path) -> Any:
    from trainables.engine import checkpoint as state  # noqa: PLC0415  imports torch
    from trainables.models.loading import saved_config  # noqa: PLC0415

    return saved_config(checkpoint, state.load(checkpoint)).data


def _epoch(checkpoint: Path) -> int:
    from trainables.engine import checkpoint as state  # noqa: PLC0415  imports torch

    return state.load(checkpoint).epoch


def _finish(reports: list[Report], place: Path, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({report.suite: plain(report) for report in reports}, indent=1))
    else:
        typer.echo(f"\ntables and figures: {place}")
