"""The page docs/benchmarks.md: what is between its markers, written from the stored results."""

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from programs import PROGRAMS
from results import Result, Size, medians, read_results, refuse_others

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
REFERENCE = "ravel-local"
"""The peer whose measurements the others' are divided by."""
FEW = 5
"""Runs below which all are listed next to their median."""
COMMAND = "python benchmarks/peers/peers.py run --data-root FOLDER"
MISSING = f"Not measured yet. Run `{COMMAND}`."
VERDICT = {True: "met", False: "missed"}
Shown = Callable[[float], str]
COLUMNS: Mapping[str, tuple[str, Shown]] = {
    "wall_s": ("wall time, s", "{:.0f}".format),
    "epochs": ("epochs", "{:.0f}".format),
    "epoch_s": ("seconds per epoch", "{:.2f}".format),
    "first_epoch_s": ("first epoch after, s", "{:.1f}".format),
    "target_s": ("98 % after, s", "{:.0f}".format),
    "best_accuracy": ("best accuracy, %", lambda value: f"{100 * value:.2f}"),
    "cpu_s": ("CPU time, s", "{:.0f}".format),
    "pss_mb": ("memory, MB", "{:.0f}".format),
    "rss_mb": ("RSS, MB", "{:.0f}".format),
}
"""Measurements of the first table of a work: their heads, and how a value is shown."""
RATIOS = ("wall_s", "epochs", "epoch_s", "first_epoch_s", "target_s", "cpu_s", "pss_mb")
"""Measurements of the second one."""
GOALS: Mapping[str, float] = {"ray-tune": 5.0, "optuna": 3.0, "syne-tune": 4.0}
"""Wall times of the peers, divided by ours, that were set as goals before the first run."""
ACCURACY_GOAL = 0.2
"""Points by which the best accuracy of a peer may be above ours."""
GOAL_HEADS = ("goal of the wall time", f"best accuracy, points above ours (goal: {ACCURACY_GOAL:g})")


def write(options: argparse.Namespace) -> None:
    """Write the page from the stored results of a size."""
    size = Size(options.images, options.points, tuple(options.rungs))
    results = [result for result in read_results(options.results) if result.size == size]
    PAGE.write_text(with_blocks(PAGE.read_text(encoding="utf-8"), blocks_of(results)), encoding="utf-8")
    print(f"wrote {PAGE}")


def blocks_of(results: Sequence[Result]) -> dict[str, str]:
    """Return the text of each block of the page.

    Raises:
        SystemExit: the results are of several machines, or of several versions of a peer.
    """
    for first in results[:1]:
        refuse_others(results, machine=first.machine, versions={result.peer: result.versions for result in results})
    works = {work: [result for result in results if result.work == work] for work in ("plain", "regularized")}
    return {"machine": machine(results), "versions": versions(results), **{w: tables(r) for w, r in works.items()}}


def machine(results: Sequence[Result]) -> str:
    """Describe the machine, and what else it did."""
    if not results:
        return MISSING
    about = results[0].machine
    rounds, others = {result.round for result in results}, [result.others for result in results]
    revisions = " and ".join(sorted({result.revision for result in results}))
    return (
        "{processor}, {cores} cores, {memory_gb} GB, {system}. ".format(**about)
        + f"{len(results)} runs in {len(rounds)} rounds, revision {revisions}. "
        + f"Other processes of the machine, the sampling included, had {100 * statistics.median(others):.1f} % of the "
        + f"cores' time in the median run, and {100 * max(others):.1f} % at most."
    )


def versions(results: Sequence[Result]) -> str:
    """Return a table of the versions that each peer ran with."""
    if not results:
        return MISSING
    rows = [
        [PROGRAMS[name].title, ", ".join(f"{package} {number}" for package, number in own[0].versions.items())]
        for name, own in by_peer(results).items()
    ]
    return _table(["peer", "versions"], rows)


