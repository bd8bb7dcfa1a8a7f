import io
from collections import Counter
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from search_spaces import Choice, Float, Int, SearchSpace, When, catalog


class Cells(HTMLParser):
    """The text of each cell, and whether every tag is closed."""

    def __init__(self):
        super().__init__()
        self.cells, self.open = [], []

    def handle_starttag(self, tag, attributes):  # noqa: ARG002 - the signature of HTMLParser
        if tag != "br":
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] == "td":
            self.cells[-1] += data


@given(st.from_type(SearchSpace))
def test_a_notebook_shows_every_parameter_with_its_words(space):
    parser = Cells()
    parser.feed(space._repr_html_())
    assert parser.open == []
    rows = [parser.cells[place : place + 3] for place in range(0, 3 * len(space.names), 3)]
    assert [name for name, _, _ in rows] == list(space.names)
    assert [words for _, words, _ in rows] == [domain.describe() for domain in space.parameters.values()]


def test_markup_in_a_value_is_shown_and_not_obeyed():
    space = SearchSpace({"a": Choice(["<script>alert(1)</script>", "[red]x[/red]"])}, constraints=["a != '<b>'"])
    assert "<script>" not in space._repr_html_()
    assert "<b>" not in space._repr_html_()
    out = io.StringIO()
    Console(file=out, width=100).print(space)
    assert "[red]x[/red]" in out.getvalue()


def test_a_terminal_shows_a_table_and_the_constraints_below_it():
    out = io.StringIO()
    Console(file=out, width=80).print(SearchSpace({"a": Int(1, 9), "b": Int(1, 9)}, constraints=["a < b"]))
    lines = [line.strip() for line in out.getvalue().splitlines() if line.strip()]
    assert lines[0].split() == ["parameter", "values", "exists", "when"]
    assert lines[-1] == "constraint: a < b"


def shown(space, width):
    out = io.StringIO()
    Console(file=out, width=width).print(space)
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 80, 140])
@pytest.mark.parametrize("length", [4, 32, 90])
def test_a_narrow_terminal_folds_long_texts_and_cuts_none(width, length):
    name = "n" * length
    space = SearchSpace({name: Choice(["v" * 30, "w"]), "x": Float(0.0, 1.0)}, {"x": When(name, "w")})
    lines = shown(space, width).splitlines()
    assert max(map(len, lines)) <= width
    headings = "parameter values exists when"
    told = [
        headings,
        name,
        space.parameters[name].describe(),
        "x",
        space.parameters["x"].describe(),
        str(space.when["x"]),
    ]
    assert Counter("".join(lines)) - Counter(" ─" * 10_000) == Counter("".join(told)) - Counter(" " * 1_000)


def test_a_catalog_row_needs_no_second_line_for_its_condition_in_80_columns():
    lines = shown(catalog.pgd(), 80).splitlines()
    told = [line for line in lines if line.startswith("adversarial.")]
    assert len(told) == len(catalog.pgd().names)
    assert all(line.endswith("adversarial.epsilon != 0") for line in told[1:])


def test_repr_is_one_line_for_each_parameter():
    assert len(repr(catalog.regularizers()).splitlines()) == 2 + len(catalog.regularizers().names)
