"""Whole searches at equal spend: this project's defaults against what users would pick, on surrogates of tables.

    python benchmarks/scheduling/whole_searches.py run --tables digits mnist --seeds 20 --processes 2
    python benchmarks/scheduling/whole_searches.py run --chosen --tables digits mnist
    python benchmarks/scheduling/whole_searches.py check
    python benchmarks/scheduling/comparison.py

A search has a budget of gradient evaluations: a share of what 64 random points of the table's space would cost if all
were trained to their end. The project is told that share; a rival starts trials until the budget is spent. Seeds are
paired: the n-th trial has the same noise under every policy. Scores are kept in KEPT, one line each, so that a run that
was stopped continues, on any machine. A line names the table's bytes and the code that made it: lines of another table
are simulated once more. ``check`` samples the lines of other code than that of today, simulates them, and says how many
come out the same; ``--redo POLICY`` simulates all of a policy once more. ``comparison.py`` writes the result into the
documentation.

DEVELOPMENT tables are for trying things out, TEST tables for the result: each is named here before it is used.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import hashlib
import itertools
import json
import math
import multiprocessing
import os
import random
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Many threads for small matrices only wait for each other, in each of several processes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

from plain_asha import Cell, Job, Seeds, chosen_jobs
from rivals import TABLES, Result, rivals

from orchestrator.simulation.objective_value import Value
from orchestrator.simulation.surrogate import Surrogate
from orchestrator.simulation.tables import load_table
from orchestrator.simulation.whole_search import search, spec_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

KEPT = TABLES / "whole_searches.jsonl.gz"
DEVELOPMENT = ("digits", "digits-mlp", "mnist", "digits-mlp-strong")
TEST = ("digits-cnn", "mnist-pgd", "fashion", "cifar10", "fashion-strong")
"""Tables that nothing was tuned on; the tables' own documentation says how they were cut."""
OBJECTIVES = ("val/accuracy", "val/robust_accuracy", "val/accuracy+val/robust_accuracy")
BUDGETS, WORKERS = (0.1, 0.2, 0.3, 0.4), (1, 8, 64)
TRIALS = 64
OURS = "defaults"
Cells = dict[Cell, dict[str, Seeds]]


def _ours(*, is_cut: bool = False, **settings: Any) -> Callable[..., Result]:
    def run(surrogate: Surrogate, value: Value, *, workers: int, seed: int, limit: float, budget: float) -> Result:
        spec = spec_for(
            surrogate.table,
            str(value),
            search={"num_trials": TRIALS, "seed": seed, **settings.get("search", {})},
            scheduler={"budget_fraction": budget, **settings.get("scheduler", {})},
        )
        most = limit if is_cut else math.inf
        found = search(spec, surrogate, objective=str(value), workers=workers, limit=most)
        return Result(found.regret, found.passes, found.epochs, len(found.state.trials), found.found_at_s)

    return run


PROJECT: dict[str, Callable[..., Result]] = {
    OURS: _ours(),
    f"{OURS}, cut at the budget": _ours(is_cut=True),
    "random + ladder": _ours(search={"sampler": "random"}),
}
"""Policies of this project, by name: its defaults, whatever they are now, and parts of them."""


@cache
def surrogate_of(table: str) -> Surrogate:
    """Return the surrogate of a table; each process fits it once."""
    return Surrogate(load_table(TABLES / f"{table}.json.gz"))


def budget_passes(surrogate: Surrogate, share: float) -> float:
    """Return the gradient evaluations of a share of full training."""
    return share * TRIALS * surrogate.table.epochs * surrogate.mean_passes


def simulated(job: Job) -> dict[str, Any]:
    """Simulate one search; a worker's whole work."""
    table, objective, budget, workers, policy, seed = job
    surrogate, value = surrogate_of(table), Value.of(objective)
    limit = budget_passes(surrogate, budget)
    if policy in PROJECT:
        result = PROJECT[policy](surrogate, value, workers=workers, seed=seed, limit=limit, budget=budget)
    else:
        result = rivals()[policy](surrogate, value, workers=workers, seed=seed, limit=limit)
    return {
        "job": list(job),
        "table": table_digest(table),
        "code": code_digest(is_ours=policy in PROJECT),
        "regret": round(result.regret, 6),
        "spent": round(result.passes / limit, 4),
        "epochs": result.epochs,
        "trials": result.trials,
        "found_at_s": round(result.found_at_s, 1) if math.isfinite(result.found_at_s) else None,
    }


@cache
def table_digest(table: str) -> str:
    """Return the digest of a table's file."""
    return hashlib.sha256((TABLES / f"{table}.json.gz").read_bytes()).hexdigest()[:8]


@cache
def code_digest(*, is_ours: bool) -> str:
    """Return the digest of the statements that decide in a simulated search; imports and layout do not count.

    Rivals use neither the project's sampler nor its decisions.
    """
    root = Path(__file__).parents[2] / "orchestrator"
    rooms = ("decisions", "scheduling", "simulation") if is_ours else ("scheduling", "simulation")
    sources = sorted(path for room in rooms for path in (root / room).rglob("*.py"))
    here = [] if is_ours else [Path(__file__).with_name(name) for name in ("bohb.py", "rival_sweep.py", "rivals.py")]
    return hashlib.sha256("".join(map(statements, [*sources, *here])).encode()).hexdigest()[:8]


