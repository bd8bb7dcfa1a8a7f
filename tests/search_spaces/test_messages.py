"""Messages about wrong inputs, word for word: `assets/messages.txt` is a doctest."""

import doctest
import re
from pathlib import Path

import pytest

from search_spaces import (
    Choice,
    Constraint,
    Fixed,
    Float,
    Int,
    SearchSpace,
    SpaceError,
    SymLog,
    When,
    ZeroOr,
    adopt,
    all_of,
    catalog,
    load_yaml,
    refine,
    unnest,
)
from search_spaces.adapters.optuna import from_optuna
from search_spaces.conditions.constraints import as_constraints
from search_spaces.documents.serialization import load_json
from search_spaces.errors import Problem

MESSAGES = Path(__file__).parent / "assets" / "messages.txt"
LONGEST = 400
LONG = "x" * 5000
NAME = "a" * 300
MANY = list(range(5000))
CHOICE = Choice(MANY)
OF_OPTIONS = Choice(["y" * 500, "z" * 500], ordered=True)
SUM = " + ".join("abcdefghij") + " + a" * 80
SPACE = SearchSpace(
    {name: Float(0.0, 1.0) for name in "abcdefghij"}, constraints=[f"{SUM} > 1000 + {i}" for i in range(9)]
)
LARGE = [
    lambda: Float(LONG, 1.0),
    lambda: Float(0.0, 1.0, log=LONG),
    lambda: Int(10**4000, 3),
    lambda: Int(0, 1).read(LONG),
    lambda: Float(0.0, 1.0).check(LONG),
    lambda: SymLog(MANY, 1.0, gap=0.1),
    lambda: Choice(LONG),
    lambda: Choice([*MANY, 1]),
    lambda: Choice([MANY]),
    lambda: CHOICE.read(LONG),
    lambda: CHOICE.check(LONG),
    lambda: Fixed(MANY),
    lambda: Fixed(LONG).check(MANY),
    lambda: ZeroOr(CHOICE),
    lambda: ZeroOr(Int(1, 2), probability=LONG),
    lambda: When(LONG + " ", 1),
    lambda: When("a", MANY),
    lambda: all_of(MANY),
    lambda: Constraint(LONG),
    lambda: Constraint("a " * 150),
    lambda: Constraint(f"f({SUM})"),
    lambda: Constraint(f"lambda: {SUM}"),
    lambda: Constraint(f"a in {SUM}"),
    lambda: Constraint(f"{SUM} > 'x'").holds(dict.fromkeys("abcdefghij", LONG)),
    lambda: as_constraints(LONG),
    lambda: SearchSpace({"a": MANY}),
    lambda: SearchSpace({LONG + " ": Fixed(1)}),
    lambda: SearchSpace({NAME: ZeroOr(Int(1, 2)), f"{NAME}.gate": Fixed(1)}),
    lambda: SearchSpace({NAME: Fixed(1)}, when={NAME: When(NAME[1:], 1)}),
    lambda: SearchSpace({NAME: Fixed(1)}, when={NAME: LONG}),
    lambda: SearchSpace({NAME: Fixed(1)}, when={NAME[1:]: When(NAME, 1)}),
    lambda: SearchSpace(
        {f"{NAME}{i}": Fixed(1) for i in (0, 1)}, when={f"{NAME}{i}": When(f"{NAME}{1 - i}", 1) for i in (0, 1)}
    ),
    lambda: SearchSpace({NAME: Fixed(LONG)}, constraints=[f"{NAME} > 'y'"]),
    lambda: SearchSpace({NAME: Fixed(1)}, constraints=[f"{NAME[1:]} > 1"]),
    SPACE.sample,
    SPACE.to_tune,
    lambda: SPACE.drop("a"),
    lambda: SPACE.prefix(LONG + "."),
    lambda: SPACE.fix({NAME: 1, "a": LONG}),
    lambda: SPACE.grid(MANY),
    lambda: SPACE.sample_many(MANY),
    lambda: SPACE.sample(LONG),
    lambda: SearchSpace({"a": CHOICE}) | SearchSpace({"a": OF_OPTIONS}),
    lambda: SearchSpace({"a": OF_OPTIONS}).narrow({"a": LONG}),
    lambda: SearchSpace({"a": OF_OPTIONS}).narrow({"a": ("z" * 500, "y" * 500)}),
    lambda: SearchSpace({"a": OF_OPTIONS}).narrow({"a": ["z" * 500, "y" * 500]}),
    lambda: SearchSpace({"a": CHOICE}).narrow({"a": (1, 2)}),
    lambda: SearchSpace({"a": CHOICE}).narrow({"a": [LONG]}),
    lambda: unnest({"a": {"b": {}}, NAME: {}}),
    lambda: load_yaml(f"{LONG}: 1\n{LONG}: 2"),
    lambda: load_yaml(f"a: !<{LONG}> b"),
    lambda: load_yaml("a: 1e" + "9" * 5000),
    lambda: load_json(f'{{"{LONG}": 1, "{LONG}": 2}}'),
    lambda: SearchSpace.from_dict(MANY),
    lambda: SearchSpace.from_dict({LONG: 1, "version": LONG, "use": LONG, "parameters": MANY, "constraints": LONG}),
    lambda: SearchSpace.from_dict({"use": [LONG]}),
    lambda: SearchSpace.from_dict(
        {"parameters": {"a": MANY, "b": {LONG: 1}, "c": {"float": LONG}, "d": {"int": [0, 1], LONG: 1}}}
    ),
    lambda: SearchSpace.from_dict({"parameters": {"a": {"choice": LONG}, "b": {"zero_or": LONG}, LONG + "-": 1}}),
    lambda: SearchSpace.from_dict(
        {"parameters": {"a": {"fixed": 1, "when": LONG}, "b": {"fixed": 1, "when": {LONG: {LONG: 1}}}}}
    ),
    lambda: SearchSpace.from_dict(
        {"use": ["optimizer"], "parameters": {"b": {"fixed": 1, "when": {"optimizer.name": LONG}}}}
    ),
    lambda: from_optuna(SPACE, dict.fromkeys("abcdefghij", LONG)),
    lambda: from_optuna(SearchSpace({"a": CHOICE}), {"a": LONG}),
    lambda: from_optuna(SearchSpace({}), {LONG: 1}),
    lambda: adopt(SPACE, [LONG]),
    lambda: adopt(SPACE, [], fill={"a": LONG}),
    lambda: refine(SPACE, [], [], quantile=LONG),
    lambda: refine(catalog.mixup(), [{"mixup.alpha": LONG, LONG: 1}] * 12, [*range(11), 2.0]),
]


