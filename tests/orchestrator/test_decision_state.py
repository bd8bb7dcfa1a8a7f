"""The state that decisions rest on: kept in step with every event, it equals one that is rebuilt from zero."""

import math
import random
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.decisions.promotion import is_audited, next_promotion
from orchestrator.decisions.trial_views import DecisionState, brackets_for
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.scheduling.trial_views import TrialView, TrialViews
from orchestrator.state.event_log import EventLog
from orchestrator.state.event_store import EventStore
from orchestrator.state.events import (
    AttemptFailed,
    AttemptStarted,
    CheckpointSaved,
    EpochReported,
    RungDecided,
    SweepEnded,
    SweepStarted,
    TrialCreated,
    TrialEnded,
    TrialPromoted,
    decode,
    encode,
)
from orchestrator.state.ranking import Ranking
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import OVER, SweepState

naive = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("naive_schedulers.py"))))
SPEC = """
name: virtual
trial: {epochs: 9, optimizer.name: sgd}
space:
  use: [mixup]
  parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}
search: {num_trials: 12, seed: 3, sampler: random}
scheduler: {SCHEDULER}
"""
TWO_OBJECTIVES = "objective: [val/accuracy max, val/nll min]\n"
SWEEPS = {
    "budgeted": "grace_period: auto",
    "budgeted, audited": "grace_period: auto, budget_fraction: 0.5, audit: 0.5",
    "budgeted, two objectives": "grace_period: auto}\n" + TWO_OBJECTIVES + "budget: {wall_clock_s: null",
    "budgeted, stopping": "grace_period: auto, kind: stopping",
    "stopping": "grace_period: 1, kind: stopping, audit: 0.5",
    "promotion": "grace_period: 1, kind: promotion, audit: 0.3",
    "promotion, two objectives": "grace_period: 1, kind: promotion}\n" + TWO_OBJECTIVES + "budget: {wall_clock_s: null",
    "brackets": "grace_period: 1, kind: promotion, brackets: 3",
    "strata": "grace_period: 1, kind: promotion, strata: [mixup.alpha]",
    "gradient evaluations": "grace_period: 2, kind: promotion, resource: gradient_evaluations",
    "GPU seconds": "grace_period: 2, kind: stopping, resource: gpu_seconds",
    "hyperband": "name: hyperband, grace_period: 1, kind: promotion",
    "pasha": "name: pasha, grace_period: 1, audit: 0.2",
    "median": "name: median, grace_period: 1, audit: 0.5",
    "none": "name: none",
    "a budget of GPU seconds": "grace_period: 1, kind: promotion}\nbudget: {gpu_s: 40",
    "a target": "grace_period: 1, kind: promotion}\nbudget: {target: 0.9",
    "a time limit": "grace_period: 1, kind: promotion}\nbudget: {wall_clock_s: 30",
}


def of_every_sweep(function):
    return pytest.mark.parametrize("sweep", SWEEPS)(function)


def plan_of(sweep):
    folder = SweepFolder(Path("results") / "virtual")
    spec = parse_spec(SPEC.replace("SCHEDULER", SWEEPS[sweep]))
    return make_plan(spec, folder, slots=3, now=0.0, working_directory=Path())