def statements(path: Path) -> str:
    """Return the statements of a module without its imports and docstrings."""
    parsed = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(parsed):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [each for each in body if not _is_left_out(each)]  # type: ignore[attr-defined]
    return ast.dump(parsed)


def _is_left_out(node: ast.stmt) -> bool:
    is_words = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_words or isinstance(node, ast.Import | ast.ImportFrom)


def kept() -> dict[Job, dict[str, Any]]:
    """Return the scores so far."""
    lines: list[dict[str, Any]] = []
    if KEPT.exists():
        with gzip.open(KEPT, "rt", encoding="utf-8") as file, suppress(EOFError):  # a run was killed
            lines.extend(json.loads(line) for line in file if line.endswith("\n"))
    return {tuple(line["job"]): line for line in lines if line["table"] == table_digest(line["job"][0])}


def cells(tables: Sequence[str]) -> Cells:
    """Return the scores by cell (table, objective, budget, workers), policy and seed."""
    found: Cells = {}
    for (*cell, policy, seed), line in sorted(kept().items()):
        if cell[0] in tables:
            found.setdefault(tuple(cell), {}).setdefault(policy, {})[seed] = line
    return found


def write(lines: Iterable[dict[str, Any]]) -> None:
    """Write all scores anew, in one order, so that the same scores are the same bytes."""
    ordered = sorted(lines, key=lambda line: [str(part).rjust(8, "0") for part in line["job"]])
    partial = KEPT.with_suffix(".partial")
    with gzip.GzipFile(partial, "wb", mtime=0) as file:
        file.writelines(f"{json.dumps(line, separators=(',', ':'))}\n".encode() for line in ordered)
    partial.replace(KEPT)


def jobs(arguments: argparse.Namespace) -> Iterable[Job]:
    """Return the searches to run, seed by seed, so that a run that is stopped has whole rounds of seeds."""
    if arguments.chosen:
        found = cells(arguments.tables)
        return chosen_jobs({cell: each for cell, each in found.items() if _is_asked(cell, arguments)}, arguments.seeds)
    return _every_job(arguments)


def _is_asked(cell: Cell, arguments: argparse.Namespace) -> bool:
    _, objective, budget, workers = cell
    return objective in arguments.objectives and budget in arguments.budgets and workers in arguments.workers


def _every_job(arguments: argparse.Namespace) -> Iterator[Job]:
    policies = arguments.policies or [*PROJECT, *rivals(grid=not arguments.no_grid)]
    for seed in range(arguments.seeds):
        yield from itertools.product(
            arguments.tables, arguments.objectives, arguments.budgets, arguments.workers, policies, [seed]
        )


def simulate_all(arguments: argparse.Namespace) -> None:
    """Simulate what is not kept yet."""
    done = kept()
    redone = {job for job in done if job[4] in arguments.redo and job[0] in arguments.tables}
    done = {job: line for job, line in done.items() if job not in redone}
    write(done.values())
    waiting = [job for job in jobs(arguments) if job not in done]
    print(f"{len(done)} kept, {len(waiting)} to simulate", flush=True)
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool, gzip.open(KEPT, "ab") as file:
        for number, line in enumerate(pool.imap_unordered(simulated, waiting, chunksize=4), start=1):
            done[tuple(line["job"])] = line
            file.write(f"{json.dumps(line, separators=(',', ':'))}\n".encode())
            file.flush()
            if number % 100 == 0:
                print(f"{number} of {len(waiting)}", flush=True)
    write(done.values())


def check(arguments: argparse.Namespace) -> None:
    """Simulate some kept searches of other code once more, and print how many come out as they are kept."""
    done = {job: line for job, line in kept().items() if job[0] in arguments.tables}
    for policy in sorted({job[4] for job in done}):
        today = code_digest(is_ours=policy in PROJECT)
        others = [job for job, line in done.items() if job[4] == policy and line["code"] != today]
        sampled = random.Random(policy).sample(others, min(arguments.sampled, len(others)))
        same = sum({**simulated(job), "code": done[job]["code"]} == done[job] for job in sampled)
        if sampled:
            print(f"{policy}: {same} of {len(sampled)} are the same by the code of today", flush=True)


def main() -> None:
    """Simulate searches, or check some that are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "check"))
    parser.add_argument(
        "--tables",
        nargs="+",
        choices=(*DEVELOPMENT, *TEST),
        help="default: to run, those for development; to check, all",
    )
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES))
    parser.add_argument("--budgets", nargs="+", type=float, default=list(BUDGETS))
    parser.add_argument("--workers", nargs="+", type=int, default=list(WORKERS))
    parser.add_argument("--policies", nargs="+")
    parser.add_argument("--no-grid", action="store_true", help="without the settings of plain ASHA")
    parser.add_argument("--chosen", action="store_true", help="the settings of plain ASHA chosen by the first seeds")
    parser.add_argument("--redo", nargs="+", default=[], metavar="POLICY")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--sampled", type=int, default=5, help="searches of each policy to check")
    arguments = parser.parse_args()
    arguments.tables = arguments.tables or [*DEVELOPMENT, *(TEST if arguments.what == "check" else ())]
    (simulate_all if arguments.what == "run" else check)(arguments)


if __name__ == "__main__":
    main()
