import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Choice, Float, Int, SearchSpace, SpaceError, When, ZeroOr, catalog, parse_space
from search_spaces.documents.json_schema import document_schema

ASSETS = Path(__file__).parent / "assets"
ANY_SPACE = st.from_type(SearchSpace)
FREE_SPACE = ANY_SPACE.map(lambda space: SearchSpace(space.parameters, space.when))
# Computed when format 1 was fixed; a change here breaks every recorded sweep.
FINGERPRINT_V1 = "453c330dab5c5da38197204a241151840d28fb0be3e01215a1bcea266d558249"
# Seen to be equal under Python 3.11.7, 3.12.1 and 3.13.0.
FULL_FINGERPRINT = "fde6c465407c254bc3af0abfb03e4853bcbe916e4eede879c6bc3ffd7541a1ed"
FULL = """
import search_spaces as s
space = s.SearchSpace(
    {
        "a": s.Float(0.0, 1.0, step=0.1),
        "b": s.Int(2, 20, step=3),
        "c": s.SymLog(-1.0, -1e-3, gap=1e-3),
        "d": s.Choice([16, 32], ordered=True),
        "e": s.ZeroOr(s.Int(1, 9)),
    },
    when={
        "c": s.When("b", s.one_of(2, 5)),
        "d": s.any_of(
            s.When("a", s.less_than(0.25)),
            s.all_of(s.When("b", s.greater_than(7)), s.When("e", s.not_equal(0))),
        ),
    },
    constraints=[
        "2**a % 3 != 1.50 or c // 1 < 0",
        "a*10<=b",
        "min(a, b) > -1e-3 and not (d == 16 or d in (32, 64))",
    ],
)
"""
VALIDATOR = jsonschema.Draft202012Validator(document_schema())


def accepts(space, point):
    return jsonschema.Draft202012Validator(space.json_schema()).is_valid(point)


@given(ANY_SPACE)
def test_yaml_is_read_back_as_the_same_space(space):
    again = SearchSpace.from_yaml(space.to_yaml())
    assert again == space
    assert again.names == space.names
    assert again.fingerprint() == space.fingerprint()


@given(ANY_SPACE)
def test_json_is_read_back_as_the_same_space(space):
    assert SearchSpace.from_dict(json.loads(json.dumps(space.to_dict()))) == space
    assert SearchSpace.from_json(space.to_json()) == space


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"parameters": {"a": {"fixed": NaN}}}', "JSON: must hold finite numbers, got NaN"),
        ('{"parameters": {}, "parameters": {}}', "JSON: the key 'parameters' is duplicated in one object; keep one"),
        ('{"parameters": }', "JSON:1:16: Expecting value"),
        ("[]", "space: must be a mapping"),
    ],
)
def test_json_that_is_not_strict_is_refused_with_its_place(text, says):
    with pytest.raises(SpaceError) as caught:
        SearchSpace.from_json(text)
    assert str(caught.value).startswith(says)


def test_narrowed_and_fixed_catalog_is_read_back():
    space = catalog.optimizer().narrow({"optimizer.name": ["adamw"]}) | catalog.snnl().fix({"snnl.weight": 0.0})
    assert SearchSpace.from_yaml(space.to_yaml()) == space


def test_space_written_by_format_1_is_still_read_with_its_fingerprint():
    space = SearchSpace.from_yaml((ASSETS / "space_v1.yaml").read_text())
    assert space.fingerprint() == FINGERPRINT_V1


@given(ANY_SPACE, ANY_SPACE)
def test_fingerprints_are_equal_exactly_for_equal_spaces(space, other):
    assert (space.fingerprint() == other.fingerprint()) == (space == other)


@pytest.mark.parametrize("salt", ["1", "2"])
def test_the_fingerprint_of_a_space_with_everything_is_the_same_in_every_process(salt):
    code = f"{FULL}\nprint(space.fingerprint())"
    ran = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": salt}, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == FULL_FINGERPRINT


def test_fingerprint_tells_types_apart():
    spaces = [SearchSpace({"a": Choice([value])}) for value in (1, 1.0, True, "1")]
    assert len({space.fingerprint() for space in spaces}) == len(set(spaces)) == 4


@given(ANY_SPACE, st.integers(0, 2**32))
def test_schema_accepts_every_point(space, seed):
    assert accepts(space, space.sample(seed))


