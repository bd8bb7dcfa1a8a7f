"""Spaces made of spaces keep their conditions and constraints, or say why they cannot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import (
    Constraint,
    Difference,
    Fixed,
    Float,
    InfeasibleError,
    Int,
    PathError,
    SearchSpace,
    SpaceError,
    When,
    catalog,
)

ANY_SPACE = st.from_type(SearchSpace)
SEEDS = st.integers(0, 2**32)


def ordered():
    return SearchSpace({"a": Int(1, 9), "b": Int(1, 9)}, constraints=["a < b"])


@given(ANY_SPACE, SEEDS)
def test_a_prefixed_space_holds_the_same_points_under_longer_names(space, seed):
    moved = space.prefix("outer.inner")
    longer = [{f"outer.inner.{name}": value for name, value in point.items()} for point in space.sample_many(3, seed)]
    assert all(moved.contains(point) for point in longer)
    assert all(space.contains({name[12:]: value for name, value in moved.sample(seed).items()}) for _ in range(1))


def test_a_prefix_that_is_no_name_is_refused():
    with pytest.raises(PathError, match="a parameter name is identifiers joined by dots"):
        catalog.mixup().prefix("a-b")


def test_two_prefixes_put_one_fragment_twice_into_a_space():
    both = catalog.optimizer().prefix("generator") | catalog.optimizer().prefix("discriminator")
    assert len(both.names) == 2 * len(catalog.optimizer().names)


def test_merging_keeps_every_constraint_once():
    space = ordered() | SearchSpace({"b": Int(1, 9), "c": Int(1, 9)}, constraints=["b < c"]) | ordered()
    assert space.constraints == (Constraint("a < b"), Constraint("b < c"))


def test_dropping_what_a_constraint_names_is_refused():
    with pytest.raises(SpaceError, match="b: cannot be dropped: constraint 'a < b' names it"):
        ordered().drop("b")


def test_fixing_into_a_broken_constraint_is_refused():
    with pytest.raises(SpaceError, match="no point satisfies it: a is always 3, b is always 2"):
        ordered().fix({"a": 3, "b": 2})


@given(ANY_SPACE)
def test_a_space_does_not_differ_from_itself(space):
    assert not space.diff(space)
    assert str(space.diff(space)) == "no difference"


@given(ANY_SPACE, ANY_SPACE)
def test_a_difference_is_false_exactly_for_equal_spaces(one, other):
    assert bool(one.diff(other)) is (one != other)


def test_a_difference_says_what_came_what_went_and_what_changed():
    before = ordered() | SearchSpace({"old": Fixed(1)})
    after = SearchSpace({"a": Int(1, 9), "b": Float(0.0, 1.0), "new": Fixed(2)}, when={"new": When("a", 3)})
    assert str(before.diff(after)).splitlines() == [
        "- old: always 1",
        "- constraint 'a < b': must hold",
        "~ b: an int in [1, 9] -> a float in [0, 1]",
        "+ new: always 2 when a = 3",
    ]
    assert after.diff(before).removed.keys() == before.diff(after).added.keys()
    assert isinstance(before.diff(after), Difference)


def test_rejected_draws_are_counted_by_constraint():
    space = SearchSpace({"a": Int(1, 10), "b": Int(1, 10)}, constraints=["a < b", "a + b <= 100"])
    found = space.feasibility(20_000, seed=1)
    assert found.refused["a + b <= 100"] == 0
    assert found.accepted == found.sampled - found.refused["a < b"]
    assert abs(found.share - 0.45) < 0.01


def test_a_space_that_is_all_but_infeasible_is_refused_with_the_constraint_to_blame():
    space = SearchSpace({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)}, constraints=["a + b >= 0", "a - b >= 0.999999"])
    with pytest.raises(InfeasibleError) as caught:
        space.sample(seed=0)
    assert str(caught.value) == (
        "constraints: 0 of 10,000 draws (0 %) satisfy the constraints; refused by 'a + b >= 0': 0, "
        "by 'a - b >= 0.999999': 10,000; loosen the one that refuses most, or narrow its parameters to where it holds"
    )


def test_points_are_drawn_as_if_only_feasible_ones_had_been():
    drawn = [(point["a"], point["b"]) for point in ordered().sample_many(36_000, seed=2)]
    counts = [drawn.count((a, b)) for a in range(1, 10) for b in range(a + 1, 10)]
    assert sum(counts) == 36_000
    assert all(850 < count < 1150 for count in counts)  # 1,000 each, standard deviation 31


def test_grid_and_size_count_feasible_points_alone():
    assert ordered().size() == 36 == len(ordered().grid(9)) == len(list(ordered().grid(9)))


@given(ANY_SPACE)
def test_every_corner_and_grid_point_is_a_point(space):
    assert all(space.contains(corner) for corner in space.corners())
    grid = space.grid(2)
    if len(grid) < 500:
        points = list(grid)
        assert len(points) == len(grid)
        assert all(space.contains(point) for point in points)


def test_a_constraint_on_too_many_combinations_is_not_counted():
    space = SearchSpace({"a": Int(1, 10**5), "b": Int(1, 10**5)}, constraints=["a < b"])
    with pytest.raises(SpaceError, match="joins 10,000,000,000 combinations, too many to count"):
        space.size()


def test_a_continuous_parameter_makes_a_constrained_space_infinite():
    space = SearchSpace({"a": Float(0.0, 1.0), "b": Int(1, 3)}, constraints=["a < b"])
    assert space.size() == float("inf")


def test_corners_are_found_on_the_side_that_a_constraint_leaves():
    space = SearchSpace({"a": Int(1, 9), "b": Int(1, 9), "c": Int(1, 9)}, constraints=["a * b >= 50"])
    assert {(point["a"], point["b"], point["c"]) for point in space.corners()} == {(9, 9, 9), (9, 9, 1)}
