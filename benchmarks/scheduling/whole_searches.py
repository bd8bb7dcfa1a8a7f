"""Whole searches at equal spend: this project's defaults against what users would pick, on surrogates of tables.

    python benchmarks/scheduling/whole_searches.py run --tables digits mnist --seeds 20 --processes 2
    python benchmarks/scheduling/whole_searches.py report --tables digits mnist

A search has a budget of gradient evaluations: a share of what 64 random points of the table's space would cost if all
were trained to their end. The project is told that share; a rival starts trials until the budget is spent. Seeds are
paired: the n-th trial has the same noise under every policy. Scores are kept in KEPT, one line each, so that a run that
was stopped continues, on any machine. A line names the table's bytes and the code that made it: lines of another table
are simulated once more, and the report says which policies rest on other code than that of today; ``--redo POLICY``
simulates those once more.

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
import statistics
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Many threads for small matrices only wait for each other, in each of several processes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

from rivals import TABLES, Result, rivals

from orchestrator.simulation.objective_value import Value
from orchestrator.simulation.policies import Mean
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
TUNED = "random + best-tuned ASHA"
GRID = "random + "
"""Settings of plain ASHA, of which the best one in hindsight is chosen in each cell."""
TUNE = "Tune's defaults"
MARGIN = 0.1
POINTS = 100
"""Regret is shown in points: hundredths of an accuracy."""

Cell = tuple[str, str, float, int]
Job = tuple[str, str, float, int, str, int]


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


def write(lines: Iterable[dict[str, Any]]) -> None:
    """Write all scores anew, in one order, so that the same scores are the same bytes."""
    ordered = sorted(lines, key=lambda line: [str(part).rjust(8, "0") for part in line["job"]])
    partial = KEPT.with_suffix(".partial")
    with gzip.GzipFile(partial, "wb", mtime=0) as file:
        file.writelines(f"{json.dumps(line, separators=(',', ':'))}\n".encode() for line in ordered)
    partial.replace(KEPT)


def jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    """Yield the searches to run, seed by seed, so that a run that is stopped has whole rounds of seeds."""
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


def cells(done: dict[Job, dict[str, Any]], tables: Sequence[str]) -> dict[Cell, dict[str, dict[int, dict[str, Any]]]]:
    """Return the scores by cell (table, objective, budget, workers), policy and seed."""
    found: dict[Cell, dict[str, dict[int, dict[str, Any]]]] = {}
    for (*cell, policy, seed), line in done.items():
        if cell[0] in tables:
            found.setdefault(tuple(cell), {}).setdefault(policy, {})[seed] = line
    for policies in found.values():
        tuned = {name: seeds for name, seeds in policies.items() if name.startswith(GRID) and name not in PROJECT}
        if tuned:
            policies[TUNED] = min(tuned.values(), key=_mean)
            for name in tuned:
                del policies[name]
    return dict(sorted(found.items()))


def _mean(seeds: dict[int, dict[str, Any]]) -> float:
    return statistics.fmean(line["regret"] for line in seeds.values())


def against(ours: dict[int, dict[str, Any]], other: dict[int, dict[str, Any]]) -> Mean:
    """Return the regret of ours less that of another policy, in points, over the seeds that both have."""
    both = sorted(ours.keys() & other.keys())
    return Mean.of([POINTS * (ours[seed]["regret"] - other[seed]["regret"]) for seed in both])


def report(arguments: argparse.Namespace) -> None:
    """Print the Markdown tables of docs/scheduling.md."""
    done = kept()
    found = cells(done, arguments.tables)
    chosen = {job: line for job, line in done.items() if job[0] in arguments.tables}
    old = {job[4] for job, line in chosen.items() if line["code"] != code_digest(is_ours=job[4] in PROJECT)}
    if old:
        print(f"Simulated by other code than that of today: {', '.join(sorted(old))}.\n")
    names = list(dict.fromkeys(name for policies in found.values() for name in policies))
    rivalry = [name for name in names if name not in PROJECT]
    order = [OURS, *(name for name in PROJECT if name in names and name != OURS), *rivalry]
    _print_surrogates(arguments.tables)
    print(f"\n| table, objective | budget | workers | {' | '.join(order)} | defaults less the best rival |")
    print("|---" * (len(order) + 4) + "|")
    for (table, objective, budget, workers), policies in found.items():
        shown = " | ".join(_shown(policies.get(name)) for name in order)
        difference = _signed_against_best(policies, rivalry)
        print(f"| {table}, {_words(objective)} | {budget:g} | {workers} | {shown} | {difference} |")
    _print_means(found, order)
    summary(found, rivalry)


def _print_means(found: dict[Cell, dict[str, dict[int, dict[str, Any]]]], order: Sequence[str]) -> None:
    """Print the mean over tables of each objective, budget and number of workers."""
    print(f"\n| mean of the tables | budget | workers | {' | '.join(order)} |")
    print("|---" * (len(order) + 3) + "|")
    grouped: dict[tuple[str, float, int], list[dict[str, dict[int, dict[str, Any]]]]] = {}
    for (_, *group), policies in found.items():
        grouped.setdefault(tuple(group), []).append(policies)
    for (objective, budget, workers), each in sorted(grouped.items()):
        means = [
            f"{POINTS * statistics.fmean(_mean(policies[name]) for policies in each):.2f}"
            if all(name in policies for policies in each)
            else ""
            for name in order
        ]
        print(f"| {_words(objective)} | {budget:g} | {workers} | {' | '.join(means)} |")


def _words(objective: str) -> str:
    return objective.replace("val/", "").replace("_", " ").replace("+", " + ")


def _print_surrogates(tables: Sequence[str]) -> None:
    """Print how well the surrogate of each table predicts the last epoch of points that it did not see."""
    print("| table | surrogate of | R² | rank correlation |\n|---|---|---|---|")
    for table in tables:
        surrogate = surrogate_of(table)
        for each in surrogate.quality:
            if each.epoch == surrogate.table.epochs and each.metric in OBJECTIVES:
                print(f"| {table} | {each.metric} | {each.r2:.2f} | {each.spearman:.2f} |")


def summary(found: dict[Cell, dict[str, dict[int, dict[str, Any]]]], rivalry: Sequence[str]) -> None:
    """Print over all cells: how often the defaults are no worse than the best rival, and the ratio to each rival."""
    compared = {cell: policies for cell, policies in found.items() if OURS in policies and set(rivalry) & set(policies)}
    margins = [-against(policies[OURS], policies[best_of(policies, rivalry)]).value for policies in compared.values()]
    within = sum(margin >= -MARGIN for margin in margins)
    better = sum(margin > 0 for margin in margins)
    print(f"\nIn {within} of {len(margins)} cells the defaults are no worse than the best rival beyond {MARGIN} point;")
    print(f"in {better} they are better.\n")
    print("| rival | seeds | better in | surely better, surely worse in | regret of the defaults as a share of its |")
    print("|---|---|---|---|---|")
    others = [name for name in PROJECT if name != OURS and any(name in policies for policies in compared.values())]
    for name in [*others, *rivalry]:
        of_name = [policies for policies in compared.values() if name in policies]
        pairs = [against(policies[OURS], policies[name]) for policies in of_name]
        wins = sum(pair.value < 0 for pair in pairs)
        surely = [sum(sign * pair.value > pair.margin for pair in pairs) for sign in (-1, 1)]
        seeds = min(len(policies[OURS].keys() & policies[name].keys()) for policies in of_name)
        both = [_means(policies[OURS], policies[name]) for policies in of_name]
        ours, theirs = (statistics.fmean(values) for values in zip(*both, strict=True))
        print(f"| {name} | {seeds} | {wins} of {len(of_name)} | {surely[0]}, {surely[1]} | {ours / theirs:.2f} |")
    spent = [line["spent"] for policies in compared.values() for line in policies[OURS].values()]
    print(f"\nThe defaults spent {statistics.fmean(spent):.2f} of the budget on average, {max(spent):.2f} at most.")


def _means(ours: dict[int, dict[str, Any]], other: dict[int, dict[str, Any]]) -> tuple[float, float]:
    """Return the mean regret of both over the seeds that both have."""
    both = ours.keys() & other.keys()
    return _mean({seed: ours[seed] for seed in both}), _mean({seed: other[seed] for seed in both})


def _shown(seeds: dict[int, dict[str, Any]] | None) -> str:
    if not seeds:
        return ""
    spent = statistics.fmean(line["spent"] for line in seeds.values())
    over = f" ({spent:.2f})" if abs(spent - 1) > 0.05 else ""
    return f"{POINTS * _mean(seeds):.2f}{over}"


def best_of(policies: dict[str, dict[int, dict[str, Any]]], rivalry: Sequence[str]) -> str:
    """Return the rival of least mean regret in a cell."""
    return min((name for name in rivalry if name in policies), key=lambda name: _mean(policies[name]))


def _signed_against_best(policies: dict[str, dict[int, dict[str, Any]]], rivalry: Sequence[str]) -> str:
    if OURS not in policies or not set(rivalry) & set(policies):
        return ""
    difference = against(policies[OURS], policies[best_of(policies, rivalry)])
    return f"{difference.value:+.2f} ± {difference.margin:.2f}"


def main() -> None:
    """Simulate searches, or report on those that are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("--tables", nargs="+", default=list(DEVELOPMENT), choices=(*DEVELOPMENT, *TEST))
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES))
    parser.add_argument("--budgets", nargs="+", type=float, default=list(BUDGETS))
    parser.add_argument("--workers", nargs="+", type=int, default=list(WORKERS))
    parser.add_argument("--policies", nargs="+")
    parser.add_argument("--no-grid", action="store_true", help="without the settings of plain ASHA")
    parser.add_argument("--redo", nargs="+", default=[], metavar="POLICY")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    (simulate_all if arguments.what == "run" else report)(arguments)


if __name__ == "__main__":
    main()
