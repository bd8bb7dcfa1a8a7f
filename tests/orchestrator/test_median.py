"""The median stopping rule, as Google Vizier's paper has it."""

import math
import random
from dataclasses import replace
from statistics import fmean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.scheduling.median import Median
from orchestrator.scheduling.simulator import LearningCurve, simulate
from orchestrator.scheduling.trial_views import TrialView, TrialViews


def views(**curves):
    """Views of trials as far as their curves go."""
    return TrialViews(
        TrialView(trial, maximum=9, level=len(curve), values={at: (v,) for at, v in enumerate(curve, start=1)})
        for trial, curve in curves.items()
    )


CURVES = st.lists(st.lists(st.floats(-9, 9), min_size=4, max_size=4), min_size=4, max_size=9)


@given(CURVES, st.integers(1, 4))
def test_the_cutoff_is_the_median_of_the_others_averages_so_far(curves, level):
    trials = {f"t{index}": curve for index, curve in enumerate(curves)}
    decision = Median(grace_period=1).decide(views(**trials), "t0", level)
    expected = median(fmean(curve[:level]) for trial, curve in trials.items() if trial != "t0")
    assert decision.cutoff == (expected,)
    assert decision.kept == (max(curves[0][:level]) >= expected)
    assert decision.competitors == len(curves)


def test_a_trial_is_compared_by_the_best_it_has_measured_not_by_the_last():
    others = {"a": [0.5, 0.5], "b": [0.5, 0.5], "c": [0.5, 0.5]}
    assert Median(1).decide(views(d=[0.6, 0.0], **others), "d", 2).kept
    assert not Median(1).decide(views(d=[0.4, 0.4], **others), "d", 2).kept


def test_a_trial_on_the_median_is_kept():
    assert Median(1).decide(views(a=[0.4], b=[0.5], c=[0.6], d=[0.5]), "d", 1).kept


def test_what_other_trials_measure_later_is_not_held_against_a_trial():
    assert Median(1).decide(views(a=[0.4, 9.0], b=[0.4, 9.0], c=[0.4, 9.0], d=[0.5]), "d", 1).kept


def test_none_is_stopped_within_the_grace_period():
    trials = views(a=[0.5] * 3, b=[0.5] * 3, c=[0.5] * 3, d=[0.0] * 3)
    assert [Median(3).decide(trials, "d", level) for level in (1, 2)] == [None, None]
    assert not Median(3).decide(trials, "d", 3).kept


def test_none_is_stopped_before_enough_other_trials_have_come_as_far():
    trials = views(a=[0.5, 0.5], b=[0.5, 0.5], c=[0.5], d=[0.0, 0.0])
    assert not Median(1).decide(trials, "d", 1).kept
    assert Median(1).decide(trials, "d", 2) is None
    assert not Median(1, min_competitors=2).decide(trials, "d", 2).kept


def test_a_diverged_trial_counts_as_the_worst():
    trials = views(a=[0.5, -math.inf], b=[0.5, 0.5], c=[0.5, -math.inf], d=[0.1, 0.1])
    decision = Median(1).decide(trials, "d", 2)
    assert decision.cutoff is None
    assert decision.kept


def test_trials_of_other_groups_are_no_competitors():
    trials = views(a=[0.5], b=[0.5], c=[0.5], d=[0.0])
    trials.put(replace(trials["d"], stratum="adversarial"))
    assert Median(1).decide(trials, "d", 1) is None


def test_an_exempt_trial_is_kept_whatever_the_median():
    trials = views(a=[0.5], b=[0.5], c=[0.5], d=[0.0])
    trials.put(replace(trials["d"], exempt=True))
    assert Median(1).decide(trials, "d", 1).kept


@pytest.mark.parametrize("workers", [1, 4])
def test_more_than_half_of_the_trials_are_stopped_and_the_best_is_not(workers):
    generator = random.Random(0)
    levels = [generator.random() for _ in range(64)]
    curves = {f"t{index:02}": LearningCurve([(level,)] * 9, [1.0] * 9) for index, level in enumerate(levels)}
    out = simulate(curves, Median(1), workers=workers)
    assert f"t{levels.index(max(levels)):02}" in out.completed_at
    assert len(out.completed_at) < 32
