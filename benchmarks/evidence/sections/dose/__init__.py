"""Dose and response of the soft nearest neighbour loss, against matched controls."""

from collections.abc import Iterator, Sequence

from section import UNKNOWN, Claim, Row, Section, Verdict

from .doses import Grid
from .grid import units
from .measures import measure
from .page import write
from .questions import EXPECTED, OUTLIERS, PAPER, TRANSFER, Question, reply, transfer_answer

NOT_TRAINED: tuple[str, str, Verdict] = ("no such network was trained or fooled", "-", UNKNOWN)


def claims(rows: Sequence[Row]) -> list[Claim]:
    """Return the claims of the papers on each data set; of SNNL at the minimising temperature, that of equation 2."""
    return [claim for data in OUTLIERS for claim in _claims(data, Grid.of(rows, data))]


def _claims(data: str, grid: Grid) -> Iterator[Claim]:
    found = reply(Question(data, "minimised", "higher"), grid) if grid.networks else None
    for own in EXPECTED:
        numbers, smallest, verdict = NOT_TRAINED
        if found is not None:
            numbers, smallest, verdict = found.numbers(own.name), found.smallest(own.name), found.verdict(own.name)
        yield Claim(PAPER, f"{own.claim} ({data})", verdict, numbers, smallest, own.where)
    numbers, smallest, verdict = NOT_TRAINED
    between = transfer_answer(data, grid) if grid.networks else None
    if between is not None:
        name = TRANSFER
        numbers, smallest, verdict = between.numbers(name), between.smallest(name), between.verdict(name)
    claim = f"images that fool a network fool others of other seeds more than noise of their size ({data})"
    yield Claim("Szegedy et al. 2013", claim, verdict, numbers, smallest, "tables 2 to 4")


SECTION = Section("dose", "Dose and response of SNNL, against matched controls", units, measure, write, claims)
