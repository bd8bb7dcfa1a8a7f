"""Frontier of budget spent against regret, on recorded curves: the tables of docs/scheduling.md.

    python benchmarks/scheduling/frontier.py --orders 200 --processes 2

Every scheduler sees the same 200 sweeps of each table and objective: three quarters of its points in a random order,
each under a random one of its training seeds. Intervals are 95 %, over the sweeps; comparisons are paired. Simulated
scores are kept in FRONTIER, one line each, so that a run that was stopped continues.
"""

import argparse
import itertools
import json
import math
import multiprocessing
import statistics
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from simulate import (
    EPOCHS,
    OBJECTIVES,
    Asha,
    BudgetedAsha,
    Contender,
    NoStopping,
    Pasha,
    RungSchedule,
    Score,
    Table,
    TuneAsha,
    asha,
    budgeted,
    by_epsilon,
    family,
    load,
    run,
    rungs,
)

from orchestrator.analysis.audit import spearman
from orchestrator.scheduling.budgeted.rung_schedule import DESIGNS, NEWEST, places

FRONTIER = Path(__file__).parent / "tables" / "frontier.jsonl"
GRACES, FACTORS = (1, 2, 3, 4, 6, 9), (2, 3, 4, 8)
BUDGETS = (0.2, 0.3, 0.4)
FIRST_RUNGS = (1, 2, 3, 4, 5, 6, 8)
SCHEDULE_WORKERS = 8
WORKERS = (1, 2, 8, 64)
Key = tuple[str, str, int, str]


def contenders() -> Iterator[Contender]:
    """Yield every scheduler that is compared."""
    yield Contender("none", lambda _: NoStopping())
    for grace, factor in itertools.product(GRACES, FACTORS):
        yield Contender(f"tune {grace} {factor}", lambda _, g=grace, f=factor: TuneAsha(g, f))
        yield Contender(f"stopping {grace} {factor}", asha(grace, factor, pauses=False))
        yield Contender(f"promotion {grace} {factor}", asha(grace, factor, pauses=True))
    for grace, factor in itertools.product((1, 2, 3), (2, 3)):
        yield Contender(f"pasha {grace} {factor}", lambda _, g=grace, f=factor: Pasha(rungs(g, f, EPOCHS), f))
        for name, stratum in (("family", family), ("epsilon", by_epsilon)):
            yield Contender(f"strata-{name} {grace} {factor}", asha(grace, factor, pauses=False), stratum)
    for budget in BUDGETS:
        yield Contender(f"auto {budget}", budgeted(budget))
        yield Contender(
            f"asynchronous {budget}",
            lambda n, b=budget: Asha((budgeted(b)(n).rungs,), DESIGNS[NEWEST].cut, pauses=True),
        )
        for epochs in (2, 3):
            yield Contender(f"smoothed-{epochs} {budget}", budgeted(budget), smoothed=epochs)
        for first in FIRST_RUNGS:
            if places(rungs(first, 2, EPOCHS), 36, EPOCHS, budget * 36 * EPOCHS) is not None:
                yield Contender(f"schedule {budget} {first}", lambda n, b=budget, f=first: from_rung(n, b, f))


def from_rung(trials: int, budget: float, first: int) -> BudgetedAsha:
    """Return budgeted ASHA with another first rung than the one that follows from the budget."""
    solved = places(rungs(first, 2, EPOCHS), trials, EPOCHS, budget * trials * EPOCHS)
    assert solved is not None  # noqa: S101  the smallest table was solved above
    return BudgetedAsha(RungSchedule(rungs(first, 2, EPOCHS), solved[0], trials, EPOCHS, budget * trials * EPOCHS))


@cache
def table_of(name: str) -> Table:
    """Load a table, once for each process."""
    return load(name)