def tables(results: Sequence[Result]) -> str:
    """Return the tables of a work: medians, and ratios to the reference."""
    if not results:
        return MISSING
    peers = by_peer(results)
    measured = [
        [PROGRAMS[name].title, str(len(own)), *(cell(own, column) for column in COLUMNS)] for name, own in peers.items()
    ]
    parts = [_table(["peer", "runs", *(head for head, _ in COLUMNS.values())], measured)]
    if REFERENCE in peers:
        against = [
            [
                PROGRAMS[name].title,
                *(ratio(own, peers[REFERENCE], column) for column in RATIOS),
                *goals(name, own, peers[REFERENCE]),
            ]
            for name, own in peers.items()
            if name != REFERENCE
        ]
        title = PROGRAMS[REFERENCE].title
        parts += [
            f"Divided by {title}, round by round: the median of the ratios, and the smallest and largest.",
            _table(["peer", *(COLUMNS[column][0].partition(",")[0] for column in RATIOS), *GOAL_HEADS], against),
        ]
    return "\n\n".join(parts)


def by_peer(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Return the runs of each peer that has any, in the order of the rounds."""
    found = {name: sorted((r for r in results if r.peer == name), key=lambda r: r.round) for name in PROGRAMS}
    return {name: own for name, own in found.items() if own}


def cell(results: Sequence[Result], column: str) -> str:
    """Return the median of a measurement; of few runs all values, too."""
    shown = COLUMNS[column][1]
    values = [getattr(result, column) for result in results]
    median = medians(results, [column])[column]
    texts = ["not reached" if value is None else shown(value) for value in (median, *values)]
    return texts[0] if len(results) >= FEW or len(results) == 1 else f"{texts[0]} ({', '.join(texts[1:])})"


def ratio(results: Sequence[Result], reference: Sequence[Result], column: str) -> str:
    """Return the median of the ratios of the rounds that both have, with the smallest and the largest."""
    other = {result.round: getattr(result, column) for result in reference}
    pairs = [(getattr(result, column), other.get(result.round)) for result in results]
    ratios = [value / own for value, own in pairs if value is not None and own is not None]
    if not ratios:
        return ""
    missing = "" if len(ratios) == len(pairs) else f"; {len(ratios)} of {len(pairs)} rounds"
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f}{missing})" if len(ratios) > 1 or missing else ""
    return f"{statistics.median(ratios):.2f}{spread}"


def goals(name: str, results: Sequence[Result], reference: Sequence[Result]) -> tuple[str, str]:
    """Return the goal for the wall time of a peer, and the points by which its best accuracy is above ours."""
    pairs = [(result, own) for result in results for own in reference if result.round == own.round]
    if not pairs:
        return "", ""
    times = statistics.median(result.wall_s / own.wall_s for result, own in pairs)
    points = statistics.median(100 * (result.best_accuracy - own.best_accuracy) for result, own in pairs)
    goal = GOALS.get(name)
    wall = "" if goal is None else f"{goal:g}: {VERDICT[times >= goal]}"
    return wall, f"{points:+.2f}, {VERDICT[round(points, 2) <= ACCURACY_GOAL]}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def with_blocks(text: str, blocks: Mapping[str, str]) -> str:
    r"""Return a page with other texts between its markers.

    >>> with_blocks("a\n<!-- peers: x -->\nold\n<!-- end of x -->\n", {"x": "new"}).splitlines()[2:5]
    ['', 'new', '']

    Raises:
        ValueError: the page has no such block.
    """
    for name, block in blocks.items():
        start, end = f"<!-- peers: {name} -->\n", f"<!-- end of {name} -->"
        before, found, rest = text.partition(start)
        _, closes, after = rest.partition(end)
        if not (found and closes):
            raise ValueError(f"the page must have the lines {start.strip()} and {end}")
        text = f"{before}{start}\n{block}\n\n{end}{after}"
    return text
