"""Print a claim: a table for people, and plain data for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from orchestrator.analysis.claims.claim import CONTROL
from orchestrator.formatting import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.analysis.claims.claim import Claim, Row
    from orchestrator.analysis.claims.intervals import Interval

HEADERS = (
    "configuration",
    "mean",
    "95 % over seeds",
    "over images",
    "gain",
    "95 %",
    "p (Holm)",
    "d_z",
    "may be best",
    "search's gain",
    "survived",
)


def table_of(claimed: Claim) -> Table:
    """Return the table of a claim, a row for each configuration."""
    title = f"{claimed.metric} ({claimed.mode}) on the test split, {len(claimed.seeds)} paired seeds"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for index, header in enumerate(HEADERS):
        table.add_column(header, justify="right" if index else "left")
    for row in claimed.rows:
        table.add_row(*_cells(row))
    return table


def sentences(claimed: Claim, configurations: Mapping[str, str]) -> list[str]:
    """Return the conclusions, a sentence each; ``configurations`` has each point in words."""
    lines = [f"{name}: {words}" for name, words in configurations.items()]
    for row in claimed.rows:
        if row.gain is None:
            continue
        low, high = row.gain.interval
        p = f"corrected p {row.p_corrected:.3g}"
        conclusion = "is better than" if row.is_claimed else "cannot be distinguished from"
        if not row.is_claimed and row.p_corrected is not None and row.p_corrected <= 0.05:
            conclusion = "is worse than"
        lines.append(
            f"{row.name} {conclusion} the control: {row.gain.mean:+.4f} (95 % {low:+.4f} to {high:+.4f}, {p}, "
            f"{row.gain.num_pairs} seeds)" + _survival(row)
        )
    best = [row.name for row in claimed.rows if row.may_be_best]
    lines.append(f"cannot be distinguished from the best: {', '.join(best)}")
    for name, seeds in claimed.incomplete.items():
        failed = ", ".join(map(str, seeds))
        lines.append(f"{name}: left out of every comparison, as it did not end with seed {failed}")
    return lines


def point_in_words(point: Mapping[str, Any]) -> str:
    """Return the values of a point in one line.

    >>> point_in_words({"optimizer.lr": 0.1, "mixup.alpha": 0.0})
    'optimizer.lr 0.1, mixup.alpha 0'
    """
    return ", ".join(f"{name} {shown(value)}" for name, value in point.items())


def plain_claim(claimed: Claim) -> dict[str, Any]:
    """Return a claim as plain data, with what is computed from its rows."""
    rows = [{**asdict(row), "lost": row.lost, "survived": row.survived} for row in claimed.rows]
    return {**asdict(claimed), "rows": rows}


def _cells(row: Row) -> list[str]:
    gain = row.gain
    return [
        row.name,
        f"{row.mean:.4f}",
        _interval(row.interval),
        "" if row.images is None else _interval(row.images),
        "" if gain is None else f"{gain.mean:+.4f}",
        "" if gain is None else _interval(gain.interval, signed=True),
        "" if row.p_corrected is None else f"{row.p_corrected:.3g}",
        "" if gain is None else "none" if gain.d_z is None else f"{gain.d_z:.2f}",
        "yes" if row.may_be_best else "no",
        "" if row.searched is None or row.name == CONTROL else f"{row.searched:+.4f}",
        "" if row.survived is None else f"{row.survived:.0%}",
    ]


def _interval(interval: Interval, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{interval.low:{sign}.4f} to {interval.high:{sign}.4f}"


def _survival(row: Row) -> str:
    if row.searched is None or row.lost is None:
        return ""
    share = "" if row.survived is None else f", {row.survived:.0%} of it survived"
    return f"; the search reported {row.searched:+.4f}{share}"
