"""Comparison of whole searches in the documentation: every number between its markers, from the kept scores.

    python benchmarks/scheduling/comparison.py            # writes the blocks of docs/scheduling.md and of decision 56
    python benchmarks/scheduling/comparison.py --print

``whole_searches.py`` simulates the searches. A block is the text between ``<!-- comparison.py: NAME -->`` and
``<!-- end of NAME -->``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

from plain_asha import best_setting, held_out, one_setting, settings_in
from whole_searches import OBJECTIVES, OURS, PROJECT, TEST, cells, code_digest, kept, surrogate_of

from orchestrator.simulation.policies import Mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from plain_asha import Seeds
    from whole_searches import Cells

DOCS = Path(__file__).parents[2] / "docs"
TARGETS = {
    DOCS / "scheduling.md": ("lead", "means", "rivals", "goal", "slow table", "surrogates"),
    DOCS / "decisions" / "056-whole-searches-with-a-fixed-budget.md": ("cells",),
}
SEEN = TEST[:4]
"""Test tables on which an earlier version of the defaults was compared, too."""
FRESH = TEST[4:]
"""Test tables on which nothing was ever run before."""
RANDOM, CUT = "random + ladder", f"{OURS}, cut at the budget"
TUNE, ONE, TUNED = "Tune's defaults", "random + one ASHA", "random + best-tuned ASHA"
ORDER = (OURS, RANDOM, TUNE, "BOHB", "Optuna TPE + Hyperband", "Optuna TPE + SuccessiveHalving", ONE, TUNED)
"""Plain ASHA: the setting that is best in hindsight over all cells is ``ONE``, the best of each cell is ``TUNED``."""
MARGIN = 0.1
FEW_SEEDS = 12
"""A mean over fewer seeds is mostly luck, and a rival that is picked by such a mean is, too."""
POINTS = 100
"""Regret is shown in points: hundredths of an accuracy."""


def compared(tables: Sequence[str]) -> Cells:
    """Return the scores of the cells that have the defaults; of plain ASHA, of the settings chosen in hindsight."""
    every, one = _every_cell()
    found = {cell: dict(policies) for cell, policies in every.items() if cell[0] in tables and OURS in policies}
    for policies in found.values():
        best = best_setting(policies)
        plain = {name: policies.pop(name) for name in settings_in(policies)}
        if best is not None:
            policies[TUNED] = held_out(plain[best])
        if one in plain:
            policies[ONE] = held_out(plain[one])
    return found


@cache
def _every_cell() -> tuple[Cells, str | None]:
    """Return the scores of all test tables, and the one setting of plain ASHA; blocks share what is read."""
    every = cells(TEST)
    return every, one_setting(every)


def mean_of(seeds: Seeds) -> float:
    """Return the mean regret in points."""
    return POINTS * statistics.fmean(line["regret"] for line in seeds.values())


def spent_of(seeds: Seeds) -> float:
    """Return the mean share of the budget that was spent."""
    return statistics.fmean(line["spent"] for line in seeds.values())


def against(ours: Seeds, other: Seeds) -> Mean:
    """Return the regret of ours less that of another policy, in points, over the seeds that both have."""
    both = sorted(ours.keys() & other.keys())
    return Mean.of([POINTS * (ours[seed]["regret"] - other[seed]["regret"]) for seed in both])


def paired(found: Cells, name: str) -> list[tuple[Seeds, Seeds]]:
    """Return the scores of the defaults and of another policy in each cell that has both, over their common seeds."""
    pairs = []
    for policies in found.values():
        both = policies[OURS].keys() & policies.get(name, {}).keys()
        if both:
            pairs.append(tuple({seed: policies[each][seed] for seed in both} for each in (OURS, name)))
    return pairs  # type: ignore[return-value]  each is a pair


def ratio(found: Cells, name: str) -> float:
    """Return the mean regret of the defaults as a share of another policy's, over the cells that have both."""
    ours, theirs = (statistics.fmean(map(mean_of, each)) for each in zip(*paired(found, name), strict=True))
    return ours / theirs


def by_workers(found: Cells) -> str:
    """Return the ratio to Tune's defaults by the number of workers, in words."""
    numbers = sorted({cell[3] for cell in found})
    shares = [ratio({cell: each for cell, each in found.items() if cell[3] == number}, TUNE) for number in numbers]
    words = [f"{share:.2f} with {number}" for number, share in zip(numbers, shares, strict=True)]
    return f"{', '.join(words[:-1])} and {words[-1]} workers" if len(words) > 1 else f"{words[0]} workers"


def by_objective(found: Cells, workers: int) -> str:
    """Return the ratio to Tune's defaults by the objective, with a number of workers, in words."""
    return ", ".join(
        f"{ratio({cell: each for cell, each in found.items() if cell[1::2] == (objective, workers)}, TUNE):.2f} "
        f"for {words(objective)}"
        for objective in OBJECTIVES
    )


