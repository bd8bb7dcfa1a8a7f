"""Commands of the panel Analyse that hand results to other programs: export, predict."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003  typer reads it
from typing import Annotated

import typer

from orchestrator.cli.shared.arguments import RESULTS, AsJson, Epoch, StorageFolder, Sweep
from orchestrator.errors import OrchestratorError, SpecError
from orchestrator.state.sweep_lookup import find_sweep
from search_spaces import Problem

PANEL = "Analyse"

app = typer.Typer()


@app.command(rich_help_panel=PANEL, epilog="Example: ravel export digits optuna")
def export(
    sweep: Sweep,
    kind: Annotated[
        str,
        typer.Argument(metavar="KIND", help="csv, parquet, optuna, tensorboard, wandb-offline, or model."),
    ],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="File or folder; default: SWEEP-KIND.")
    ] = None,
    epoch: Epoch = None,
    trial: Annotated[str | None, typer.Option(help="Trial whose model is exported; default: the best.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    folder: StorageFolder = RESULTS,
) -> None:
    """Export a sweep for other programs, or its best model.

    Tables (csv, parquet), an Optuna study (optuna), TensorBoard's event files, offline runs of Weights & Biases, or a
    model that plain torch runs. All but the model are computed from the log alone.
    """
    from orchestrator.export import registry  # noqa: PLC0415

    if sweep in registry.KINDS and kind not in registry.KINDS:
        raise SpecError([Problem("KIND", f"must come after the sweep: `ravel export {kind} {sweep}`")])
    exported = registry.export(find_sweep(folder, sweep), kind, out, epoch=epoch, trial=trial, force=force)
    typer.echo(exported.path)
    for note in exported.notes:
        typer.echo(note, err=True)


@app.command(rich_help_panel=PANEL, epilog="Example: ravel predict digits-t003-model seven.png --top 3")
def predict(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Exported model, SWEEP (its best trial), or SWEEP:TRIAL.")
    ],
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Image files.")],
    *,
    top: Annotated[int, typer.Option("--top", min=1, metavar="K", help="Number of classes to print.")] = 1,
    folder: StorageFolder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Predict the class of images, with its probability.

    A probability divides the model's belief among its classes. It says nothing about an image unlike those of training.
    An exported model can run code when it is loaded: predict with models that you trust.
    """
    from orchestrator.export import prediction  # noqa: PLC0415  imports torch

    predictor = prediction.find_predictor(model, storage=folder)
    predictions, bad = prediction.predict(predictor, images)
    for note in prediction.notes(predictor, predictions):
        typer.echo(note, err=True)
    if as_json:
        failed = [{"image": error.path, "error": str(error)} for error in bad]
        typer.echo(json.dumps([*(item.as_json(top) for item in predictions), *failed], indent=1))
    else:
        for item in predictions:
            ranked = ", ".join(f"{name} {probability:.4f}" for name, _, probability in item.ranked[:top])
            typer.echo(f"{item.path}: {ranked}")
    if bad:
        raise OrchestratorError("\n".join(map(str, bad)))
