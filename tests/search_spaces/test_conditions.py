import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import (
    Choice,
    DomainError,
    Fixed,
    Float,
    Int,
    SearchSpace,
    SpaceError,
    When,
    all_of,
    any_of,
    equals,
    greater_than,
    less_than,
    not_equal,
    one_of,
)
from search_spaces.conditions.condition import AllOf, AnyOf

LEAVES = st.builds(When, st.sampled_from(["a", "b", "c"]), st.integers(0, 1))
TREES = st.recursive(
    LEAVES,
    lambda parts: st.lists(parts, min_size=1, max_size=3).flatmap(
        lambda chosen: st.sampled_from([all_of(*chosen), any_of(*chosen)])
    ),
    max_leaves=6,
)
VALUES = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 1))


@given(st.lists(TREES, min_size=1), VALUES)
def test_all_of_holds_where_every_part_does(parts, values):
    assert all_of(*parts).holds(values) is all(part.holds(values) for part in parts)


@given(st.lists(TREES, min_size=1), VALUES)
def test_any_of_holds_where_a_part_does(parts, values):
    assert any_of(*parts).holds(values) is any(part.holds(values) for part in parts)


@given(TREES)
def test_a_tree_equals_its_copies_and_itself_joined_with_itself(tree):
    assert all_of(tree, tree) == any_of(tree, tree) == tree
    assert copy.deepcopy(tree) == pickle.loads(pickle.dumps(tree)) == tree  # noqa: S301 - our own bytes


@given(st.lists(TREES, min_size=1))
def test_the_order_of_parts_is_no_part_of_equality(parts):
    for join in (all_of, any_of):
        assert join(*parts) == join(*reversed(parts))
        assert hash(join(*parts)) == hash(join(*reversed(parts)))


@given(TREES)
def test_no_part_is_of_the_kind_it_is_in(tree):
    if isinstance(tree, AllOf | AnyOf):
        assert not any(isinstance(part, type(tree)) for part in tree.parts)
        assert len(tree.parts) > 1


@given(TREES, VALUES)
def test_renaming_moves_the_names_and_nothing_else(tree, values):
    moved = {f"x.{name}": value for name, value in values.items()}
    assert tree.renamed("x.{}".format).holds(moved) is tree.holds(values)
    assert [leaf.parent for leaf in tree.renamed("x.{}".format).leaves()] == [
        f"x.{leaf.parent}" for leaf in tree.leaves()
    ]


def test_words_say_what_binds_to_what():
    tree = any_of(all_of(When("a", 1), When("b", not_equal(2))), When("c", one_of("x", "y")))
    assert str(tree) == "(a = 1 and b != 2) or c in ('x', 'y')"
    assert tree == When("a", 1) & When("b", not_equal(2)) | When("c", one_of("x", "y"))


def test_a_child_lives_as_long_as_one_of_its_parents_does():
    space = SearchSpace(
        {"a": Choice([0, 1]), "b": Choice([0, 1]), "c": Fixed("x"), "d": Fixed("y")},
        when={
            "b": When("a", 1),
            "c": any_of(When("a", 0), When("b", 1)),
            "d": all_of(When("a", 1), any_of(When("b", 0), When("c", "x"))),
        },
    )
    assert space.active({"a": 0}) == {"a", "c"}
    assert space.active({"a": 1, "b": 0}) == {"a", "b", "d"}
    assert space.active({"a": 1, "b": 1, "c": "x"}) == {"a", "b", "c", "d"}
    assert space.size() == 3


def test_bounds_are_strict():
    assert [greater_than(2).holds(value) for value in (1, 2, 3)] == [False, False, True]
    assert [less_than(2).holds(value) for value in (1, 2, 3)] == [True, False, False]


def test_a_range_of_a_continuous_parent_makes_a_child():
    space = SearchSpace(
        {"lr": Float(1e-4, 1.0, log=True), "warmup": Int(1, 5)},
        when={"warmup": [When("lr", greater_than(0.01)), When("lr", less_than(0.1))]},
    )
    assert {lr: "warmup" in space.active({"lr": lr}) for lr in (0.05, 0.01, 0.1)} == {
        0.05: True,
        0.01: False,
        0.1: False,
    }
    assert any("warmup" in corner for corner in space.corners())


@pytest.mark.parametrize("make", [all_of, any_of])
def test_joining_nothing_or_what_is_no_condition_is_refused(make):
    with pytest.raises(DomainError, match="must join at least one condition, got none"):
        make()
    with pytest.raises(DomainError, match="must join conditions such as"):
        make(equals(1))


def test_a_joined_condition_cannot_be_changed():
    tree = all_of(When("a", 1), When("b", 1))
    with pytest.raises(AttributeError, match="immutable"):
        tree.parts = ()


def test_a_circle_is_named_without_those_who_merely_hang_on_it():
    with pytest.raises(SpaceError) as caught:
        SearchSpace(
            {"a": Fixed(1), "b": Fixed(1), "c": Fixed(1), "d": Fixed(1)},
            when={"a": When("b", 1), "b": any_of(When("c", 1), When("d", 1)), "c": When("a", 1)},
        )
    assert [str(problem) for problem in caught.value.problems] == [
        "a: depends on itself: a -> b -> c -> a",
        "b: depends on itself: a -> b -> c -> a",
        "c: depends on itself: a -> b -> c -> a",
    ]