@given(ANY_SPACE, st.integers(0, 2**32))
def test_schema_refuses_a_point_with_a_name_too_few_or_too_many(space, seed):
    point = space.sample(seed)
    assert not accepts(space, {**point, "stranger": 1})
    assert not any(accepts(space, {k: v for k, v in point.items() if k != name}) for name in point)


@given(FREE_SPACE, st.integers(0, 2**32), st.integers(0, 2**32))
def test_schema_and_space_agree_on_mixtures_of_two_points(space, seed, other_seed):
    mixture = {**space.sample(seed), **space.sample(other_seed)}
    assert accepts(space, mixture) == space.contains(mixture)


def test_schema_refuses_values_outside_their_domains():
    space = SearchSpace({"a": ZeroOr(Float(0.1, 1.0)), "b": Int(1, 3), "c": Choice(["x"])}, when={"b": When("c", "x")})
    good = {"a": 0.5, "b": 2, "c": "x"}
    assert accepts(space, good)
    for name, value in (("a", 0.05), ("b", 4), ("b", 1.5), ("c", "y"), ("a", None)):
        assert not accepts(space, {**good, name: value})


def test_schema_is_a_valid_schema():
    space = catalog.optimizer() | catalog.snnl() | catalog.mixup() | catalog.adversarial()
    jsonschema.Draft202012Validator.check_schema(space.json_schema())


def test_schema_tells_constraints_in_a_comment():
    space = SearchSpace({"a": Int(1, 9), "b": Int(1, 9)}, constraints=["a < b"])
    assert space.json_schema()["$comment"] == "must hold as well: a < b"


@given(ANY_SPACE)
def test_what_is_written_satisfies_the_schema_of_documents(space):
    VALIDATOR.validate(space.to_dict())


@pytest.mark.parametrize(
    "document",
    [
        {"parameters": {"a": {"flaot": [0, 1]}}},
        {"parameters": {"a": {"float": [0, 1], "lgo": True}}},
        {"parameters": {"a": {"float": [0]}}},
        {"parameters": {"a": {"float": ["0", 1]}}},
        {"parameters": {"a": {"float": [0, 1], "int": [0, 1]}}},
        {"parameters": {"a": {"int": [0, 1.5]}}},
        {"parameters": {"a": {"symlog": [-1, 1]}}},
        {"parameters": {"a": {"choice": []}}},
        {"parameters": {"a": {"choice": [1, 1]}}},
        {"parameters": {"a": {"zero_or": 3}}},
        {"parameters": {"a": {"zero_or": {"float": [1, 2]}, "probability": 1}}},
        {"parameters": {"a": [1, 2]}},
        {"parameters": {"a": None}},
        {"parameters": {"a b": 1}},
        {"parameters": {"a": {"fixed": 1, "when": {"b": {"nott": 2}}}}},
        {"parameters": {"a": {"fixed": 1, "when": {"b": {}}}}},
        {"parameters": {"a": {"fixed": 1, "when": [1]}}},
        {"use": ["snln"]},
        {"use": "snnl"},
        {"version": 2},
        {"parmeters": {}},
        {"constraints": "a < b"},
        {"constraints": [1]},
    ],
)
def test_what_a_reader_refuses_the_schema_of_documents_refuses(document):
    with pytest.raises(SpaceError):
        parse_space(document)
    assert not VALIDATOR.is_valid(document)


def test_schema_of_documents_takes_what_people_write():
    document = {
        "version": 1,
        "use": ["optimizer", "snnl"],
        "parameters": {
            "optimizer.name": "sgd",
            "batch_size": {"choice": [32, 64], "ordered": True},
            "a": {"zero_or": {"float": [0.1, 1], "log": True}, "probability": 0.3, "when": {"batch_size": [32, 64]}},
            "b": {"int": [2, 8], "step": 3, "when": {"any": [{"a": {"not": [0, 1]}}, {"all": [{"a": None}]}]}},
        },
        "constraints": ["b <= batch_size"],
    }
    VALIDATOR.validate(document)
    assert parse_space(document).size() == float("inf")


def test_schema_of_documents_is_a_valid_schema_and_says_what_everything_is():
    schema = document_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert all("description" in field for field in schema["properties"].values())
