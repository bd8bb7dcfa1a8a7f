import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import Choice, Fixed, Float, Int, SearchSpace, SymLog, When, ZeroOr, catalog, greater_than
from search_spaces.domains.values import identity

ANY_SPACE = st.from_type(SearchSpace)
SEEDS = st.integers(0, 2**32)


def key(point):
    return tuple(sorted((name, *map(str, identity(value))) for name, value in point.items()))


def full():
    return catalog.optimizer() | catalog.snnl() | catalog.mixup() | catalog.adversarial()


@given(ANY_SPACE, SEEDS)
def test_same_seed_draws_the_same_points(space, seed):
    assert space.sample_many(3, seed) == space.sample_many(3, seed)


@given(ANY_SPACE, SEEDS)
def test_fewer_points_are_a_prefix_of_more(space, seed):
    assert space.sample_many(4, seed)[:2] == space.sample_many(2, seed)


@given(ANY_SPACE, SEEDS)
def test_adding_a_parameter_leaves_the_other_draws_alone(space, seed):
    larger = SearchSpace({"new": Float(0.0, 1.0)}) | space
    assert [{k: v for k, v in point.items() if k != "new"} for point in larger.sample_many(3, seed)] == (
        space.sample_many(3, seed)
    )


def test_draws_do_not_depend_on_the_process():
    code = "from search_spaces import catalog; print(catalog.optimizer().sample(seed=7))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": str(salt)}, capture_output=True, text=True, check=True
        ).stdout
        for salt in (1, 2)
    }
    assert printed == {f"{catalog.optimizer().sample(seed=7)}\n"}


def test_no_points_is_a_valid_number_of_points():
    assert full().sample_many(0) == []


def test_parameters_are_drawn_independently():
    space = SearchSpace({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)})
    points = space.sample_many(4000, seed=1)
    quarters = [sum(p["a"] < x and p["b"] < y for p in points) / 4000 for x, y in ((0.5, 0.5), (0.2, 0.8))]
    assert quarters == pytest.approx([0.25, 0.16], abs=0.03)


@given(ANY_SPACE, st.integers(1, 3))
def test_grid_points_are_distinct_contained_and_counted(space, resolution):
    grid = space.grid(resolution)
    points = list(grid)
    assert len(grid) == len(points) == len({key(point) for point in points})
    assert all(space.contains(point) for point in points)


def test_grid_of_a_large_space_is_counted_without_being_built():
    assert len(full().grid(resolution=5)) > 10**8


def test_grid_visits_both_ends_and_all_options():
    space = SearchSpace({"a": Float(0.0, 1.0), "b": Choice(["x", "y"]), "c": Int(1, 2), "d": Fixed(3)})
    points = list(space.grid(resolution=3))
    assert [point["a"] for point in points[::4]] == [0.0, 0.5, 1.0]
    assert len(points) == 3 * 2 * 2


@given(ANY_SPACE)
def test_corners_are_distinct_and_contained(space):
    points = space.corners()
    assert len(points) == len({key(point) for point in points}) > 0
    assert all(space.contains(point) for point in points)


@given(ANY_SPACE, SEEDS)
@settings(max_examples=50)
def test_corners_reach_every_set_of_active_parameters_that_is_ever_sampled(space, seed):
    free = SearchSpace(space.parameters, space.when)  # a constraint may forbid every extreme of a set
    reached = {frozenset(point) for point in free.corners()}
    assert {frozenset(point) for point in free.sample_many(20, seed)} <= reached


def test_corners_reach_a_class_between_two_thresholds():
    space = SearchSpace(
        {"a": Float(0.0, 9.0), "b": Fixed(1), "c": Fixed(1)},
        when={"b": When("a", greater_than(3)), "c": When("a", greater_than(5))},
    )
    assert {frozenset(p) for p in space.corners()} == {frozenset("a"), frozenset("ab"), frozenset("abc")}


def test_corners_try_every_option_and_every_end():
    space = SearchSpace({"a": SymLog(-1.0, 1.0, gap=0.1), "b": Choice([1, 2, 3])})
    points = space.corners()
    assert {point["a"] for point in points} == {-1.0, -0.1, 0.1, 1.0}
    assert {point["b"] for point in points} == {1, 2, 3}
    assert {"a": 1.0, "b": 3} in points


def test_corners_of_the_catalog_are_few():
    assert len(full().corners()) < 1000


@given(ANY_SPACE)
def test_size_of_a_finite_space_is_the_number_of_its_points(space):
    counts = [domain.values() for domain in space.parameters.values()]
    if all(values is not None and len(values) <= 20 for values in counts) and len(space.grid(20)) < 500:
        assert space.size() == len(space.grid(20)) == len(list(space.grid(20)))


def test_size_is_exact_under_conditions_without_enumeration():
    space = SearchSpace(
        {"a": Int(1, 10**9), "b": Choice([1, 2, 3]), "c": ZeroOr(Int(1, 4))},
        when={"b": When("a", greater_than(10)), "c": When("b", 2)},
    )
    assert space.size() == 10 + (10**9 - 10) * (2 + 5)


def test_size_is_infinite_only_where_a_continuous_parameter_can_be_active():
    space = SearchSpace({"a": Choice([0, 1]), "b": Float(0.0, 1.0)}, when={"b": When("a", 1)})
    assert space.size() == math.inf
    assert space.fix({"a": 0}).size() == 1


def test_empty_space_has_one_point():
    assert SearchSpace({}).size() == 1
    assert list(SearchSpace({}).grid()) == SearchSpace({}).corners() == [{}]
