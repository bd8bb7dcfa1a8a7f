"""Budgeted ASHA: a rung schedule within a budget, certain places at once, and the rest for the best paused trials."""

import hashlib
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.scheduling.budgeted.rung_schedule import DESIGNS, RungSchedule, cost, places
from orchestrator.scheduling.budgeted.scheduler import BudgetedAsha
from orchestrator.scheduling.rungs import spaced
from orchestrator.scheduling.simulator import LearningCurve, simulate
from orchestrator.scheduling.trial_views import TrialView, TrialViews

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


def paused(values, rung=1, maximum=9):
    return TrialViews(
        TrialView(trial, maximum, level=rung, values={rung: (value,)}, state="paused")
        for trial, value in values.items()
    )


def spent(views):
    return sum(view.level for view in views.values())


@given(FRACTION, NUM_TRIALS, MAXIMUM)
def test_a_schedule_costs_no_more_than_its_budget_and_that_is_the_fraction_or_what_one_trial_needs(
    fraction, num_trials, maximum
):
    schedule = RungSchedule.within(fraction, num_trials=num_trials, maximum=maximum)
    assert cost(schedule.rungs, schedule.places, num_trials, maximum) <= schedule.budget
    assert schedule.budget == max(fraction * num_trials * maximum, num_trials - 1 + maximum)


@given(FRACTION, NUM_TRIALS, MAXIMUM)
def test_places_become_fewer_from_rung_to_rung_and_never_none(fraction, num_trials, maximum):
    schedule = RungSchedule.within(fraction, num_trials=num_trials, maximum=maximum)
    descending = (num_trials, *schedule.places, 1)
    assert list(descending) == sorted(descending, reverse=True)
    assert len(schedule.places) == len(schedule.rungs)
    assert schedule.rungs == spaced((*schedule.rungs, maximum)[0], 1.5, maximum, highest=0.9)


@given(FRACTION, NUM_TRIALS, MAXIMUM)
def test_what_rounding_leaves_buys_no_place_more(fraction, num_trials, maximum):
    schedule = RungSchedule.within(fraction, num_trials=num_trials, maximum=maximum)
    left = schedule.budget - cost(schedule.rungs, schedule.places, num_trials, maximum)
    for rung, here, before in zip(schedule.rungs, schedule.places, (num_trials, *schedule.places), strict=False):
        assert here == before or schedule.step(rung) > left


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
@pytest.mark.parametrize("design", DESIGNS)
def test_no_other_first_rung_cuts_nearer_to_the_one_it_aims_at(fraction, maximum, design):
    schedule, cut = RungSchedule.within(fraction, num_trials=64, maximum=maximum, design=design), DESIGNS[design].cut
    spacing, highest = DESIGNS[design].spacing, DESIGNS[design].highest
    sequences = {first: spaced(first, spacing, maximum, highest=highest) for first in range(1, maximum + 1)}
    found = {first: places(levels, 64, maximum, schedule.budget) for first, levels in sequences.items()}
    factors = {first: solved[1] for first, solved in found.items() if solved is not None}
    chosen = factors[schedule.rungs[0]]
    assert abs(math.log(chosen / cut)) == min(abs(math.log(factor / cut)) for factor in factors.values())
    assert cut / 1.4 < chosen < cut * 1.4


def test_a_fraction_too_small_for_one_trial_buys_the_cheapest_schedule():
    schedule = RungSchedule.within(0.01, num_trials=8, maximum=27)
    assert (schedule.rungs, set(schedule.places), schedule.budget) == ((1, 2, 3, 5, 8, 11, 17), {1}, 8 + 26)


def test_the_whole_budget_trains_every_trial_and_none_is_paused():
    scheduler = BudgetedAsha(RungSchedule.within(1.0, num_trials=9, maximum=9))
    out = simulate(constant(range(9)), scheduler, workers=2)
    assert len(out.completed_at) == 9
    assert {action for _, _, action, _ in out.decisions} == {"started", "kept", "completed"}


