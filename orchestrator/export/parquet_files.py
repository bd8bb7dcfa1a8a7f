"""Tables as Parquet: the one door to pyarrow's files. Numbers, bools and texts keep their types.

A column whose cells are of several types (options ``1`` and ``"auto"``) has each as JSON text.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

from orchestrator.export.libraries import library

if TYPE_CHECKING:
    from orchestrator.export.tables import Cell, Table

EXACT_IN_FLOAT = 2**53
IN_64_BITS = 2**63


def parquet_bytes(table: Table, metadata: dict[str, str]) -> bytes:
    """Return a table as the content of a Parquet file; ``metadata`` are texts in its footer.

    Raises:
        MissingExtraError: pyarrow is not installed; names the extra.
    """
    pa, parquet = library("pyarrow", extra="export"), library("pyarrow.parquet", extra="export")
    arrays = {name: _array(pa, cells) for name, cells in table.columns.items()}
    file = io.BytesIO()
    parquet.write_table(pa.table(arrays, metadata=metadata), file)
    return file.getvalue()


def column_type(cells: list[Cell]) -> str:
    """Return the type of a column: bool, int64, float64, string, or json for cells of several types.

    >>> column_type([1, None, 0.5]), column_type([True, False]), column_type([1, "auto"]), column_type([None])
    ('float64', 'bool', 'json', 'string')
    >>> column_type([2**53 + 1, 0.5]), column_type([2**63])
    ('json', 'json')
    """
    kinds = {type(cell) for cell in cells if cell is not None}
    integers = [cell for cell in cells if type(cell) is int]
    if kinds <= {str}:
        return "string"
    if kinds == {bool}:
        return "bool"
    if kinds == {int} and all(-IN_64_BITS <= cell < IN_64_BITS for cell in integers):
        return "int64"
    if float in kinds and kinds <= {int, float} and all(abs(cell) <= EXACT_IN_FLOAT for cell in integers):
        return "float64"
    return "json"


def _array(pa: object, cells: list[Cell]) -> object:
    kind = column_type(cells)
    if kind == "json":
        cells = [None if cell is None else json.dumps(cell, ensure_ascii=False) for cell in cells]
    elif kind == "float64":
        cells = [None if cell is None else float(cell) for cell in cells]
    of_kind = {"bool": "bool_", "json": "string"}.get(kind, kind)
    return pa.array(cells, type=getattr(pa, of_kind)(), from_pandas=False)  # type: ignore[attr-defined]