def names_of(found: Cells) -> list[str]:
    """Return the policies that are compared with the defaults."""
    return [name for name in ORDER[1:] if any(name in policies for policies in found.values())]


def best_rival(policies: dict[str, Seeds], least_seeds: int = 1) -> str | None:
    """Return the rival of least mean regret in a cell, of those with so many seeds; parts of the project are none."""
    rivals = [name for name in ORDER if len(policies.get(name, ())) >= least_seeds and name not in PROJECT]
    return min(rivals, key=lambda name: mean_of(policies[name])) if rivals else None


def lead() -> str:
    """Return the first paragraph: what a user gains, and by how much it falls short of the goal."""
    found, fresh = compared(SEEN), compared(FRESH)
    spent = [line["spent"] for policies in compared(TEST).values() for line in policies[OURS].values()]
    shares = {name: ratio(found, name) for name in names_of(found)}
    reached = "and is reached" if shares[TUNE] <= 0.5 else "and is not reached"
    rivals = [f"{shares[name]:.2f} times that of {name}" for name in ORDER[3:6] if name in shares]
    tuned = f", and {shares[TUNED]:.2f} times that of {TUNED}, tuned for each case" if TUNED in shares else ""
    return (
        f"**You set one number, the budget, and a sweep costs what `ravel plan` says: {min(spent):.2f} to "
        f"{max(spent):.2f} times it in {len(spent):,} simulated searches, {statistics.fmean(spent):.2f} on average. "
        f"For that cost the best trial of the defaults falls short of the best possible by {shares[TUNE]:.2f} times "
        f"what Ray Tune's defaults do (random points, its ASHA): {by_workers(found)}, on four tables of curves "
        f"for test. Half was the goal, {reached}.** The shortfall is {', '.join(rivals)}{tuned}. With random points in "
        f"the place of the sampler `auto`, under the same scheduler, it is {1 / shares[RANDOM]:.2f} times that of the "
        "defaults. On a fifth table, on which nothing had ever run, the defaults have "
        f"{ratio(fresh, TUNE):.2f} times the shortfall of Tune's, and {ratio(fresh, RANDOM):.2f} times that with "
        "random points."
    )


def means() -> str:
    """Return the mean over tables of each objective, budget and number of workers, where all tables have the policy."""
    found = compared(SEEN)
    order = [OURS, *names_of(found)]
    rows = [f"| mean of the tables | budget | workers | {' | '.join(order)} |", "|---" * (len(order) + 3) + "|"]
    grouped: dict[tuple[str, float, int], list[dict[str, Seeds]]] = {}
    for (_, *group), policies in found.items():
        grouped.setdefault(tuple(group), []).append(policies)  # type: ignore[arg-type]  a cell without its table
    for (objective, budget, workers), each in sorted(grouped.items()):
        values = [
            f"{statistics.fmean(mean_of(policies[name]) for policies in each):.2f}"
            if all(name in policies for policies in each)
            else ""
            for name in order
        ]
        rows.append(f"| {words(objective)} | {budget:g} | {workers} | {' | '.join(values)} |")
    return "\n".join(rows)


def rivals_of(found: Cells) -> str:
    """Return for each rival in how many cells the defaults are better, and the ratio of the regrets."""
    rows = [
        "| rival | seeds | better in | surely better, surely worse in | regret of the defaults as a share of its |",
        "|---|---|---|---|---|",
    ]
    for name in names_of(found):
        pairs = paired(found, name)
        differences = [against(*pair) for pair in pairs]
        wins = sum(each.value < 0 for each in differences)
        surely = [sum(sign * each.value > each.margin for each in differences) for sign in (-1, 1)]
        seeds = sorted(len(ours) for ours, _ in pairs)
        number = f"{seeds[0]}" if seeds[0] == seeds[-1] else f"{seeds[0]} to {seeds[-1]}"
        share = ratio(found, name)
        rows.append(f"| {name} | {number} | {wins} of {len(pairs)} | {surely[0]}, {surely[1]} | {share:.2f} |")
    return "\n".join(rows)


def goal() -> str:
    """Return in how many cells the defaults are no worse than the best of all rivals, and what they spent."""
    found = {cell: policies for cell, policies in compared(SEEN).items() if best_rival(policies) is not None}
    within, better = _reached(found, 1)
    spent = [spent_of(policies[OURS]) for policies in found.values()]
    return (
        "- **By workers**: of given points, budgeted ASHA promotes the same with any number of workers. Asynchronous "
        f"rivals keep what comes first, and lose most with many: the share of Tune's regret is {by_workers(found)}.\n"
        f"- **By objective**, with 8 workers, that share is {by_objective(found, 8)}.\n"
        f"- **The goal**, no worse than the best of all rivals by more than {MARGIN} points, is reached in {within} of "
        f"{len(found)} combinations; in {better} the defaults are better than all. The best rival is picked in "
        "hindsight, case by case, which favours it, most of all one that has few seeds: of the rivals with "
        f"{FEW_SEEDS} seeds or more, {' and '.join(map(str, _reached(found, FEW_SEEDS)))}.\n"
        f"- **What it costs**: {statistics.fmean(spent):.2f} of the budget; {min(spent):.2f} to {max(spent):.2f} in "
        "the mean of a combination."
    )


