"""Dose and response of the soft nearest neighbour loss, against matched controls."""

from collections.abc import Iterator, Sequence

from section import UNKNOWN, Claim, Row, Section

from .doses import Grid
from .grid import units
from .measures import measure
from .page import write
from .questions import EXPECTED, OUTLIERS, PAPER, Question, reply


def claims(rows: Sequence[Row]) -> list[Claim]:
    """Return the claims of the paper on each data set, at the minimising temperature, which is that of equation 2."""
    return [claim for data in OUTLIERS for claim in _claims(data, Grid.of(rows, data))]


def _claims(data: str, grid: Grid) -> Iterator[Claim]:
    found = reply(Question(data, "minimised", "higher"), grid) if grid.networks else None
    for own in EXPECTED:
        numbers, smallest, verdict = "not trained at this size", "-", UNKNOWN
        if found is not None:
            numbers, smallest, verdict = found.numbers(own.name), found.smallest(own.name), found.verdict(own.name)
        yield Claim(PAPER, f"{own.claim} ({data})", verdict, numbers, smallest, own.where)


SECTION = Section("dose", "Dose and response of SNNL, against matched controls", units, measure, write, claims)