def test_every_message_about_a_wrong_input_is_that_of_the_golden_file():
    failed, attempted = doctest.testfile(str(MESSAGES), module_relative=False, verbose=False)
    assert failed == 0
    assert attempted >= 50


def test_every_message_of_the_golden_file_names_a_place_and_a_requirement_in_at_most_400_characters():
    messages = re.findall(r"^search_spaces\.errors\.\w+: (.*)$", MESSAGES.read_text(), flags=re.MULTILINE)
    assert len(messages) >= 50
    assert all(re.match(r"[^:]+(:\d+:\d+)?: .{8,}", message) for message in messages)
    assert max(map(len, messages)) <= LONGEST


@pytest.mark.parametrize("wrong", LARGE, ids=range(len(LARGE)))
def test_no_line_about_a_large_value_is_longer_than_400_characters(wrong):
    with pytest.raises(SpaceError) as caught:
        wrong()
    assert max(map(len, str(caught.value).splitlines())) <= LONGEST


def test_a_message_about_a_name_like_no_other_lists_no_candidates():
    space = SearchSpace({f"group.parameter_{i}": Fixed(i) for i in range(500)})
    assert space.problems({"zzz": 1, **{name: i for i, name in enumerate(space.names)}}) == ["zzz: unknown parameter"]


def test_a_long_path_keeps_its_end():
    assert str(Problem("folder/" * 50 + "sweep.yaml:3:1", "is empty")).endswith("/sweep.yaml:3:1: is empty")