def evaluate(job: tuple[str, str, int, str, int]) -> dict[str, object]:
    """Return the scores of every sweep of one scheduler on one table, objective and number of workers."""
    name, objective, workers, contender_name, orders = job
    table = table_of(name)
    contender = next(rival for rival in _all(table, objective, workers) if rival.name == contender_name)
    scores = [
        run(table.draw(seed), contender, objective=objective, workers=workers, epoch_s=1.0) for seed in range(orders)
    ]
    return {
        "key": job[:4],
        **{field: [round(getattr(score, field), 5) for score in scores] for field in Score.__match_args__},
    }


def _all(table: Table, objective: str, workers: int) -> Iterator[Contender]:
    """Yield all contenders; the last has the budget that Tune's defaults spend, to be compared at equal cost."""
    yield from contenders()
    kept = _kept()
    spent = kept.get((table.name, objective, workers, "tune 1 4"))
    if spent:
        equal = statistics.fmean(spent["spent"])
        yield Contender("auto as-tune", budgeted(equal))


def _kept() -> dict[Key, dict[str, list[float]]]:
    if not FRONTIER.exists():
        return {}
    lines = (json.loads(line) for line in FRONTIER.read_text().splitlines())
    return {tuple(line["key"]): line for line in lines}


def simulate_all(tables: Sequence[str], orders: int, processes: int) -> None:
    """Run every job that has not been done."""
    for names in ([contender.name for contender in contenders()], ["auto as-tune"]):
        kept = _kept()
        jobs = [
            (table, objective, workers, name, orders)
            for table, objective, workers, name in itertools.product(tables, OBJECTIVES, WORKERS, names)
            if (table, objective, workers, name) not in kept and (workers == SCHEDULE_WORKERS or "schedule" not in name)
        ]
        with FRONTIER.open("a") as file, multiprocessing.get_context("fork").Pool(processes) as pool:
            for done, result in enumerate(pool.imap_unordered(evaluate, jobs, chunksize=1), start=1):
                file.write(json.dumps(result) + "\n")
                if done % 100 == 0:
                    file.flush()
                    print(f"{done}/{len(jobs)}", file=sys.stderr, flush=True)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return a mean and half its 95 % interval."""
    return statistics.fmean(values), 1.96 * statistics.stdev(values) / math.sqrt(len(values))


def shown(values: Sequence[float]) -> str:
    """Return the text of an interval as the document has it."""
    mean, half = interval(values)
    return f"{mean:.2f} ± {half:.2f}"


def slowness(table: str, objective: str) -> str:
    """Return the rank correlation of epochs 1, 3 and 9 with the last, and c of exp(-c (1/s - 1/t)) fitted to them."""
    curves = [trial.curves[objective] for trial in table_of(table).trials]
    whole = [curve for curve in curves if len(curve) == EPOCHS]
    pairs = {at: [(curve[at - 1][0], curve[-1][0]) for curve in whole] for at in (1, 3, 9)}
    ranks = {at: spearman(values) for at, values in pairs.items()}
    gaps = {at: 1 / at - 1 / EPOCHS for at in ranks}
    fitted = -sum(gaps[at] * math.log(max(r, 0.01)) for at, r in ranks.items()) / sum(gap**2 for gap in gaps.values())
    return f"| {table} | {objective} | " + " | ".join(f"{r:.2f}" for r in ranks.values()) + f" | {fitted:.1f} |"


def report(tables: Sequence[str]) -> None:
    """Print the tables of the document, in Markdown."""
    kept = _kept()
    print("| table | objective | epoch 1 | epoch 3 | epoch 9 | c |\n|---|---|---|---|---|---|")
    for table, objective in itertools.product(tables, OBJECTIVES):
        print(slowness(table, objective))
    print()
    print("| table | objective | workers | budget | auto | best-tuned ASHA (grace, factor; spent) | auto minus that |")
    print("|---|---|---|---|---|---|---|")
    for table, objective, workers, budget in itertools.product(tables, OBJECTIVES, WORKERS, BUDGETS):
        ours = kept[table, objective, workers, f"auto {budget}"]
        name, best = tuned(kept, table, objective, workers, budget)
        paired = [a - b for a, b in zip(ours["regret"], best["regret"], strict=True)]
        spent = statistics.fmean(best["spent"])
        print(
            f"| {table} | {objective} | {workers} | {budget} | {shown(ours['regret'])} | {shown(best['regret'])} "
            f"({name}; {spent:.2f}) | {shown(paired)} |"
        )
    print("\n| table | objective | workers | Tune's defaults: spent, regret | auto at that budget | ratio |")
    print("|---|---|---|---|---|---|")
    for table, objective, workers in itertools.product(tables, OBJECTIVES, WORKERS):
        rival, ours = (kept[table, objective, workers, name] for name in ("tune 1 4", "auto as-tune"))
        ratio = statistics.fmean(ours["regret"]) / max(1e-9, statistics.fmean(rival["regret"]))
        print(
            f"| {table} | {objective} | {workers} | {statistics.fmean(rival['spent']):.2f}, {shown(rival['regret'])} "
            f"| {shown(ours['regret'])} | {ratio:.2f} |"
        )
    for workers in (8,):
        print(
            f"\n| scheduler, {workers} workers | "
            + " | ".join(f"{t}, {o}" for t, o in itertools.product(tables, OBJECTIVES))
            + " |"
        )
        print("|---|" + "---|" * (len(tables) * len(OBJECTIVES)))
        names = dict.fromkeys(name for *_, name in kept)
        for name in names:
            cells = []
            for table, objective in itertools.product(tables, OBJECTIVES):
                entry = kept[table, objective, workers, name]
                cells.append(f"{statistics.fmean(entry['spent']):.2f}: {shown(entry['regret'])}")
            print(f"| {name} | " + " | ".join(cells) + " |")
    print("\n| table | objective | workers | budget | auto | best first rung in hindsight | auto minus that |")
    print("|---|---|---|---|---|---|---|")
    for table, objective, budget in itertools.product(tables, OBJECTIVES, BUDGETS):
        ours = kept[table, objective, 8, f"auto {budget}"]["regret"]
        schedules = [
            (name, e["regret"])
            for (t, o, w, name), e in kept.items()
            if (t, o, w) == (table, objective, 8) and name.startswith(f"schedule {budget} ")
        ]
        name, best = min(schedules, key=lambda named: statistics.fmean(named[1]))
        paired = [a - b for a, b in zip(ours, best, strict=True)]
        cells = (table, objective, 8, budget, shown(ours), f"{shown(best)} ({name.split()[-1]})", shown(paired))
        print("| " + " | ".join(map(str, cells)) + " |")
    print("\n| table | workers | stopping: best at | promotion: best at | auto: best at |")
    print("|---|---|---|---|---|")
    for table, workers in itertools.product(tables, (1, 2)):
        names = ("stopping 3 3", "promotion 3 3", "auto 0.3")
        entries = [kept[table, OBJECTIVES[2], workers, name] for name in names]
        cells = [
            f"{shown(entry['best_at'])} of {shown(entry['seconds'])} epochs, regret {shown(entry['regret'])}"
            for entry in entries
        ]
        print(f"| {table} | {workers} | " + " | ".join(cells) + " |")


def tuned(
    kept: dict[Key, dict[str, list[float]]], table: str, objective: str, workers: int, budget: float
) -> tuple[str, dict[str, list[float]]]:
    """Return, of Tune's ASHA and our stopping, the settings within the budget that were best in hindsight."""
    within = [
        (statistics.fmean(entry["regret"]), name.partition(" ")[2], entry)
        for (t, o, w, name), entry in kept.items()
        if (t, o, w) == (table, objective, workers)
        and name.partition(" ")[0] in {"tune", "stopping"}
        and statistics.fmean(entry["spent"]) <= budget + 0.005
    ]
    _, name, entry = min(within, key=lambda scored: scored[:2])
    return name, entry


def main() -> None:
    """Simulate what is missing, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=["digits", "digits-mlp", "mnist"])
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    simulate_all(arguments.tables, arguments.orders, arguments.processes)
    report(arguments.tables)


if __name__ == "__main__":
    main()
