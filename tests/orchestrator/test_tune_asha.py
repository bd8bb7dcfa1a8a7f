"""Why Tune's own ASHA does not decide here: what it does where ours reads the record. No Ray is started."""

import inspect
import math
from types import SimpleNamespace

import pytest

from orchestrator.scheduling.asha import Asha, placement
from orchestrator.scheduling.trial_views import TrialView, TrialViews
from orchestrator.state.ranking import Ranking, measured

RUNGS, FACTOR, MAXIMUM = (1, 3), 3, 9
SCHEDULER = Asha((RUNGS,), FACTOR)
TRIALS = {name: SimpleNamespace(trial_id=name) for name in "abcdef"}


def scheduler(*, knows):
    """Tune's scheduler with our rungs, after it was told of some trials: all that a restored sweep tells it."""
    from ray.tune.schedulers import AsyncHyperBandScheduler

    found = AsyncHyperBandScheduler(
        "epoch", metric="score", mode="max", max_t=MAXIMUM, grace_period=1, reduction_factor=FACTOR
    )
    for name in knows:
        found.on_trial_add(None, TRIALS[name])
    return found


def report(tune, name, epoch, score):
    return tune.on_trial_result(None, TRIALS[name], {"epoch": epoch, "score": score})


def recorded(tune):
    """What Tune compares with at each rung."""
    return {rung: dict(values) for rung, values in tune._brackets[0]._rungs}


def views(record):
    """Our views, from the plain record of a sweep: (trial, epoch, score)."""
    trials = TrialViews()
    for name, epoch, score in record:
        values = {**trials[name].values} if name in trials else {}
        trials.put(TrialView(name, MAXIMUM, level=epoch, values={**values, epoch: measured([score], ["max"])}))
    return trials


FIRST = [("a", 1, 0.9), ("b", 1, 0.8), ("c", 1, 0.7), ("d", 1, 0.6)]


def test_both_stop_a_poor_trial_in_a_sweep_that_was_never_interrupted():
    tune = scheduler(knows="abcde")
    for name, epoch, score in FIRST:
        report(tune, name, epoch, score)
    assert report(tune, "e", 1, 0.1) == "STOP"
    assert not SCHEDULER.decide(views([*FIRST, ("e", 1, 0.1)]), "e", 1).kept


def test_after_a_restart_tune_keeps_a_trial_that_it_would_have_stopped():
    before = scheduler(knows="abcd")
    for name, epoch, score in FIRST:
        report(before, name, epoch, score)
    restored = scheduler(knows="abcde")
    assert recorded(before)[1]
    assert not any(recorded(restored).values())
    assert report(restored, "e", 1, 0.1) == "CONTINUE"


def test_after_a_restart_ours_decides_from_the_record_as_before():
    record = [*FIRST, ("e", 1, 0.1)]
    uninterrupted, rebuilt = views(record), views(list(record))
    decision = SCHEDULER.decide(rebuilt, "e", 1)
    assert decision == SCHEDULER.decide(uninterrupted, "e", 1)
    assert (decision.kept, decision.cutoff, decision.competitors) == (False, (0.9,), 5)


def test_tune_neither_saves_nor_restores_its_scheduler():
    from ray.tune.execution import tune_controller

    source = inspect.getsource(tune_controller)
    assert "_scheduler_alg.on_trial_add" in source
    assert "_scheduler_alg.save" not in source
    assert "_scheduler_alg.restore" not in source


def test_tune_records_what_a_restored_trial_measures_later_at_the_rungs_it_has_long_passed():
    restored = scheduler(knows="ab")
    report(restored, "a", 5, 0.85)
    assert recorded(restored) == {9: {}, 3: {"a": 0.85}, 1: {}}
    report(restored, "a", 6, 0.9)
    assert recorded(restored) == {9: {}, 3: {"a": 0.85}, 1: {"a": 0.9}}


def test_so_tune_stops_a_new_trial_that_learns_faster_than_the_restored_one_did():
    """a measured 0.2 at epoch 1; b measures 0.4 there, and is held against what a measures at epoch 6."""
    restored = scheduler(knows="ab")
    report(restored, "a", 5, 0.85)
    report(restored, "a", 6, 0.9)
    assert report(restored, "b", 1, 0.4) == "STOP"
    record = [("a", 1, 0.2), ("a", 3, 0.6), ("a", 5, 0.85), ("a", 6, 0.9), ("b", 1, 0.4)]
    assert SCHEDULER.decide(views(record), "b", 1).kept


@pytest.mark.parametrize("score", [math.nan, -math.inf])
def test_ours_never_keeps_what_is_not_finite(score):
    assert not SCHEDULER.decide(views([*FIRST, ("e", 1, score)]), "e", 1).kept
    assert not placement(Ranking({"e": measured([score], ["max"])}), "e", reduction_factor=FACTOR).kept


def test_tune_never_stops_a_trial_that_measures_nan():
    tune = scheduler(knows="abcde")
    for name, epoch, score in FIRST:
        report(tune, name, epoch, score)
    assert [report(tune, "e", epoch, math.nan) for epoch in (1, 2, 3)] == ["CONTINUE"] * 3
    assert math.isnan(recorded(tune)[1]["e"])


def test_tune_keeps_a_trial_that_measures_positive_infinity():
    tune = scheduler(knows="abcde")
    for name, epoch, score in FIRST:
        report(tune, name, epoch, score)
    assert report(tune, "e", 1, math.inf) == "CONTINUE"
    assert not SCHEDULER.decide(views([*FIRST, ("e", 1, math.inf)]), "e", 1).kept
