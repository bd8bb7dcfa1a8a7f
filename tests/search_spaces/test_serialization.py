import json
from pathlib import Path

import jsonschema
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Choice, Float, Int, SearchSpace, When, ZeroOr, catalog

ASSETS = Path(__file__).parent / "assets"
ANY_SPACE = st.from_type(SearchSpace)
# Computed when format 1 was fixed; a change here breaks every recorded sweep.
FINGERPRINT_V1 = "453c330dab5c5da38197204a241151840d28fb0be3e01215a1bcea266d558249"


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


def test_narrowed_and_fixed_catalog_is_read_back():
    space = catalog.optimizer().narrow({"optimizer.name": ["adamw"]}) | catalog.snnl().fix({"snnl.weight": 0.0})
    assert SearchSpace.from_yaml(space.to_yaml()) == space


def test_space_written_by_format_1_is_still_read_with_its_fingerprint():
    space = SearchSpace.from_yaml((ASSETS / "space_v1.yaml").read_text())
    assert space.fingerprint() == FINGERPRINT_V1


@given(ANY_SPACE, ANY_SPACE)
def test_fingerprints_are_equal_exactly_for_equal_spaces(space, other):
    assert (space.fingerprint() == other.fingerprint()) == (space == other)


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


@given(ANY_SPACE, st.integers(0, 2**32), st.integers(0, 2**32))
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