class RandomEvents:
    """Events in any order that a log may have them: retries, resumes, audits and repeated reports among them."""

    def __init__(self, plan, seed):
        self._plan, self._random, self._now = plan, random.Random(seed), 0.0
        self._state, self._digits = SweepState(), self._random.choice([1, 9])
        self._alphas = self._random.choice([[0.0], [0.0, 0.2, 4.0]])

    def take(self, count):
        events = []
        while len(events) < count:
            event = self._random.choice(self._kinds)(self, self._trial())
            if event is not None:
                events.append(decode(encode(event)))
                self._state.apply(events[-1])
        return events

    def _trial(self):
        trials = list(self._state.trials.values())
        return self._random.choice([*trials[-4:], self._random.choice(trials)]) if trials else None

    def _head(self, trial=None):
        self._now += self._random.choice([0.0, 1.0] * 20 + [-60.0])  # the clock is set back now and then
        return {"time": self._now} if trial is None else {"time": self._now, "trial": trial.id}

    def _start(self, _):
        if self._state.generation and self._random.random() < 0.9:
            return None
        return SweepStarted(**self._head(), generation=self._state.generation + 1, host="here", pid=1)

    def _end(self, _):
        return SweepEnded(**self._head(), status="interrupted") if self._random.random() < 0.1 else None

    def _create(self, _):
        index = len(self._state.trials)
        if index >= self._plan.spec.search.num_trials:
            return None
        point = {"mixup.alpha": self._random.choice(self._alphas), "optimizer.lr": 0.1}
        config = {"epochs": self._random.choice([9, 9, 3]), **point}
        origin = "search" if index else "baseline"
        return TrialCreated(**self._head(), trial=f"t{index:03d}", origin=origin, point=point, config=config)

    def _begin(self, trial):
        return trial and AttemptStarted(**self._head(trial), attempt=trial.attempts + 1)

    def _fail(self, trial):
        if not trial or not trial.attempts:
            return None
        return AttemptFailed(**self._head(trial), attempt=trial.attempts, cause="preemption", reason="lost")

    def _report(self, trial):
        if not trial or trial.rejected_at is not None or trial.epoch == trial.budget:
            return None
        epoch = trial.epoch + 1 if self._random.random() < 0.8 else self._random.randint(1, trial.epoch + 1)
        metrics = {
            "val/accuracy": self._random.choice([round(self._random.random(), self._digits)] * 9 + [None]),
            "val/nll": round(self._random.random(), self._digits),
            "cost/gpu_s": self._random.choice([0.1, 2.0, 3.7, None]),
        }
        attempt, since = max(1, trial.attempts), self._random.randint(1, epoch)
        return EpochReported(**self._head(trial), attempt=attempt, epoch=epoch, since_restore=since, metrics=metrics)

    def _decide(self, trial):
        rungs = set(naive_values(self._plan, trial)) - set(trial.rungs) if trial else ()
        if not rungs or trial.blind_from is not None or trial.rejected_at is not None:
            return None
        kept, in_force = self._random.random() < 0.5, self._plan.rungs[: self._random.randint(1, 3)]
        audited = not kept and not self._plan.pauses and is_audited(self._plan, trial.id)
        decided = {"value": None, "cutoff": None, "competitors": 1, "kept": kept, "audited": audited}
        return RungDecided(**self._head(trial), rung=max(rungs), rungs=in_force, **decided)

    def _promote(self, trial):
        if not trial or trial.rejected_at is None or trial.status in OVER or not self._plan.pauses:
            return None
        return TrialPromoted(**self._head(trial), rung=trial.rejected_at, audited=self._random.random() < 0.2)

    def _save(self, trial):
        return trial and CheckpointSaved(**self._head(trial), epoch=trial.epoch, path=f"{trial.id}-{trial.epoch}")

    def _leave(self, trial):
        if not trial or trial.status in OVER:
            return None
        status = "paused" if self._plan.pauses else "stopped"
        if trial.rejected_at is None:
            status = self._random.choice(["interrupted", "interrupted", "completed", "diverged", "failed"])
        return TrialEnded(**self._head(trial), status=status, rung=trial.rejected_at)

    _kinds = (_start, _end, *[_create] * 2, *[_begin] * 2, _fail, *[_report] * 8, *[_decide] * 5, *[_promote] * 2)
    _kinds += (_save, *[_leave] * 2)


def naive_values(plan, trial):
    return DecisionState(plan, SimpleNamespace(trials={trial.id: trial})).views[trial.id].values


def naive_age(events, now):
    """The intervals since the first start, those in which the clock was set back left out."""
    times = [event.time for event in events]
    while events and events[0].kind != "sweep_started":
        events, times = events[1:], times[1:]
    return sum(max(0.0, later - earlier) for earlier, later in zip(times, [*times[1:], now], strict=False))


def naive_is_spent(plan, state, now, events):
    budget, objective = plan.spec.budget, plan.spec.objective
    scores = [trial.score(objective) for trial in state.trials.values()]
    if budget.wall_clock_s is not None:
        return naive_age(events, now) >= budget.wall_clock_s
    if budget.gpu_s is not None:
        costs = [e.get("cost/gpu_s") or 0.0 for trial in state.trials.values() for e in trial.epochs.values()]
        return math.fsum(costs) >= budget.gpu_s
    return budget.target is not None and any(score is not None and score >= budget.target for score in scores)


def check(decisions, trial, now, events):
    """The fold equals one that is rebuilt from zero, and answers as the naive schedulers and sums do."""
    plan, state, views = decisions.plan, decisions.state, dict(decisions.views)
    rebuilt = DecisionState(plan, state)
    assert list(views.items()) == list(rebuilt.views.items())
    assert [view.bracket for view in views.values()] == brackets_for(plan.scheduler, len(views), plan.max_epochs)
    assert decisions.views.is_quiet == rebuilt.views.is_quiet == naive.is_quiet(views)
    assert decisions.views.any_completed == rebuilt.views.any_completed == naive.any_completed(views)
    spent = naive_is_spent(plan, state, now, events)
    assert decisions.budget.is_spent(now=now) == rebuilt.budget.is_spent(now=now) == spent
    left = 0 if spent else plan.spec.search.num_trials - len(state.trials)
    assert decisions.budget.unstarted(now=now) == rebuilt.budget.unstarted(now=now) == left
    check_promotions(decisions, rebuilt, now)
    if trial in views:
        for level in filter(views[trial].competes_at, views[trial].values):
            expected = naive.decide(plan.scheduler, views, trial, level)
            assert plan.scheduler.decide(decisions.views, trial, level) == expected
            assert plan.scheduler.decide(rebuilt.views, trial, level) == expected


