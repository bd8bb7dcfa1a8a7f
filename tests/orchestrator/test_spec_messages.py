"""A message about a wrong spec fits a line, whatever the value: place, requirement, the value cut, remedy."""

import json
import subprocess
import sys

import pytest

from orchestrator.errors import MAX_LINE_LENGTH, SpecError, quoted
from orchestrator.planning.loading import parse_spec
from orchestrator.spec.model import SweepSpec
from search_spaces import Problem

LONG = "x" * 5000
DEEP = json.loads('{"deep": ' * 20 + "1" + "}" * 20)
HUGE = {"text": LONG, "list": list(range(2000)), "texts": [LONG] * 3, "mapping": DEEP, "names": {LONG[:1000]: 1}}
SECTIONS = ["objective", "search", "scheduler", "evaluation", "resources", "failures", "budget", "tracking", "storage"]
FIELDS = [
    *((name,) for name in SweepSpec.model_fields),
    *((section, name) for section in SECTIONS for name in type(getattr(SweepSpec(name="a"), section)).model_fields),
    ("trial", "optimizer.lr"),
    ("trial", "model.name"),
    ("trial", "task"),
    ("space", "use"),
    ("space", "parameters"),
    ("space", "parameters", "optimizer.lr"),
    ("space", "constraints"),
    ("space", "when"),
]
UNKNOWN = "q" * 1000
UNKNOWN_AT = [
    (UNKNOWN,),
    *((section, UNKNOWN) for section in SECTIONS),
    ("trial", UNKNOWN),
    ("space", UNKNOWN),
    ("space", "parameters", UNKNOWN),
]
FREE = {("storage.uri", "text"), ("tracking.experiment", "text"), ("tracking.taps", "texts")}
"""Fields that take any text."""


def lines_of(place, value):
    document = {"name": "a"}
    section = document
    for key in place[:-1]:
        section = section.setdefault(key, {})
    section[place[-1]] = value
    with pytest.raises(SpecError) as caught:
        parse_spec(json.dumps(document))
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


@pytest.mark.parametrize("kind", HUGE)
@pytest.mark.parametrize("place", FIELDS, ids=".".join)
def test_a_huge_value_is_cut_and_its_field_named(place, kind):
    if (".".join(place), kind) in FREE:
        parse_spec("name: a", [f"{'.'.join(place)}={json.dumps(HUGE[kind])}"])
        return
    lines = lines_of(place, HUGE[kind])
    assert max(map(len, lines)) <= MAX_LINE_LENGTH
    assert any(line.startswith(place[0]) or place[-1] in line.partition(": ")[0] for line in lines)


@pytest.mark.parametrize("place", UNKNOWN_AT, ids=lambda place: ".".join(place)[:30])
def test_an_unknown_name_that_is_near_none_is_cut(place):
    lines = lines_of(place, 1)
    assert max(map(len, lines)) <= MAX_LINE_LENGTH
    assert all(line.startswith(".".join([*place[:-1], "qqq"])) for line in lines)


@pytest.mark.parametrize("points", [[{UNKNOWN: 1}], [{"optimizer.lr": LONG}]], ids=["name", "value"])
def test_a_given_point_is_cut(points):
    (line,) = lines_of(("search", "points"), points)
    assert len(line) <= MAX_LINE_LENGTH
    assert line.startswith("search.points.0.")


@pytest.mark.parametrize("override", [LONG, f"{LONG}=1", f"name={LONG}", f"search.{LONG}=[", f"name.{LONG}=3"])
def test_a_wrong_override_is_cut(override):
    with pytest.raises(SpecError) as caught:
        parse_spec("name: a", [override])
    assert max(map(len, str(caught.value).splitlines())) <= MAX_LINE_LENGTH


def test_a_message_that_is_too_long_keeps_its_requirement_and_its_remedy():
    (problem,) = SpecError([Problem("a" * 200, f"must be small, got {'9' * 900}; take fewer")]).problems
    assert len(str(problem)) == MAX_LINE_LENGTH
    assert problem.message.startswith("must be small, got 999")
    assert problem.message.endswith("999; take fewer")


def test_a_value_is_quoted_in_eighty_characters():
    assert quoted("a" * 78) == repr("a" * 78)
    assert quoted("a" * 79) == "'" + "a" * 76 + "..."


def test_the_command_line_prints_these_lines_and_exits_with_2(tmp_path):
    spec = tmp_path / "wrong.yaml"
    spec.write_text(json.dumps({"name": LONG, UNKNOWN: HUGE}))
    code = f"import sys; from orchestrator.cli.main import main; sys.argv = ['ravel', 'check', {str(spec)!r}]; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert max(map(len, done.stderr.splitlines())) <= MAX_LINE_LENGTH
    assert len(done.stderr.splitlines()) == 2
