"""Patience: a ladder within a budget, certain places at once, and what is left for those that still wait."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.scheduling.budgeted import CUT, BudgetedAsha, RungSchedule, cost, places
from orchestrator.scheduling.protocol import TrialView, TrialViews
from orchestrator.scheduling.rungs import rungs
from orchestrator.scheduling.simulator import LearningCurve, simulate

FRACTION, NUM_TRIALS, MAXIMUM = st.floats(0.01, 1), st.integers(1, 100), st.integers(1, 60)
NINE = RungSchedule(rungs=(1, 3), places=(3, 1), num_trials=9, maximum=9, budget=cost((1, 3), (3, 1), 9, 9))


def constant(values, maximum=9, seconds=1.0):
    return {
        f"t{index}": LearningCurve([(float(value),)] * maximum, [seconds] * maximum)
        for index, value in enumerate(values)
    }


def diverging(curve, at):
    return LearningCurve(
        [(-math.inf,) if level >= at else value for level, value in enumerate(curve.values, 1)], curve.seconds
    )


def waiting(values, rung=1, maximum=9):
    return TrialViews(
        {
            trial: TrialView(trial, maximum, level=rung, values={rung: (value,)}, state="paused")
            for trial, value in values.items()
        }
    )


def spent(views):
    return sum(each.level for each in views.views.values())


@given(FRACTION, NUM_TRIALS, MAXIMUM)
def test_a_ladder_costs_no_more_than_its_budget_and_that_is_the_fraction_or_what_one_trial_needs(
    fraction, num_trials, maximum
):
    ladder = RungSchedule.within(fraction, num_trials=num_trials, maximum=maximum)
    assert cost(ladder.rungs, ladder.places, num_trials, maximum) <= ladder.budget
    assert ladder.budget == max(fraction * num_trials * maximum, num_trials - 1 + maximum)


@given(FRACTION, NUM_TRIALS, MAXIMUM)
def test_places_become_fewer_from_rung_to_rung_and_never_none(fraction, num_trials, maximum):
    ladder = RungSchedule.within(fraction, num_trials=num_trials, maximum=maximum)
    descending = (num_trials, *ladder.places, 1)
    assert list(descending) == sorted(descending, reverse=True)
    assert len(ladder.places) == len(ladder.rungs)
    assert ladder.rungs == rungs((*ladder.rungs, maximum)[0], 2, maximum)


@given(FRACTION, NUM_TRIALS, MAXIMUM)
def test_what_rounding_leaves_buys_no_place_more(fraction, num_trials, maximum):
    ladder = RungSchedule.within(fraction, num_trials=num_trials, maximum=maximum)
    left = ladder.budget - cost(ladder.rungs, ladder.places, num_trials, maximum)
    for rung, here, before in zip(ladder.rungs, ladder.places, (num_trials, *ladder.places), strict=False):
        assert here == before or ladder.step(rung) > left


@pytest.mark.parametrize("maximum", [27, 81])
def test_the_first_rung_grows_with_the_fraction(maximum):
    firsts = [
        RungSchedule.within(percent / 100, num_trials=64, maximum=maximum).rungs[0] for percent in range(5, 95, 5)
    ]
    assert firsts == sorted(firsts)
    assert firsts[0] == 1
    assert firsts[-1] > maximum / 2


@pytest.mark.parametrize("maximum", [27, 81])
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
def test_no_other_first_rung_cuts_nearer_to_the_one_it_aims_at(fraction, maximum):
    ladder = RungSchedule.within(fraction, num_trials=64, maximum=maximum)
    found = {first: places(rungs(first, 2, maximum), 64, maximum, ladder.budget) for first in range(1, maximum + 1)}
    factors = {first: solved[1] for first, solved in found.items() if solved is not None}
    chosen = factors[ladder.rungs[0]]
    assert abs(math.log(chosen / CUT)) == min(abs(math.log(factor / CUT)) for factor in factors.values())
    assert CUT / 1.4 < chosen < CUT * 1.4


def test_a_fraction_too_small_for_one_trial_buys_the_cheapest_ladder():
    ladder = RungSchedule.within(0.01, num_trials=8, maximum=27)
    assert (ladder.rungs, set(ladder.places), ladder.budget) == ((1, 2, 4, 8, 16), {1}, 8 + 26)


def test_the_whole_budget_trains_every_trial_and_nobody_waits():
    rule = BudgetedAsha(RungSchedule.within(1.0, num_trials=9, maximum=9))
    out = simulate(constant(range(9)), rule, workers=2)
    assert len(out.completed_at) == 9
    assert {what for _, _, what, _ in out.decisions} == {"started", "kept", "completed"}


@pytest.mark.parametrize("workers", [1, 3, 9])
def test_the_best_at_each_rung_go_on_and_no_others(workers):
    out = simulate(constant([4, 7, 1, 8, 2, 6, 0, 5, 3]), BudgetedAsha(NINE), workers=workers)
    levels = {trial: each.level for trial, each in out.views.views.items()}
    assert levels == {
        f"t{index}": {8: 9, 7: 3, 6: 3}.get(value, 1) for index, value in enumerate([4, 7, 1, 8, 2, 6, 0, 5, 3])
    }
    assert spent(out.views) == NINE.budget


def test_nobody_goes_on_while_all_that_are_to_come_may_be_better():
    values = {f"t{index}": float(index) for index in range(6)}
    assert BudgetedAsha(NINE).resume(waiting(values), unstarted=3) is None
    assert BudgetedAsha(NINE).resume(waiting(values), unstarted=2) == "t5"


def test_a_trial_whose_place_is_certain_goes_on_at_once():
    views = waiting({f"t{index}": float(index) for index in range(6)})
    views.views["t6"] = TrialView("t6", 9, level=1, values={1: (6.0,)})
    assert BudgetedAsha(NINE).judge(views, "t6", 1).kept
    views.views["t6"].values[1] = (4.5,)
    assert not BudgetedAsha(NINE).judge(views, "t6", 1).kept


def test_those_on_their_way_to_a_rung_are_waited_for_like_those_not_yet_started():
    views = waiting({f"t{index}": float(index) for index in range(6)})
    views.views |= {f"r{index}": TrialView(f"r{index}", 9) for index in range(3)}
    assert BudgetedAsha(NINE).resume(views, unstarted=0) is None
    views.views["r0"].state = "over"
    assert BudgetedAsha(NINE).resume(views, unstarted=0) == "t5"


def test_the_verdict_names_the_value_of_the_last_place_once_all_are_taken():
    views = waiting({"t0": 0.0, "t1": 1.0})
    assert BudgetedAsha(NINE).judge(views, "t0", 1).cutoff is None
    views.views |= waiting({"t2": 2.0, "t3": 3.0}).views
    assert BudgetedAsha(NINE).judge(views, "t0", 1).cutoff == (1.0,)


def test_an_exempt_trial_takes_no_place_and_costs_no_budget():
    curves = constant(range(9))
    curves["baseline"] = LearningCurve([(99.0,)] * 9, [1.0] * 9, exempt=True)
    out = simulate(curves, BudgetedAsha(NINE), workers=2)
    assert set(out.completed_at) == {"baseline", "t8"}
    assert spent(out.views) == NINE.budget + 9


def test_a_diverged_trial_leaves_its_place_at_the_rung_to_the_next():
    curves = constant(range(9))
    curves["t8"] = diverging(curves["t8"], at=1)
    out = simulate(curves, BudgetedAsha(NINE), workers=2)
    assert {trial for trial, each in out.views.views.items() if each.went_on(1)} == {"t7", "t6", "t5"}
    assert "t7" in out.completed_at


def test_what_a_diverged_trial_leaves_of_the_budget_goes_to_the_best_that_still_wait():
    """t8 is lost one level behind rung 3 and leaves five: not six, as another would need, but two more from rung 1."""
    curves = constant(range(9))
    curves["t8"] = diverging(curves["t8"], at=4)
    ladder = RungSchedule((1, 3), (3, 2), 9, 9, cost((1, 3), (3, 2), 9, 9))
    views = simulate(curves, BudgetedAsha(ladder), workers=2).views
    assert {trial: each.level for trial, each in views.views.items() if each.level > 1} == {
        "t8": 4,
        "t7": 9,
        "t6": 3,
        "t5": 3,
        "t4": 3,
    }
    assert spent(views) == ladder.budget - 1


@given(st.integers(0, 2**32), st.floats(0.1, 0.9), st.integers(1, 12), st.integers(1, 5))
def test_in_the_end_what_is_left_buys_no_trial_another_step(seed, fraction, num_trials, workers):
    generator = random.Random(seed)
    curves = {
        f"t{index}": diverging(
            LearningCurve([(generator.random(),) for _ in range(9)], [1.0] * 9), generator.randrange(1, 30)
        )
        for index in range(num_trials)
    }
    ladder = RungSchedule.within(fraction, num_trials=num_trials, maximum=9)
    views = simulate(curves, BudgetedAsha(ladder), workers=workers).views
    left = ladder.budget - spent(views)
    assert all(ladder.step(each.level) > left for each in views.paused())


@given(st.integers(0, 2**32), st.floats(0.1, 0.9), st.integers(1, 12), st.integers(1, 5))
def test_nobody_is_trained_to_its_end_twice_nor_resumed_twice_from_a_rung(seed, fraction, num_trials, workers):
    generator = random.Random(seed)
    curves = {
        f"t{index}": LearningCurve([(generator.random(),) for _ in range(9)], [1.0] * 9) for index in range(num_trials)
    }
    ladder = RungSchedule.within(fraction, num_trials=num_trials, maximum=9)
    happened = [entry[1:] for entry in simulate(curves, BudgetedAsha(ladder), workers=workers).decisions]
    assert len(happened) == len(set(happened))
    assert sum(what == "completed" for _, what, _ in happened) == (ladder.places[-1] if ladder.places else num_trials)


def test_a_second_chance_stays_within_the_budget_even_where_the_trial_does_better_than_those_before_it():
    """What the lost c leaves takes d a step further; there d comes first, and the rest of its way is not paid for."""
    ladder = RungSchedule((1, 2), (2, 2), 4, 6, cost((1, 2), (2, 2), 4, 6))
    curves = {
        "a": LearningCurve([(3.0,)] * 6, [1.0] * 6),
        "b": LearningCurve([(1.0,)] * 6, [1.0] * 6),
        "c": diverging(LearningCurve([(2.0,)] * 6, [1.0] * 6), at=3),
        "d": LearningCurve([(1.5,), *[(4.0,)] * 5], [1.0] * 6),
    }
    out = simulate(curves, BudgetedAsha(ladder), workers=1)
    assert spent(out.views) <= ladder.budget


def test_where_the_last_leader_is_lost_another_is_trained_to_its_end():
    ladder = RungSchedule.within(0.8, num_trials=2, maximum=2)
    curves = {"a": LearningCurve([(0.0,)] * 2, [1.0] * 2), "b": diverging(LearningCurve([(2.0,)] * 2, [1.0] * 2), at=2)}
    assert list(simulate(curves, BudgetedAsha(ladder), workers=1).completed_at) == ["a"]


def test_with_two_objectives_nobody_goes_on_whose_place_a_later_trial_can_change():
    """A newcomer may reorder all others: a leads when b is there, and has no place once c is."""
    ladder = RungSchedule((1, 2), (2, 1), 3, 4, cost((1, 2), (2, 1), 3, 4))
    curves = {
        "a": LearningCurve([(2.0, 2.0), (3.0, 2.0), (3.0, 0.0), (0.0, 0.0)], [3.0] * 4),
        "b": LearningCurve([(1.0, 3.0), (3.0, 0.0), (2.0, 3.0), (0.0, 1.0)], [2.0] * 4),
        "c": LearningCurve([(3.0, 0.0), (2.0, 3.0), (3.0, 0.0), (0.0, 1.0)], [2.0] * 4),
    }
    ends = [simulate(curves, BudgetedAsha(ladder), workers=workers) for workers in (2, 3)]
    assert [spent(out.views) for out in ends] == [ladder.budget] * 2
    assert len({tuple(sorted(out.completed_at)) for out in ends}) == 1