@pytest.mark.parametrize("workers", [1, 3, 9])
def test_the_best_at_each_rung_advance_and_no_other(workers):
    out = simulate(constant([4, 7, 1, 8, 2, 6, 0, 5, 3]), BudgetedAsha(NINE), workers=workers)
    levels = {trial: view.level for trial, view in out.views.items()}
    assert levels == {
        f"t{index}": {8: 9, 7: 3, 6: 3}.get(value, 1) for index, value in enumerate([4, 7, 1, 8, 2, 6, 0, 5, 3])
    }
    assert spent(out.views) == NINE.budget


def test_none_advances_while_all_that_are_to_come_may_be_better():
    values = {f"t{index}": float(index) for index in range(6)}
    assert BudgetedAsha(NINE).promote(paused(values), unstarted=3) is None
    assert BudgetedAsha(NINE).promote(paused(values), unstarted=2) == "t5"


def test_a_trial_whose_place_is_certain_is_kept_at_once():
    views = paused({f"t{index}": float(index) for index in range(6)})
    views.put(TrialView("t6", 9, level=1, values={1: (6.0,)}))
    assert BudgetedAsha(NINE).decide(views, "t6", 1).kept
    views.put(TrialView("t6", 9, level=1, values={1: (4.5,)}))
    assert not BudgetedAsha(NINE).decide(views, "t6", 1).kept


def test_those_on_their_way_to_a_rung_are_waited_for_like_those_not_yet_started():
    views = paused({f"t{index}": float(index) for index in range(6)})
    for index in range(3):
        views.put(TrialView(f"r{index}", 9))
    assert BudgetedAsha(NINE).promote(views, unstarted=0) is None
    views.put(replace(views["r0"], state="over"))
    assert BudgetedAsha(NINE).promote(views, unstarted=0) == "t5"


def test_the_decision_names_the_value_of_the_last_place_once_all_are_taken():
    views = paused({"t0": 0.0, "t1": 1.0})
    assert BudgetedAsha(NINE).decide(views, "t0", 1).cutoff is None
    for view in paused({"t2": 2.0, "t3": 3.0}).values():
        views.put(view)
    assert BudgetedAsha(NINE).decide(views, "t0", 1).cutoff == (1.0,)


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
    assert {trial for trial, view in out.views.items() if view.advanced_from(1)} == {"t7", "t6", "t5"}
    assert "t7" in out.completed_at


def test_what_a_diverged_trial_leaves_of_the_budget_goes_to_the_best_paused_ones():
    """t8 is lost one level above rung 3 and leaves five: not six, as another would need, but two more from rung 1."""
    curves = constant(range(9))
    curves["t8"] = diverging(curves["t8"], at=4)
    schedule = RungSchedule((1, 3), (3, 2), 9, 9, cost((1, 3), (3, 2), 9, 9))
    views = simulate(curves, BudgetedAsha(schedule), workers=2).views
    assert {trial: view.level for trial, view in views.items() if view.level > 1} == {
        "t8": 4,
        "t7": 9,
        "t6": 3,
        "t5": 3,
        "t4": 3,
    }
    assert spent(views) == schedule.budget - 1


@given(st.integers(0, 2**32), st.floats(0.1, 0.9), st.integers(1, 12), st.integers(1, 5))
def test_in_the_end_what_is_left_buys_no_trial_another_step(seed, fraction, num_trials, workers):
    generator = random.Random(seed)
    curves = {
        f"t{index}": diverging(
            LearningCurve([(generator.random(),) for _ in range(9)], [1.0] * 9), generator.randrange(1, 30)
        )
        for index in range(num_trials)
    }
    schedule = RungSchedule.within(fraction, num_trials=num_trials, maximum=9)
    views = simulate(curves, BudgetedAsha(schedule), workers=workers).views
    left = schedule.budget - spent(views)
    assert all(schedule.step(view.level) > left for view in views.values() if view.state == "paused")


