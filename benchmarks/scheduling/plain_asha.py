"""Plain ASHA with the setting that is best in hindsight: chosen on some seeds, and compared on others.

The least of 16 means over the very seeds that are compared is too good by luck. So the setting of each cell (table,
objective, budget, workers) is the best one on the first ``TUNING_SEEDS`` seeds, and its regret is that of the later
seeds, as soon as there are any. ``whole_searches.py run --chosen`` simulates these.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

TUNING_SEEDS = 20
PREFIXES = ("random + stopping ", "random + promotion ")

Cell = tuple[str, str, float, int]
Job = tuple[str, str, float, int, str, int]
Seeds = dict[int, dict[str, Any]]


def settings_in(policies: Iterable[str]) -> list[str]:
    """Return the settings of plain ASHA among policies, by name."""
    return sorted(name for name in policies if name.startswith(PREFIXES))


def tuning_regret(seeds: Seeds) -> float:
    """Return the mean regret over the seeds on which a setting is chosen."""
    return statistics.fmean(line["regret"] for seed, line in seeds.items() if seed < TUNING_SEEDS)


def held_out(seeds: Seeds) -> Seeds:
    """Return the seeds that nothing was chosen on; all of them where there are no others."""
    return {seed: line for seed, line in seeds.items() if seed >= TUNING_SEEDS} or seeds


def best_setting(policies: Mapping[str, Seeds]) -> str | None:
    """Return the setting of plain ASHA that is the best of a cell; None where none was run."""
    return min(settings_in(policies), key=lambda name: tuning_regret(policies[name]), default=None)


def one_setting(cells: Mapping[Cell, Mapping[str, Seeds]]) -> str | None:
    """Return the setting of least mean regret over the cells that have settings; None without any such cell."""
    complete = [policies for policies in cells.values() if settings_in(policies)]
    names = set.intersection(*(set(settings_in(policies)) for policies in complete)) if complete else set()
    return min(sorted(names), key=lambda name: sum(tuning_regret(each[name]) for each in complete), default=None)


def chosen_jobs(cells: Mapping[Cell, Mapping[str, Seeds]], seeds: int) -> Iterator[Job]:
    """Yield the searches of the best setting of each cell, and of the one for all cells, up to a number of seeds."""
    one = one_setting(cells)
    for seed in range(TUNING_SEEDS, seeds):
        for cell, policies in cells.items():
            if settings_in(policies):
                for name in sorted({best_setting(policies), one} - {None}):
                    yield (*cell, name, seed)  # type: ignore[misc]  a name, as None was taken out
