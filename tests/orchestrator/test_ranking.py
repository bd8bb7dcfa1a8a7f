"""Who is better: one order, total, whatever came first."""

import math
import random
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.state import ranking
from orchestrator.state.ranking import Ranking, fronts, is_finite, measured, order

NAMES = st.text("abcdef", min_size=1, max_size=3)
VALUE = st.none() | st.floats(allow_nan=True, allow_infinity=True)
FEW = st.sampled_from([0.0, 0.25, 0.5, 1.0, -math.inf])


def of(element, objectives, **sizes):
    return st.dictionaries(NAMES, st.tuples(*[element] * objectives), **sizes)


def of_one_to_three(element, **sizes):
    return st.integers(1, 3).flatmap(lambda objectives: of(element, objectives, **sizes))


VALUES = of_one_to_three(FEW | st.floats(-1e6, 1e6), max_size=16)


def dominates(one, other):
    return all(a >= b for a, b in zip(one, other, strict=True)) and any(a > b for a, b in zip(one, other, strict=True))


@given(VALUES, st.randoms(use_true_random=False))
def test_the_order_is_total_and_does_not_depend_on_who_came_first(values, generator):
    names = generator.sample(list(values), len(values))
    ranked = order(values)
    assert sorted(ranked) == sorted(values)
    assert order({name: values[name] for name in names}) == ranked


def test_values_as_large_as_a_float_holds_are_ordered_as_well():
    values = {"a": (-1.7e308, 4.0), "b": (-1e308, 3.0), "c": (0.0, 2.0), "d": (1e308, 1.0), "e": (1.7e308, 0.0)}
    assert len({tuple(order({name: values[name] for name in names})) for names in permutations(values)}) == 1


@given(VALUES)
def test_what_is_not_finite_comes_last(values):
    finite = [is_finite(values[name]) for name in order(values)]
    assert finite == sorted(finite, reverse=True)


@given(of(st.floats(allow_nan=False), 1, max_size=16))
def test_with_one_objective_the_best_value_comes_first_and_ties_go_by_name(values):
    ranked = order(values)
    for better, worse in pairwise(ranked):
        assert (-values[better][0], better) < (-values[worse][0], worse)


@given(of_one_to_three(FEW, max_size=16))
def test_fronts_are_those_of_a_brute_force(values):
    finite = {name: value for name, value in values.items() if is_finite(value)}

    def depth(name):
        return max((1 + depth(other) for other in finite if dominates(finite[other], finite[name])), default=0)

    depths = {name: depth(name) for name in finite}
    expected = [{name for name in finite if depths[name] == at} for at in sorted(set(depths.values()))]
    behind = set(values) - set(finite)
    assert [set(front) for front in fronts(values)] == expected + [behind] * bool(behind)


@pytest.mark.parametrize(("objectives", "at_most"), [(2, 12), (3, 150)])
def test_a_trial_is_compared_with_few_of_many_others(objectives, at_most, monkeypatch):
    compared, original = [], ranking._dominates
    monkeypatch.setattr(ranking, "_dominates", lambda *pair: compared.append(pair) or original(*pair))
    generator = random.Random(0)
    values = {f"t{index:04}": tuple(generator.random() for _ in range(objectives)) for index in range(2000)}
    assert sum(map(len, fronts(values))) == 2000
    assert len(compared) / 2000 < at_most


@given(VALUES)
def test_nobody_comes_before_one_who_dominates_it(values):
    ranked = order(values)
    for place, name in enumerate(ranked):
        assert not any(
            is_finite(values[later]) and dominates(values[later], values[name]) for later in ranked[place + 1 :]
        )


@given(of(st.floats(-1e6, 1e6), 2, min_size=2, max_size=16))
def test_crowding_keeps_the_extremes_of_a_front(values):
    """The best of either objective come first, before the middle of the front."""
    first = fronts(values)[0]
    places = 2 if len({values[name] for name in first}) > 1 else 1
    ahead = [values[name] for name in order(values)[:places]]
    for objective in range(2):
        assert max(value[objective] for value in values.values()) in [value[objective] for value in ahead]


def test_crowding_prefers_the_gaps_of_a_front_to_its_crowds():
    values = {"a": (0.0, 1.0), "b": (0.05, 0.95), "c": (0.1, 0.9), "d": (0.6, 0.4), "e": (1.0, 0.0)}
    assert order(values) == ["a", "e", "d", "c", "b"]


def test_scaling_an_objective_changes_no_place():
    generator = random.Random(0)
    values = {str(index): (generator.random(), generator.random()) for index in range(32)}
    assert order({name: (1024 * one, other) for name, (one, other) in values.items()}) == order(values)


@given(st.dictionaries(NAMES, st.tuples(VALUE, VALUE), max_size=12), st.integers(1, 2))
def test_minimising_is_maximising_the_negative(values, objectives):
    least = {name: measured(value[:objectives], ["min"] * objectives) for name, value in values.items()}
    most = {
        name: measured([None if each is None else -each for each in value[:objectives]], ["max"] * objectives)
        for name, value in values.items()
    }
    assert least == most


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_what_is_not_finite_is_the_worst_of_all_in_either_mode(value, mode):
    assert measured([value], [mode]) == (-math.inf,)
    assert not is_finite(measured([value, 0.5], [mode, "max"]))


def test_a_value_for_each_mode_is_required():
    with pytest.raises(ValueError, match="longer"):
        measured([0.5], ["max", "min"])


@pytest.mark.parametrize("objectives", [1, 2, 3])
@given(data=st.data())
def test_a_ranking_kept_by_additions_and_removals_is_the_order_of_its_values(objectives, data):
    numbers = st.sampled_from([0.0, 0.5, 1.0, -math.inf]) | st.floats(-9, 9)
    changes = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.tuples(*[numbers] * objectives)), max_size=30)
    ranking, values = Ranking(), {}
    for trial, value in data.draw(changes):
        if trial in values:
            ranking.discard(trial)
            del values[trial]
        else:
            ranking.add(trial, value)
            values[trial] = value
        ranked = order(values)
        assert list(ranking) == ranked == [ranking[place] for place in range(len(ranking))]
        assert [ranking.place(name) for name in ranked] == list(range(len(ranked)))
        assert ranking.num_finite == sum(map(is_finite, values.values()))
        some = {name: values[name] for name in ranked[1::2]}
        assert ranking.best_of(Ranking(some)) == next(iter(ranked[1::2]), None)
