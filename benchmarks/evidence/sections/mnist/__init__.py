"""MNIST with the small network of the paper of SNNL: each method at one strength, three seeds."""

from collections.abc import Mapping, Sequence

from section import Claim, Row, Section

from . import page, questions
from .networks import measure, scores_of, units
from .scores import KEPT, Scores


def write(rows: Sequence[Row]) -> Mapping[str, str]:
    """Return the tables and the conclusions."""
    scores = _scores(rows)
    return {"mnist": page.tables(scores), "conclusions": questions.section(scores)}


def claims(rows: Sequence[Row]) -> list[Claim]:
    """Return the claims of the papers."""
    return list(questions.claims(_scores(rows)))


def _scores(rows: Sequence[Row]) -> Scores:
    return scores_of(rows) if rows else Scores.read(KEPT)


SECTION = Section("mnist", "Each method at one strength on MNIST", units, measure, write, claims, earlier=KEPT)
