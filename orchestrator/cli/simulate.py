"""Command of the panel Analyse that tests search policies: simulate."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from orchestrator.cli.shared.arguments import RESULTS, AsJson, StorageFolder, complete_sweep
from orchestrator.errors import SpecError, quoted
from orchestrator.state.sweep_lookup import find_sweep
from search_spaces import Problem
from trainables.import_paths import find_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.simulation.objective_value import Value
    from orchestrator.simulation.tables import Table
    from orchestrator.spec.model import SweepSpec

PANEL = "Analyse"
SUFFIXES = (".json", ".json.gz")
SAMPLERS, SCHEDULERS, TRIALS = "random tpe", "none asha", 64

Number = TypeVar("Number", int, float)

app = typer.Typer()


@app.command(
    rich_help_panel=PANEL,
    epilog='Example: ravel simulate digits --samplers "random tpe mine:Sampler" --schedulers "none asha" --budget 0.3',
)
def simulate(
    recorded: Annotated[
        str,
        typer.Argument(
            metavar="TABLE|SWEEP",
            help="Table of recorded curves (.json or .json.gz), or a finished sweep whose trials were trained to "
            "their end.",
            autocompletion=complete_sweep,
        ),
    ],
    *,
    samplers: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help=f"Samplers, also module:Class. Default: the sweep's; {SAMPLERS} of a table."
        ),
    ] = None,
    schedulers: Annotated[
        str,
        typer.Option(metavar="NAMES", help="Schedulers: NAME, or NAME,FIELD=VALUE,... such as asha,grace_period=3."),
    ] = SCHEDULERS,
    budget: Annotated[
        str, typer.Option(metavar="SHARES", help="Values of scheduler.budget_fraction, for schedulers that have it.")
    ] = "0.3",
    workers: Annotated[str, typer.Option(metavar="COUNTS", help="Trials that run at a time.")] = "8",
    objective: Annotated[
        str | None,
        typer.Option(metavar="METRIC", help="A metric, or METRIC+METRIC for their mean. Default: the sweep's."),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help=f"Trials of a search. Default: the sweep's; {TRIALS}.")
    ] = None,
    sweeps: Annotated[int, typer.Option(min=1, help="Simulated sweeps of each policy, paired by seed.")] = 20,
    given_points: Annotated[
        bool, typer.Option("--given-points", help="Test schedulers alone, on the recorded points in random orders.")
    ] = False,
    folder: StorageFolder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Test search policies on recorded learning curves, in virtual time.

    Points are proposed in the recorded space; their curves come from a surrogate of the recorded ones, whose quality is
    printed. The sweeps are decided by the code of a live one, your own samplers and schedulers included. Several values
    of an option are separated by spaces.
    """
    # numpy reads it once. Matrices of a model are so small that the threads of a busy machine only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from orchestrator.simulation.output import as_json as json_of  # noqa: PLC0415  the samplers import Optuna
    from orchestrator.simulation.output import header, text  # noqa: PLC0415
    from orchestrator.simulation.policies import compare, policies  # noqa: PLC0415
    from orchestrator.simulation.surrogate import Surrogate  # noqa: PLC0415

    is_table = recorded.endswith(SUFFIXES) or Path(recorded).is_file()
    table, spec, value = _of_table(recorded, objective) if is_table else _of_sweep(recorded, folder, objective)
    names = samplers or (SAMPLERS if is_table else spec.search.sampler)
    count = trials or (TRIALS if is_table else spec.search.num_trials)
    spec = spec.model_copy(update={"search": spec.search.model_copy(update={"num_trials": count, "seeds": 1})})
    chosen = policies(
        spec,
        samplers=[None] if given_points else names.split(),
        schedulers=schedulers.split(),
        budgets=_numbers("--budget", budget, float),
        workers=_numbers("--workers", workers, int),
    )
    truth = table if given_points else Surrogate(table)
    if given_points:
        from orchestrator.simulation.runs import num_sampled  # noqa: PLC0415

        count = num_sampled(table)
    if not as_json:
        typer.echo("\n".join(header(truth, value, sweeps=sweeps, trials=count)))
    scores = compare(chosen, truth, value, sweeps=sweeps, progress=_progress())
    if as_json:
        typer.echo(json_of(scores, truth, value, sweeps=sweeps, trials=count))
    else:
        typer.echo(text(scores, []))


def _of_table(path: str, objective: str | None) -> tuple[Table, SweepSpec, Value]:
    """Return a table, the spec of a sweep of its space, and the objective."""
    from orchestrator.simulation.objective_value import Value  # noqa: PLC0415
    from orchestrator.simulation.tables import load_table, require  # noqa: PLC0415
    from orchestrator.simulation.whole_search import spec_for  # noqa: PLC0415

    table, value = load_table(path), Value.of(objective or "val/accuracy")
    require(table, value.parts)
    find_in(Path.cwd())
    return table, spec_for(table, str(value)), value


def _of_sweep(sweep: str, storage: str, objective: str | None) -> tuple[Table, SweepSpec, Value]:
    """Return the table of a sweep's whole curves, its spec, and the objective."""
    from orchestrator.planning.loading import override  # noqa: PLC0415
    from orchestrator.planning.plan import SweepPlan  # noqa: PLC0415
    from orchestrator.simulation.objective_value import Value  # noqa: PLC0415
    from orchestrator.simulation.sweep_table import sweep_table  # noqa: PLC0415
    from orchestrator.state.sweep_state import SweepState  # noqa: PLC0415

    location = find_sweep(storage, sweep)
    plan, state = SweepPlan.load(location), SweepState.read(location.events)
    spec = plan.spec
    value = Value((spec.objective.metric,), spec.objective.mode) if objective is None else Value.of(objective)
    table = sweep_table(plan, state, (*value.parts, *(() if objective else spec.objective.metrics)))
    find_in(Path(plan.working_directory))
    if objective is not None:
        spec = override(spec, [f"objective={value.metric} {value.mode}"])
    return table, spec, value


def _numbers(option: str, text: str, kind: Callable[[str], Number]) -> list[Number]:
    """Return the numbers of an option."""
    try:
        numbers = [kind(word) for word in text.split()]
    except ValueError:
        numbers = []
    if not numbers or not all(number > 0 for number in numbers):
        what = "whole numbers" if kind is int else "numbers"
        raise SpecError([Problem(option, f"must be {what} above 0, separated by spaces; got {quoted(text)}")])
    return numbers


def _progress() -> Callable[[object], None]:
    """Return what shows the policy that runs, on a terminal."""
    if not sys.stderr.isatty():
        return lambda _: None
    return lambda policy: typer.echo(f"  {policy} ...", err=True)
