"""Tables as CSV: UTF-8, a comma, ``repr`` of each number, so that reading a cell gives the same number.

None is an empty cell, not-a-number ``nan``, infinity ``inf``, and a bool ``true`` or ``false``. A spreadsheet takes a
cell for a formula if it begins with one of ``= + - @``, a tab or a return. An apostrophe is put in front of free text
that does, which people read. Names and values are data, and are never changed.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from orchestrator.export.tables import TEXT_FOR_PEOPLE

if TYPE_CHECKING:
    from orchestrator.export.tables import Cell, Table

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(table: Table) -> str:
    """Return a table as the text of a CSV file.

    >>> from orchestrator.export.tables import Table
    >>> table = Table("t", {"trial": ["t000"], "params.lr": [0.1], "on": [True], "reason": ["=1+1"], "seed": [None]})
    >>> print(csv_text(table), end="")
    trial,params.lr,on,reason,seed
    t000,0.1,true,'=1+1,
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.columns)
    names = list(table.columns)
    writer.writerows(
        [_text(cell, for_people=name in TEXT_FOR_PEOPLE) for name, cell in zip(names, row, strict=True)]
        for row in table.rows
    )
    return file.getvalue()


def formulas(table: Table) -> list[str]:
    """Return the columns of data in which a text looks like a formula to a spreadsheet."""
    return [
        name
        for name, cells in table.columns.items()
        if name not in TEXT_FOR_PEOPLE and any(isinstance(cell, str) and cell.startswith(FORMULA) for cell in cells)
    ]


def _text(cell: Cell, *, for_people: bool) -> str:
    """Return a cell as text.

    >>> [_text(cell, for_people=False) for cell in (None, False, 1, 1e-05, float("nan"), float("-inf"), "-1")]
    ['', 'false', '1', '1e-05', 'nan', '-inf', '-1']
    """
    match cell:
        case None:
            return ""
        case bool():
            return str(cell).lower()
        case str():
            return f"'{cell}" if for_people and cell.startswith(FORMULA) else cell
        case _:
            return repr(cell)