@given(st.integers(0, 2**32), st.floats(0.1, 0.9), st.integers(1, 12), st.integers(1, 5))
def test_none_is_trained_to_its_end_twice_nor_promoted_twice_from_a_rung(seed, fraction, num_trials, workers):
    generator = random.Random(seed)
    curves = {
        f"t{index}": LearningCurve([(generator.random(),) for _ in range(9)], [1.0] * 9) for index in range(num_trials)
    }
    schedule = RungSchedule.within(fraction, num_trials=num_trials, maximum=9)
    happened = [entry[1:] for entry in simulate(curves, BudgetedAsha(schedule), workers=workers).decisions]
    assert len(happened) == len(set(happened))
    assert sum(action == "completed" for _, action, _ in happened) == (
        schedule.places[-1] if schedule.places else num_trials
    )


def test_a_second_chance_stays_within_the_budget_even_where_the_trial_does_better_than_those_before_it():
    """The budget that c leaves takes d a step further; there d leads, and the rest of its way is not paid for."""
    schedule = RungSchedule((1, 2), (2, 2), 4, 6, cost((1, 2), (2, 2), 4, 6))
    curves = {
        "a": LearningCurve([(3.0,)] * 6, [1.0] * 6),
        "b": LearningCurve([(1.0,)] * 6, [1.0] * 6),
        "c": diverging(LearningCurve([(2.0,)] * 6, [1.0] * 6), at=3),
        "d": LearningCurve([(1.5,), *[(4.0,)] * 5], [1.0] * 6),
    }
    out = simulate(curves, BudgetedAsha(schedule), workers=1)
    assert spent(out.views) <= schedule.budget


def test_where_the_last_leader_is_lost_another_is_trained_to_its_end():
    schedule = RungSchedule.within(0.8, num_trials=2, maximum=2)
    curves = {"a": LearningCurve([(0.0,)] * 2, [1.0] * 2), "b": diverging(LearningCurve([(2.0,)] * 2, [1.0] * 2), at=2)}
    assert list(simulate(curves, BudgetedAsha(schedule), workers=1).completed_at) == ["a"]


def test_with_two_objectives_none_advances_whose_place_a_later_trial_can_change():
    """A new trial may reorder all: a leads once b has come, and has no place once c has."""
    schedule = RungSchedule((1, 2), (2, 1), 3, 4, cost((1, 2), (2, 1), 3, 4))
    curves = {
        "a": LearningCurve([(2.0, 2.0), (3.0, 2.0), (3.0, 0.0), (0.0, 0.0)], [3.0] * 4),
        "b": LearningCurve([(1.0, 3.0), (3.0, 0.0), (2.0, 3.0), (0.0, 1.0)], [2.0] * 4),
        "c": LearningCurve([(3.0, 0.0), (2.0, 3.0), (3.0, 0.0), (0.0, 1.0)], [2.0] * 4),
    }
    ends = [simulate(curves, BudgetedAsha(schedule), workers=workers) for workers in (2, 3)]
    assert [spent(out.views) for out in ends] == [schedule.budget] * 2
    assert len({tuple(sorted(out.completed_at)) for out in ends}) == 1


FIRST_DESIGN = "908846a62e0adbd050e7dfb90a3951b3d1232e3a29d759fe2336dfe04a35630b"
"""Of the decisions below, as the version that had no other design made them."""


def test_a_schedule_of_the_first_design_decides_as_it_ever_did():
    digest = hashlib.sha256()
    for seed in range(60):
        generator = random.Random(seed)
        num_trials, maximum = generator.randint(1, 30), generator.randint(2, 40)
        schedule = RungSchedule.within(
            generator.choice([0.02, 0.1, 0.2, 0.3, 0.5, 1.0]), num_trials=num_trials, maximum=maximum, design=1
        )
        curves = {
            f"t{index:02}": LearningCurve(
                [
                    (-math.inf,) if generator.random() < 0.02 else (round(generator.random(), 2),)
                    for _ in range(maximum)
                ],
                [10 ** generator.uniform(-2, 2)] * maximum,
            )
            for index in range(num_trials)
        }
        happened = simulate(curves, BudgetedAsha(schedule), workers=generator.randint(1, 8)).decisions
        digest.update(repr((schedule.rungs, schedule.places, [entry[1:] for entry in happened])).encode())
    assert digest.hexdigest() == FIRST_DESIGN
