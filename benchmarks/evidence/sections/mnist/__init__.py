"""MNIST with the small network of the paper of SNNL: each method at one strength, three seeds."""

from collections.abc import Mapping, Sequence

from questions import Question
from section import Row, Section

from . import page
from .networks import measure, scores_of, units
from .questions import questions_of
from .scores import KEPT, Scores


def write(rows: Sequence[Row]) -> Mapping[str, str]:
    """Return the tables."""
    return {"mnist": page.tables(_scores(rows))}


def _questions(rows: Sequence[Row]) -> list[Question]:
    """Return the questions, on the kept numbers if there are no rows."""
    return questions_of(_scores(rows))


def _scores(rows: Sequence[Row]) -> Scores:
    return scores_of(rows) if rows else Scores.read(KEPT)


SECTION = Section("mnist", "Each method at one strength on MNIST", units, measure, write, _questions, earlier=KEPT)
