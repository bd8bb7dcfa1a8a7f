"""The samplers and the scheduler of the examples do what their docstrings say."""

import doctest
import importlib
import math
from pathlib import Path
from statistics import fmean

import pytest

from orchestrator.decisions.own_sampler import PastTrial
from orchestrator.scheduling.trial_views import TrialView, TrialViews
from search_spaces import Float, SearchSpace

SPACE = SearchSpace({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)})


@pytest.fixture(autouse=True)
def _examples(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "examples")


@pytest.mark.parametrize("name", ["halton", "percentile_halving"])
def test_the_examples_in_their_docstrings_run(name):
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_halton_puts_as_many_points_into_each_half_and_each_third():
    from halton import propose

    points = [propose(SPACE, index, skip=0) for index in range(36)]
    assert [sum(int(point["a"] * 2) == part for point in points) for part in range(2)] == [18, 18]
    assert [sum(int(point["b"] * 3 + 1e-9) == part for point in points) for part in range(3)] == [12, 12, 12]


def test_mutation_comes_nearer_to_an_optimum_than_random_points_do():
    from mutation import Mutation

    def nearest(sampler, seed):
        trials = []
        for index in range(60):
            point = sampler.propose(SPACE, trials, index, seed=1000 * seed + index)
            score = -math.dist(point.values(), (0.3, 0.8))
            trials.append(PastTrial(f"t{index:03}", "search", point, "completed", {1: (score,)}))
        return min(-trial.values[1][0] for trial in trials)

    mutated, sampled = (
        fmean(nearest(sampler, seed) for seed in range(20)) for sampler in (Mutation(spread=0.05), Mutation(random=60))
    )
    assert mutated < 0.5 * sampled


def test_a_trial_below_the_percentile_is_rejected_and_a_paused_one_is_promoted_when_it_has_moved():
    from percentile_halving import PercentileHalving

    scheduler = PercentileHalving(max_epochs=9, pauses=True, percentile=50)
    views = TrialViews(
        TrialView(f"t{index}", maximum=9, level=1, values={1: (value,)}) for index, value in enumerate((0.1, 0.5, 0.9))
    )
    assert [scheduler.decide(views, f"t{index}", 1).kept for index in range(3)] == [False, True, True]
    views.put(TrialView("t0", maximum=9, level=1, values={1: (0.1,)}, state="paused"))
    assert scheduler.promote(views, unstarted=5) is None
    for index in (3, 4, 5):
        views.put(TrialView(f"t{index}", maximum=9, level=1, values={1: (0.05,)}))
    assert scheduler.promote(views, unstarted=5) == "t0"
