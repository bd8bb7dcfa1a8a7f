"""PASHA: the ceiling rises with the doubt about who leads, and with nothing else."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from orchestrator.scheduling.pasha import Pasha
from orchestrator.scheduling.rung_decision import RungDecision
from orchestrator.scheduling.simulator import LearningCurve, simulate
from orchestrator.scheduling.trial_views import TrialView, TrialViews

SCHEDULER = Pasha(rungs=(1, 3, 9, 27), reduction_factor=3)


def constant(num_trials, maximum=81):
    """Curves that never cross."""
    return {f"t{index:02}": LearningCurve([(float(index),)] * maximum, [1.0] * maximum) for index in range(num_trials)}


def flipping(num_trials, maximum=81):
    """The two leaders change places on the way to rung 3, the next two on the way to rung 9: once each."""
    curves = constant(num_trials, maximum)
    for one, other, at in ((num_trials - 1, num_trials - 2, 3), (num_trials - 3, num_trials - 4, 9)):
        for index, instead in ((one, other), (other, one)):
            values = [(float(index),)] * (at - 1) + [(float(instead),)] * (maximum - at + 1)
            curves[f"t{index:02}"] = LearningCurve(values, [1.0] * maximum)
    return curves


def ceiling(out):
    return max(decision.rungs[-1] for view in out.views.values() for decision in view.decisions.values())


def at_the_ceiling(*measured):
    """Views with these values at each rung so far; all trials but the last one are paused at the last rung."""
    rungs = SCHEDULER.rungs[: len(measured)]
    views = {}
    for trial in measured[0]:
        values = {rung: (at[trial],) for rung, at in zip(rungs, measured, strict=True)}
        decisions = {rung: RungDecision(rung, kept=True, rungs=rungs) for rung in rungs[:-1]}
        views[trial] = TrialView(trial, 81, level=rungs[-1], values=values, decisions=decisions, state="paused")
    views[max(views)] = replace(views[max(views)], state="running")
    return TrialViews(views.values())


@pytest.mark.parametrize("workers", [1, 4])
def test_the_ceiling_stays_at_the_second_rung_while_the_ranking_holds(workers):
    out = simulate(constant(27), SCHEDULER, workers=workers)
    assert ceiling(out) == 3
    assert sorted(view.level for view in out.views.values())[-2:] == [3, 81]


@pytest.mark.parametrize("workers", [1, 4])
def test_the_ceiling_rises_to_the_last_rung_where_leaders_change_places_on_the_way_to_every_rung(workers):
    assert ceiling(simulate(flipping(81), SCHEDULER, workers=workers)) == 27


@pytest.mark.parametrize("curves", [constant(27), flipping(27)], ids=["stable", "flipping"])
def test_the_ceiling_rises_by_a_rung_at_a_time_and_never_falls(curves):
    class Noted(Pasha):
        def decide(self, views, trial, level):
            decision = super().decide(views, trial, level)
            if decision is not None:
                seen.append(decision.rungs)
            return decision

    seen = [SCHEDULER.rungs[:2]]
    simulate(curves, Noted(SCHEDULER.rungs, 3), workers=3)
    for before, after in pairwise(seen):
        assert after in {before, SCHEDULER.rungs[: len(before) + 1]}


@pytest.mark.parametrize("workers", [1, 4])
def test_the_best_at_the_ceiling_is_trained_to_its_end_and_no_other(workers):
    out = simulate(constant(27), SCHEDULER, workers=workers)
    assert list(out.completed_at) == ["t26"]


def test_none_is_promoted_beyond_the_ceiling_before_all_were_started_and_none_runs():
    views = at_the_ceiling({"a": 3.0, "b": 2.0}, {"a": 3.0, "b": 2.0})
    assert SCHEDULER.decide(views, "b", 3) == RungDecision(3, kept=False, competitors=2, rungs=(1, 3))
    assert SCHEDULER.promote(views, unstarted=0) is None
    views.put(replace(views["b"], state="paused"))
    assert SCHEDULER.promote(views, unstarted=1) is None
    assert SCHEDULER.promote(views, unstarted=0) == "a"


def test_the_ceiling_stays_where_none_has_changed_places():
    views = at_the_ceiling({"a": 3.0, "b": 2.0, "c": 1.0}, {"a": 0.9, "b": 0.8, "c": 0.7})
    assert SCHEDULER.decide(views, "c", 3).rungs == (1, 3)


def test_the_ceiling_rises_where_two_have_changed_places():
    views = at_the_ceiling({"a": 3.0, "b": 2.0, "c": 1.0}, {"a": 0.9, "b": 0.7, "c": 0.8})
    assert SCHEDULER.decide(views, "c", 3).rungs == (1, 3, 9)


def test_with_a_higher_ceiling_the_leader_is_kept_at_once():
    views = at_the_ceiling({"a": 3.0, "b": 2.0, "c": 1.0}, {"a": 0.7, "b": 0.8, "c": 0.9})
    assert SCHEDULER.decide(views, "c", 3) == RungDecision(3, kept=True, competitors=3, rungs=(1, 3, 9))


def test_places_changed_within_the_noise_do_not_raise_the_ceiling():
    """d and e cross and cross back and end 0.5 apart: so near to each other, places mean nothing."""
    first = {"a": 9.0, "b": 3.4, "c": 3.0, "d": 1.0, "e": 0.5}
    below = {"a": 9.0, "b": 3.4, "c": 3.0, "d": 0.5, "e": 1.0}
    top = {"a": 9.0, "b": 3.0, "c": 3.4, "d": 1.0, "e": 0.5}
    assert SCHEDULER.decide(at_the_ceiling(first, below, top), "e", 9).rungs == (1, 3, 9)
    assert SCHEDULER.decide(at_the_ceiling(below, below, top), "e", 9).rungs == (1, 3, 9, 27)


def test_places_changed_by_more_than_the_noise_raise_the_ceiling():
    first = {"a": 9.0, "b": 4.0, "c": 3.0, "d": 1.0, "e": 0.5}
    below = {"a": 9.0, "b": 4.0, "c": 3.0, "d": 0.5, "e": 1.0}
    top = {"a": 9.0, "b": 3.0, "c": 4.0, "d": 1.0, "e": 0.5}
    assert SCHEDULER.decide(at_the_ceiling(first, below, top), "e", 9).rungs == (1, 3, 9, 27)


@pytest.mark.parametrize(("gap", "rungs"), [(8.5, (1, 3, 9)), (9.5, (1, 3, 9, 27))])
def test_noise_is_the_ninetieth_percentile_of_the_pairs_that_crossed_back(gap, rungs):
    """Ten pairs cross and cross back and end 1 to 10 apart: noise is 9."""
    first, below, top = {"a": gap, "b": 0.0}, {"a": gap, "b": 0.0}, {"a": 0.0, "b": gap}
    for apart in range(1, 11):
        one, other, level = f"x{apart:02}", f"y{apart:02}", 1000.0 * apart
        first |= {one: level, other: level + apart}
        below |= {one: level, other: level - 0.1}
        top |= {one: level, other: level + apart}
    assert SCHEDULER.decide(at_the_ceiling(first, below, top), "y10", 9).rungs == rungs


def test_a_trial_that_diverged_at_the_ceiling_is_no_noise():
    first = {"a": 9.0, "b": 1.0, "c": 3.0, "d": 2.0}
    below = {"a": 9.0, "b": 2.5, "c": 3.0, "d": 2.0}
    top = {"a": 9.0, "b": -math.inf, "c": 2.0, "d": 3.0}
    assert SCHEDULER.decide(at_the_ceiling(first, below, top), "d", 9).rungs == (1, 3, 9, 27)


def test_where_the_leader_diverges_the_next_is_trained_to_its_end():
    for at in (5, 81):
        curves = constant(27)
        curves["t26"] = LearningCurve([(26.0,)] * (at - 1) + [(-math.inf,)] * (82 - at), [1.0] * 81)
        assert list(simulate(curves, SCHEDULER, workers=2).completed_at) == ["t25"], f"diverged at {at}"


def test_an_exempt_trial_runs_to_its_end_and_the_best_that_competes_as_well():
    curves = constant(27)
    curves["t00"] = LearningCurve([(0.0,)] * 81, [1.0] * 81, exempt=True)
    assert set(simulate(curves, SCHEDULER, workers=2).completed_at) == {"t00", "t26"}


@pytest.mark.parametrize("rungs", [(), (1,)])
def test_with_fewer_than_two_rungs_there_is_no_ceiling(rungs):
    out = simulate(constant(9, maximum=3), Pasha(rungs, 3), workers=2)
    assert len(out.completed_at) == (9 if not rungs else sum(view.level == 3 for view in out.views.values()))
    assert "t08" in out.completed_at