def _reached(found: Cells, least_seeds: int) -> tuple[int, int]:
    """Return in how many cells the defaults are within the margin of the best of the rivals, and in how many better."""
    rivals = [(each, best_rival(each, least_seeds)) for each in found.values()]
    margins = [against(each[OURS], each[best]).value for each, best in rivals if best is not None]
    return sum(value <= MARGIN for value in margins), sum(value < 0 for value in margins)


def per_cell(tables: Sequence[str]) -> str:
    """Return every cell, with the paired difference to the best rival."""
    found = compared(tables)
    order = [OURS, *names_of(found)]
    rows = [
        f"| table, objective | budget | workers | {' | '.join(order)} | defaults less the best rival |",
        "|---" * (len(order) + 4) + "|",
    ]
    for (table, objective, budget, workers), policies in found.items():
        shown = " | ".join(_shown(policies.get(name)) for name in order)
        best, difference = best_rival(policies), ""
        if best is not None:
            mean = against(policies[OURS], policies[best])
            difference = f"{mean.value:+.2f} ± {mean.margin:.2f}"
        rows.append(f"| {table}, {words(objective)} | {budget:g} | {workers} | {shown} | {difference} |")
    return "\n".join(rows)


def _shown(seeds: Seeds | None) -> str:
    if not seeds:
        return ""
    spent = spent_of(seeds)
    return f"{mean_of(seeds):.2f}" + (f" ({spent:.2f})" if abs(spent - 1) > 0.05 else "")


def words(objective: str) -> str:
    """Return an objective in words."""
    return objective.replace("val/", "").replace("_", " ").replace("+", " + ")


def surrogates() -> str:
    """Return how well the surrogate of each table predicts the last epoch of points that it did not see."""
    rows = ["| table | surrogate of | R² | rank correlation |", "|---|---|---|---|"]
    for table in _recorded(TEST):
        surrogate = surrogate_of(table)
        rows += [
            f"| {table} | {each.metric} | {each.r2:.2f} | {each.spearman:.2f} |"
            for each in surrogate.quality
            if each.epoch == surrogate.table.epochs and each.metric in OBJECTIVES
        ]
    return "\n".join(rows)


def _recorded(tables: Sequence[str]) -> list[str]:
    from whole_searches import TABLES  # noqa: PLC0415

    return [table for table in tables if (TABLES / f"{table}.json.gz").exists()]


BLOCKS: dict[str, Callable[[], str]] = {
    "lead": lead,
    "means": means,
    "rivals": lambda: rivals_of(compared(SEEN)),
    "goal": goal,
    "slow table": lambda: f"{per_cell(_recorded(FRESH))}\n\n{rivals_of(compared(FRESH))}",
    "surrogates": surrogates,
    "cells": lambda: per_cell(SEEN),
}
"""Blocks of the documentation by name."""


def with_block(text: str, name: str, block: str) -> str:
    r"""Return a page with another text between the markers of a block.

    >>> with_block("a\n<!-- comparison.py: x -->\nold\n<!-- end of x -->\n", "x", "new").splitlines()[2:4]
    ['', 'new']

    Raises:
        ValueError: the page has no such block.
    """
    start, end = f"<!-- comparison.py: {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = text.partition(start)
    _, closes, after = rest.partition(end)
    if not (found and closes):
        raise ValueError(f"the page must have {start.strip()} and {end}")
    return f"{before}{start}\n{block}\n\n{end}{after}"


def main() -> None:
    """Write the blocks into the documentation, or print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the blocks, and write nothing")
    arguments = parser.parse_args()
    old = {job[4] for job, line in kept().items() if job[0] in TEST and line["code"] != _digest(job[4])}
    if old:
        print(f"Simulated by other code than that of today: {', '.join(sorted(old))}. See whole_searches.py check.")
    for path, names in TARGETS.items():
        text = path.read_text(encoding="utf-8")
        for name in names:
            block = BLOCKS[name]()
            if arguments.print:
                print(f"\n{name}:\n{block}")
            text = with_block(text, name, block)
        if not arguments.print:
            path.write_text(text, encoding="utf-8")


def _digest(policy: str) -> str:
    return code_digest(is_ours=policy in PROJECT)


if __name__ == "__main__":
    main()
