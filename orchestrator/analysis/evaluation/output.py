"""Print an evaluation's report, and write it as files."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from orchestrator.formatting import shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from trainables.evaluation.core.report import Analysis, Report
    from trainables.evaluation.robustness.transfer_result import Transfer

ROWS_SHOWN = 24


def show(report: Report, console: Console) -> None:
    """Print a report: as much of each table as fits, then its refusals and limits."""
    for analysis in report.analyses:
        columns, rows = analysis.table.columns, [[_cell(cell) for cell in row] for row in analysis.table.rows]
        fitting = _fitting(columns, rows, console.width)
        table = Table(box=None, pad_edge=False)
        for index, column in enumerate(columns[:fitting]):
            table.add_column(column, justify="right" if index else "left", overflow="fold")
        for row in rows[:ROWS_SHOWN]:
            table.add_row(*(Text(cell) for cell in row[:fitting]))
        console.print()
        console.print(Text(f"{report.suite}: {analysis.name}", style="table.title"))
        console.print(table)
        for hidden, kind in ((len(rows) - ROWS_SHOWN, "rows"), (len(columns) - fitting, "columns")):
            if hidden > 0:
                console.print(Text(f"{hidden} more {kind} in {analysis.name}.csv", style="dim"))
        for line in analysis.refusals:
            console.print(Text(f"refused: {line}", style="bold red"))
        for line in analysis.limits:
            console.print(Text(line, style="dim"))


def show_matrix(transfer: Transfer, console: Console) -> None:
    """Print each model's error on the images made for each other one, in % of those that all classify rightly."""
    from trainables.evaluation.robustness.transfer_result import TransferCondition  # noqa: PLC0415  imports torch

    rows = transfer.errors[TransferCondition(among="right")]
    images = next(iter(next(iter(rows.values())).values())).images
    title = f"errors in %, of the {images} images that all classify rightly"
    table = Table("made for", *rows, title=title, title_justify="left", box=None, pad_edge=False)
    for source, row in rows.items():
        table.add_row(source, *(f"{100 * rate.error:.1f}" for rate in row.values()))
    console.print(table)
    for line in transfer.refusals:
        console.print(Text(f"refused: {line}", style="bold red"))
    for line in transfer.limits:
        console.print(Text(line, style="dim"))


def _cell(cell: Any) -> str:
    return "" if cell is None else shown(cell)


def _fitting(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> int:
    """Count the columns that fit, at least one: titles and cells wrap between words."""
    used = 0
    for index, column in enumerate(columns):
        words = [word for text in (column, *(row[index] for row in rows[:ROWS_SHOWN])) for word in text.split()]
        used += max(map(len, words), default=0) + 2
        if used > width and index:
            return index
    return len(columns)


def write(report: Report, out: Path) -> None:
    """Write a report below ``out``: one JSON, and for each analysis a table (CSV) and a figure (HTML)."""
    import plotly.io  # noqa: PLC0415  slow to import

    folder = out / report.folder
    folder.mkdir(parents=True, exist_ok=True)
    for analysis in report.analyses:
        plotly.io.write_html(analysis.figure, folder / f"{analysis.name}.html", include_plotlyjs="directory")
        with (folder / f"{analysis.name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([analysis.table.columns, *analysis.table.rows])
    (folder / "report.json").write_text(json.dumps(plain(report), indent=1) + "\n", encoding="utf-8")


def plain(report: Report) -> dict[str, Any]:
    """Return a report without its figures, for JSON."""
    return {
        "suite": report.suite,
        "seconds": report.seconds,
        "analyses": {analysis.name: _plain(analysis) for analysis in report.analyses},
    }


def _plain(analysis: Analysis) -> dict[str, Any]:
    return {
        "metrics": analysis.metrics,
        "columns": list(analysis.table.columns),
        "rows": [list(row) for row in analysis.table.rows],
        "limits": list(analysis.limits),
        "refusals": list(analysis.refusals),
    }
