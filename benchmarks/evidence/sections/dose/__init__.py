"""Dose and response of the soft nearest neighbour loss, against matched controls."""

from section import Section

from .grid import units
from .measures import measure
from .page import write
from .questions import questions

SECTION = Section("dose", "Dose and response of SNNL, against matched controls", units, measure, write, questions)