def check_promotions(decisions, rebuilt, now):
    plan, views = decisions.plan, dict(decisions.views)
    if not plan.pauses:
        assert next_promotion(decisions, now=now) is None
        return
    for unstarted in (0, 1, 5):
        expected = naive.promote(plan.scheduler, views, unstarted=unstarted)
        assert plan.scheduler.promote(decisions.views, unstarted=unstarted) == expected
        assert plan.scheduler.promote(rebuilt.views, unstarted=unstarted) == expected
    promotion = next_promotion(decisions, now=now)
    assert promotion == next_promotion(rebuilt, now=now)
    if promotion is not None and promotion.audited:
        paused = (trial for trial, view in views.items() if view.state == "paused" and is_audited(plan, trial))
        assert (promotion.trial, promotion.rung) == (first := next(paused), views[first].level)


def step_through(plan, events):
    decisions = DecisionState(plan, SweepState())
    for number, event in enumerate(events, start=1):
        decisions.state.apply(event)
        decisions.apply(event)
        check(decisions, getattr(event, "trial", None), event.time, events[:number])


@of_every_sweep
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_after_every_event_of_any_log_the_fold_equals_one_rebuilt_from_zero(sweep, seed):
    plan = plan_of(sweep)
    step_through(plan, RandomEvents(plan, seed).take(80))


@of_every_sweep
def test_after_every_event_of_a_whole_sweep_the_fold_equals_one_rebuilt_from_zero(virtual_sweep, sweep):
    def metrics(point, epoch):
        accuracy = math.nan if point["optimizer.lr"] > 0.9 else (1 - math.exp(-epoch / 3)) * point["optimizer.lr"]
        return {"val/accuracy": accuracy, "val/nll": 1 / epoch - accuracy}

    text = SPEC.replace("SCHEDULER", SWEEPS[sweep])
    swept = virtual_sweep(text, workers=3, metrics=metrics, seconds=lambda point: 1.0 + point["mixup.alpha"])
    step_through(swept.plan, swept.events)


def test_every_kind_of_event_is_among_the_random_ones():
    plan = plan_of("promotion")
    kinds = {event.kind for seed in range(20) for event in RandomEvents(plan, seed).take(120)}
    assert len(kinds) == 10


class Sealed(TrialViews):
    """Views that must not be read one after the other."""

    def __iter__(self):
        raise AssertionError("a decision read all views")


@pytest.mark.parametrize("sweep", ["budgeted", "stopping", "promotion", "hyperband", "median"])
def test_no_decision_reads_all_views_or_a_whole_ranking(sweep, monkeypatch):
    plan, state = plan_of(sweep), SweepState()
    decisions = DecisionState(plan, state)
    decisions.views = Sealed()
    monkeypatch.setattr(Ranking, "__iter__", Sealed.__iter__)
    for event in RandomEvents(plan, seed=0).take(200):
        state.apply(event)
        decisions.apply(event)
        next_promotion(decisions, now=event.time)
        for trial in state.trials.values():
            for level in filter(decisions.views[trial.id].competes_at, plan.rungs or range(1, 10)):
                plan.scheduler.decide(decisions.views, trial.id, level)


def test_a_view_that_is_replaced_keeps_its_place_in_the_order():
    views = TrialViews(TrialView(trial, 9) for trial in "ba")
    views.put(TrialView("b", 9, level=1, values={1: (0.5,)}))
    assert list(views) == ["b", "a"]
    assert views["b"].level == 1


def test_the_store_applies_an_event_to_the_state_then_to_folds_then_notifies(tmp_path):
    seen = []

    class Fold:
        def apply(self, event):
            seen.append((event.kind, state.num_events))

    state = SweepState()
    log = EventLog(tmp_path / "events.jsonl", generation=1)
    store = EventStore(log, state, folds=(Fold(),), listeners=(lambda _: seen.append(("listener", state.num_events)),))
    store.append(SweepStarted(time=0.0, generation=1, host="here", pid=1))
    store.close()
    assert seen == [("sweep_started", 1), ("listener", 1)]
