"""Exports by name: their default places, and what each writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from orchestrator.analysis.result import SweepResult
from orchestrator.errors import SpecError, quoted
from orchestrator.export.history import SweepHistory
from orchestrator.export.output import checked
from search_spaces import Problem, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.export.output import Output
    from orchestrator.state.sweep_folder import SweepFolder


@dataclass(frozen=True)
class Kind:
    """Export of a sweep's history; ``suffix`` ends the name of its default place."""

    suffix: str
    write: Callable[[SweepHistory, Output], list[str]]
    is_folder: bool = True


@dataclass(frozen=True)
class Exported:
    """Place of an export, and lines on what the user should know."""

    path: Path
    notes: tuple[str, ...] = ()


MODEL = "model"


def _csv(history: SweepHistory, output: Output) -> list[str]:
    from orchestrator.export.csv_files import csv_text, formulas  # noqa: PLC0415
    from orchestrator.export.tables import tables  # noqa: PLC0415

    written = tables(history)
    with output.folder() as folder:
        for table in written:
            (folder / f"{table.name}.csv").write_text(csv_text(table), encoding="utf-8", newline="")
    suspects = [f"{table.name}.csv: {name}" for table in written for name in formulas(table)]
    remedy = "a spreadsheet may take its texts for formulas; import the column as text"
    return [f"{place}: {remedy}" for place in suspects]


def _parquet(history: SweepHistory, output: Output) -> list[str]:
    from orchestrator.export.parquet_files import parquet_bytes  # noqa: PLC0415
    from orchestrator.export.tables import tables  # noqa: PLC0415

    with output.folder() as folder:
        for table in tables(history):
            (folder / f"{table.name}.parquet").write_bytes(parquet_bytes(table, {"ravel.sweep": history.plan.sweep}))
    return []


def _optuna(history: SweepHistory, output: Output) -> list[str]:
    from orchestrator.export.optuna_storage import study_file  # noqa: PLC0415

    output.write_file(study_file(history))
    return []


def _tensorboard(history: SweepHistory, output: Output) -> list[str]:
    from orchestrator.export.tensorboard_events import write_events  # noqa: PLC0415

    with output.folder() as folder:
        write_events(history, folder)
    return []


def _wandb(history: SweepHistory, output: Output) -> list[str]:
    from orchestrator.export.wandb_runs import RUNS, write_runs  # noqa: PLC0415

    with output.folder() as folder:
        write_runs(history, folder)
    return [f"upload it with: wandb sync {output.path / RUNS}/offline-run-*"]


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "csv": Kind("csv", _csv),
        "parquet": Kind("parquet", _parquet),
        "optuna": Kind("optuna.db", _optuna, is_folder=False),
        "tensorboard": Kind("tensorboard", _tensorboard),
        "wandb-offline": Kind("wandb", _wandb),
    }
)


def export(
    folder: SweepFolder,
    kind: str,
    out: str | Path | None = None,
    *,
    epoch: int | None = None,
    trial: str | None = None,
    force: bool = False,
) -> Exported:
    """Export a sweep, or the model of one of its trials.

    Args:
        folder: Files of the sweep.
        kind: One of ``KINDS``, or ``model``.
        out: Place to write; by default ``SWEEP-KIND`` in the working directory.
        epoch: Epoch at which trials are compared; by default each counts with its last one.
        trial: Of a model, the trial; by default the best.
        force: Replace an earlier export.

    Raises:
        SpecError: no such kind, an argument that the kind does not take, or the place exists.
        OrchestratorError: the sweep has nothing to export, or the place cannot be written.
        MissingExtraError: a library is not installed; names the extra.
    """
    _refuse(kind, epoch=epoch, trial=trial)
    if kind == MODEL:
        return _model(folder, out, trial=trial, force=force)
    chosen = KINDS[kind]
    history = SweepHistory.read(folder, epoch=epoch)
    place = Path(f"{folder.sweep}-{chosen.suffix}" if out is None else out)
    output = checked(place, kind=kind, sweep=folder.sweep, is_folder=chosen.is_folder, force=force)
    notes = chosen.write(history, output)
    return Exported(output.path, tuple(notes))


def _model(folder: SweepFolder, out: str | Path | None, *, trial: str | None, force: bool) -> Exported:
    from orchestrator.export.model_folder import write_model  # noqa: PLC0415

    result = SweepResult.read(folder)
    chosen = result.best() if trial is None else result.named(trial)
    chosen.require_classifier()
    place = Path(f"{folder.sweep}-{chosen.trial.id}-model" if out is None else out)
    output = checked(place, kind=MODEL, sweep=folder.sweep, is_folder=True, force=force)
    return Exported(write_model(result, chosen, output))


def _refuse(kind: str, *, epoch: int | None, trial: str | None) -> None:
    """Refuse what is no export, and arguments that an export does not take."""
    problems = []
    if kind not in {*KINDS, MODEL}:
        closest = nearest(kind, (*KINDS, MODEL))
        hint = f"; did you mean {closest!r}?" if closest else ""
        problems.append(Problem("kind", f"must be one of {', '.join((*KINDS, MODEL))}, got {quoted(kind)}{hint}"))
    elif kind == MODEL and epoch is not None:
        message = "is not for a model, which is that of its trial's last epoch; leave it out, or choose with --trial"
        problems.append(Problem("--epoch", message))
    elif kind != MODEL and trial is not None:
        problems.append(Problem("--trial", f"is for a model, and {kind} has all trials; leave it out"))
    if problems:
        raise SpecError(problems)
