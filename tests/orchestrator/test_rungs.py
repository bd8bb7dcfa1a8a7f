"""Where trials are compared: whole numbers, and brackets that spend the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.scheduling.rungs import brackets, brackets_of, expected_cost, rungs

GRACE, FACTOR, MAXIMUM = st.integers(1, 9), st.integers(2, 10), st.integers(1, 10**6)


@pytest.mark.parametrize(
    ("grace", "factor", "maximum", "expected"),
    [
        (3, 3, 27, (3, 9)),
        (1, 3, 243, (1, 3, 9, 27, 81)),
        (1, 10, 1000, (1, 10, 100)),
        (5, 4, 5, ()),
        (9, 3, 4, ()),
    ],
)
def test_rungs_are_exact_integers_below_the_full_budget(grace, factor, maximum, expected):
    assert rungs(grace, factor, maximum) == expected


@given(GRACE, FACTOR, MAXIMUM)
def test_rungs_are_all_powers_below_the_maximum(grace, factor, maximum):
    found = rungs(grace, factor, maximum)
    assert found == tuple(grace * factor**power for power in range(len(found)))
    assert all(type(rung) is int and rung < maximum for rung in found)
    assert grace * factor ** len(found) >= maximum


@given(GRACE, FACTOR, MAXIMUM, st.data())
def test_each_bracket_leaves_out_one_rung_more_and_none_but_the_last_is_empty(grace, factor, maximum, data):
    whole = rungs(grace, factor, maximum)
    count = data.draw(st.integers(1, len(whole) + 1))
    found = brackets(grace, factor, maximum, count)
    assert found == tuple(whole[-(len(whole) - skipped) :] if skipped < len(whole) else () for skipped in range(count))
    assert all(found[:-1])


@pytest.mark.parametrize("count", [0, 5])
def test_more_brackets_than_there_are_is_an_error_that_says_how_many_there_are(count):
    with pytest.raises(ValueError, match=rf"must be 1 to 4 \(rungs \(1, 3, 9\), .*got {count}"):
        brackets(1, 3, 27, count)


def test_the_expected_cost_is_that_of_a_cohort_of_which_one_in_eta_goes_on():
    assert 27 * expected_cost((1, 3, 9), 3, 27) == pytest.approx(27 * 1 + 9 * 2 + 3 * 6 + 1 * 18)
    assert expected_cost((), 3, 27) == 27


@given(st.lists(st.floats(0.5, 100), min_size=1, max_size=5).map(tuple), st.integers(1, 60))
def test_after_any_number_of_trials_brackets_have_spent_the_same_but_for_one_trial(costs, num_trials):
    spent = [0.0] * len(costs)
    for chosen in brackets_of(num_trials, costs):
        spent[chosen] += costs[chosen]
        assert max(spent) - min(spent) <= max(costs) * (1 + 1e-9)


@given(st.lists(st.floats(0.5, 100), min_size=1, max_size=4).map(tuple), st.integers(0, 30))
def test_the_bracket_of_a_trial_depends_on_its_place_and_the_ratio_of_costs_alone(costs, count):
    doubled = tuple(2 * cost for cost in costs)
    assert brackets_of(30, costs)[:count] == brackets_of(count, doubled)


@pytest.mark.timeout(20)
def test_a_sweep_of_thousands_of_trials_is_spread_at_once():
    costs = tuple(expected_cost(bracket, 3, 81) for bracket in brackets(1, 3, 81, 5))
    chosen = brackets_of(100_000, costs)
    spent = [chosen.count(bracket) * cost for bracket, cost in enumerate(costs)]
    assert max(spent) - min(spent) <= max(costs)
