"""Tables of the page on transfer."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any, Final

from cells import spread, table
from questions import rows_of
from section import Row
from sections.transfer.published import TRANSFER_HALVES, TRANSFER_NETWORKS
from sections.transfer.questions import SLOPE_KINDS, error

from trainables.evaluation.robustness.transfer_result import TransferCondition


def write(rows: Sequence[Row]) -> Mapping[str, str]:
    """Return the tables by their markers."""
    across, half, stable = (rows_of(rows, {"kind": kind}) for kind in ("networks", "halves", "stability"))
    return {
        "transfer errors": _errors([*across, *half], across, half),
        "transfer networks": f"{_matrix(across, 'own')}\n\nAmplified to 0.1:\n\n{_matrix(across, 'common')}",
        "transfer halves": f"{_matrix(half, 'own')}\n\nAmplified to 0.1:\n\n{_matrix(half, 'common')}",
        "transfer published": "\n\n".join(f"Their {name}:\n\n{text}" for name, text in PUBLISHED.items()),
        "transfer norms": _norms(stable),
    }


PUBLISHED: Final = {"table 2": TRANSFER_NETWORKS, "table 4": TRANSFER_HALVES}


def _errors(rows: Sequence[Row], *groups: Sequence[Row]) -> str:
    lines = []
    for group in groups:
        for name in group[0].metrics["test_error"]:
            test = [100 * row.metrics["test_error"][name] for row in group]
            rms = [row.metrics["rms"]["attack own"][name] for row in group]
            lines.append([name, spread(test), spread(rms)])
    notes = sorted({limit for row in rows for limit in row.metrics["limits"]})
    listed = "".join(f"\n- {note}" for note in notes)
    lists = f"\n\nOf the searches and sizes:\n{listed}" if notes else ""
    return table(["network", "test error, %", "average distortion of the images"], lines) + lists


def _matrix(rows: Sequence[Row], size: str) -> str:
    """Return errors in % over all images that L-BFGS found, as the paper has them, and those by noise."""
    names = list(rows[0].metrics["test_error"])
    lines = []
    for kind, title in (("attack", ""), ("gaussian", "noise, as for ")):
        for source in names:
            condition = TransferCondition(kind, size, "all")
            cells = [[100 * error(row, condition, [(source, target)]) for row in rows] for target in names]
            rms = mean(row.metrics["rms"][f"{kind} {size}"][source] for row in rows)
            lines.append([f"{title}{source}", *(spread(cell) for cell in cells), f"{rms:.3f}"])
    return table(["made for", *names, "rms"], lines)


def _norms(rows: Sequence[Row]) -> str:
    lines, layers = [], []
    for name in rows[0].metrics:
        own = [row.metrics[name] for row in rows]
        distortions = [mean(value for value in net["rms"] if value is not None) for net in own]
        slopes = [spread([net["slope"][kind] for net in own]) for kind in SLOPE_KINDS]
        ratio = spread([net["slope"]["lbfgs"] / net["bound"] for net in own])
        lines.append([name, spread(distortions), *slopes, _powers([net["bound"] for net in own]), ratio])
        layers += list(_layers(name, own))
    head = ["network", "smallest distortion", "largest slope, L-BFGS", "noise of its size", "product of the norms"]
    head.append("slope / product")
    stages = ["network", "stage", "exact norm of its linear layer", "bound of the stage", "largest slope"]
    stages.append("slope / bound")
    return f"{table(head, lines)}\n\n{table(stages, layers)}"


def _layers(name: str, own: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    for stage in own[0]["stages"]:
        of_stage = [net["stages"][stage] for net in own]
        if of_stage[0]["exact"] is not None:
            cells = (spread([values[key] for values in of_stage]) for key in ("exact", "bound", "slope"))
            yield [name, stage, *cells, spread([values["slope"] / values["bound"] for values in of_stage])]


def _powers(values: Sequence[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}"
