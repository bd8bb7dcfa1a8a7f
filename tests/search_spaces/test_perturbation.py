"""Perturbed points: near the first, in the space, and the same for the same seed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Choice, Fixed, Float, Int, SearchSpace, SymLog, ZeroOr, catalog

SPACE = SearchSpace(
    {
        "lr": Float(0.01, 1.0, log=True),
        "step": Float(0.0, 1.0, step=0.25),
        "signed": SymLog(-1.0, 1.0, gap=0.01),
        "off": ZeroOr(Float(0.1, 4.0, log=True)),
        "count": Int(1, 9),
        "size": Choice([16, 32, 64], ordered=True),
        "name": Choice(["a", "b"]),
        "fixed": Fixed(3),
    },
    constraints=["lr <= 0.1 * count"],
)


@given(seed=st.integers(0, 2**20), resample=st.sampled_from([0.0, 0.25, 1.0]))
def test_a_perturbed_point_is_in_the_space_and_names_what_changed(seed, resample):
    point = SPACE.sample(seed)
    made = SPACE.perturb(point, SPACE.names, resample=resample, seed=seed)
    assert SPACE.problems(made.point) == []
    assert {name for name in point if made.point[name] != point[name]} == made.changes.keys()
    assert made == SPACE.perturb(point, SPACE.names, resample=resample, seed=seed)


@given(seed=st.integers(0, 2**20))
def test_conditions_hold_after_a_perturbation(seed):
    space = catalog.regularizers()
    made = space.perturb(space.sample(seed), space.names, resample=0.5, seed=seed)
    assert space.problems(made.point) == []


@given(seed=st.integers(0, 2**20))
def test_only_named_values_change(seed):
    point = SPACE.sample(seed)
    made = SPACE.perturb(point, ["size"], resample=0.0, seed=seed)
    assert made.changes.keys() <= {"size"}
    assert abs([16, 32, 64].index(made.point["size"]) - [16, 32, 64].index(point["size"])) == 1


@pytest.mark.parametrize(
    ("domain", "value", "values"),
    [
        (Float(0.01, 1.0), 0.1, {0.08000000000000002, 0.125}),
        (Float(0.01, 1.0), 1.0, {0.8}),  # at its bound the other direction
        (Float(0.0, 1.0, step=0.25), 0.5, {0.25, 0.75}),
        (SymLog(-1.0, 1.0, gap=0.01), -0.01, {-0.0125}),
        (Int(1, 9), 2, {1, 3}),
        (Int(1, 1000), 100, {80, 125}),
        (ZeroOr(Float(0.1, 4.0)), 0.1, {0.125}),
        (Choice([16, 32, 64]), 16, {32}),
        (Fixed(3), 3, {3}),
    ],
)
def test_a_value_moves_by_a_factor_or_to_a_neighbour(domain, value, values):
    space = SearchSpace({"x": domain})
    found = {space.perturb({"x": value}, ["x"], resample=0.0, seed=seed).point["x"] for seed in range(20)}
    assert found == values


def test_zero_is_drawn_anew_as_no_factor_moves_it():
    space = SearchSpace({"x": ZeroOr(Float(0.1, 4.0))})
    found = {space.perturb({"x": 0.0}, ["x"], resample=0.0, seed=seed).point["x"] for seed in range(20)}
    assert 0.0 in found
    assert len(found) > 5


def test_a_point_stays_where_no_perturbation_satisfies_the_constraints():
    space = SearchSpace({"a": Int(1, 2), "b": Int(1, 2)}, constraints=["a + b == 2"])
    assert space.perturb({"a": 1, "b": 1}, ["a"], resample=0.0) == ({"a": 1, "b": 1}, {})
