"""MNIST with the small network of the paper of SNNL: each method at one strength, three seeds."""

from collections.abc import Mapping, Sequence

from questions import Question
from section import Row, Section

from . import page
from .networks import measure, scores_of, units
from .questions import questions_of
from .scores import Scores


def write(rows: Sequence[Row]) -> Mapping[str, str]:
    """Return the tables."""
    return {"mnist": page.tables(scores_of(rows))}


def questions(rows: Sequence[Row]) -> list[Question]:
    """Return the questions; of no rows, those of which nothing was trained."""
    return questions_of(scores_of(rows) if rows else Scores())


SECTION = Section("mnist", "Each method at one strength on MNIST", units, measure, write, questions)
