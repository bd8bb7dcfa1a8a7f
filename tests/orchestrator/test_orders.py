"""Orders: a sweep that is changed while it runs, or after it ended, decides as its log says, once and only once."""

import math
import random
from itertools import count
from types import SimpleNamespace

import pytest

from orchestrator.analysis.replay import replay
from orchestrator.decisions.trial_views import DecisionState
from orchestrator.orders.answers import answer
from orchestrator.orders.order import Order
from orchestrator.planning.changes.extension import extended, in_force
from orchestrator.state.event_log import EventLog
from orchestrator.state.event_store import EventStore
from orchestrator.state.events import (
    AttemptFailed,
    AttemptStarted,
    EpochReported,
    OrderAccepted,
    OrderRefused,
    RungDecided,
    SweepStarted,
    TrialCreated,
    TrialEnded,
    TrialReopened,
    decode,
    encode,
)
from orchestrator.state.sweep_state import OVER, SweepState

SPEC = """
name: virtual
trial: {epochs: EPOCHS, optimizer.name: sgd}
space:
  use: [mixup]
  parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}
search: {num_trials: TRIALS, seed: 3, sampler: SAMPLER}
scheduler: {SCHEDULER}
"""
EXTENDABLE = [
    "grace_period: auto",
    "grace_period: auto, budget_fraction: 0.5, audit: 0.5",
    "grace_period: auto, kind: stopping",
    "grace_period: 1, kind: stopping",
    "grace_period: 1, kind: stopping, audit: 0.5",
    "grace_period: 1, kind: promotion",
    "grace_period: 1, kind: promotion, strata: [mixup.alpha]",
    "grace_period: 2, kind: promotion, resource: gradient_evaluations",
    "grace_period: 2, kind: stopping, resource: gpu_seconds",
    "name: median",
    "name: none",
]
ONLY_TRIALS = [
    "grace_period: 1, kind: promotion, brackets: 3",
    "name: hyperband, grace_period: 1",
    "name: pasha, grace_period: 1, audit: 0.2",
]
IDS = count(1)
POINT = {"mixup.alpha": 0.0, "optimizer.lr": 0.1}


def spec_of(scheduler, *, sampler="random", trials=9, epochs=9):
    text = SPEC.replace("SCHEDULER", scheduler).replace("SAMPLER", sampler)
    return text.replace("TRIALS", str(trials)).replace("EPOCHS", str(epochs))


def order(action="extend", **fields):
    return Order(id=f"{next(IDS):032x}", time=0.0, author="ada@here", action=action, **fields)


def more(trials=None, epochs=None, **fields):
    settings = [] if epochs is None else [f"trial.epochs={epochs}"]
    return order(more_trials=trials, settings=settings, **fields)


def by_alpha(point):
    return 1.0 + point["mixup.alpha"]


def ends(sweep):
    """The last epoch and the status of each trial, and its decisions."""
    return {
        name: (trial.epoch, trial.status, {rung: decided.kept for rung, decided in sorted(trial.rungs.items())})
        for name, trial in sweep.state.trials.items()
    }


def of_kind(sweep, kind):
    return [event for event in sweep.events if isinstance(event, kind)]


@pytest.mark.parametrize("sampler", ["random", "tpe", "auto"])
@pytest.mark.parametrize(
    "scheduler", ["grace_period: 1, kind: stopping", "name: median, grace_period: 1", "name: none"]
)
def test_more_trials_after_the_end_equal_a_sweep_that_had_them_from_the_start(virtual_sweep, scheduler, sampler):
    longer = virtual_sweep(spec_of(scheduler, sampler=sampler, trials=14), workers=1)
    sweep = virtual_sweep(spec_of(scheduler, sampler=sampler), workers=1).run((0.0, more(5)), generation=2)
    assert {name: trial.point for name, trial in sweep.state.trials.items()} == {
        name: trial.point for name, trial in longer.state.trials.items()
    }
    assert ends(sweep) == ends(longer)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "scheduler",
    [
        "grace_period: 1, kind: stopping",
        "grace_period: 3, kind: stopping, audit: 0.3",
        "name: median, grace_period: 2",
        "name: none",
    ],
)
def test_more_epochs_after_the_end_equal_a_sweep_that_had_them_from_the_start(virtual_sweep, scheduler, seed):
    rng = random.Random(seed)
    jumps = [[rng.uniform(-0.1, 0.1) for _ in range(27)] for _ in range(100)]

    def metrics(point, epoch):
        learned = 0.8 - abs(math.log10(point["optimizer.lr"] / 0.03)) / 10
        return {"val/accuracy": learned + jumps[int(point["optimizer.lr"] * 99)][epoch - 1]}

    longer = virtual_sweep(spec_of(scheduler, trials=20, epochs=27), workers=1, metrics=metrics)
    sweep = virtual_sweep(spec_of(scheduler, trials=20), workers=1, metrics=metrics)
    sweep.run((0.0, more(epochs=27)), generation=2)
    assert ends(sweep) == ends(longer)
    assert {trial.budget for trial in sweep.state.with_status("completed")} == {27}
    if scheduler.startswith("grace_period"):
        assert any(not event.kept for event in of_kind(sweep, RungDecided) if event.rung == 9)


@pytest.mark.parametrize("sampler", ["random", "tpe", "auto", "cmaes", "grid", "qmc"])
def test_an_order_to_a_running_sweep_equals_one_that_had_the_larger_number_from_the_start(virtual_sweep, sampler):
    scheduler = "grace_period: 1, kind: stopping"
    longer = virtual_sweep(spec_of(scheduler, sampler=sampler, trials=14), workers=3, seconds=by_alpha)
    text = spec_of(scheduler, sampler=sampler)
    sweep = virtual_sweep(text, workers=3, seconds=by_alpha, orders=[(3.5, more(5))])
    assert ends(sweep) == ends(longer)


@pytest.mark.parametrize("scheduler", [*EXTENDABLE, *ONLY_TRIALS])
@pytest.mark.parametrize("when", ["while it runs", "after its end"])
def test_an_extended_sweep_replays_bit_for_bit_and_every_trial_ends(virtual_sweep, scheduler, when):
    epochs = None if scheduler in ONLY_TRIALS else 27
    wish = more(4, epochs)
    text = spec_of(scheduler, sampler="tpe")
    if when == "after its end":
        sweep = virtual_sweep(text, workers=3, seconds=by_alpha).run((0.0, wish), generation=2)
    else:
        sweep = virtual_sweep(text, workers=3, seconds=by_alpha, orders=[(5.5, wish)])
    assert not of_kind(sweep, OrderRefused)
    assert len(sweep.state.trials) == 13
    assert {trial.status for trial in sweep.state.trials.values()} <= OVER
    assert sweep.state.trials["t000"].epoch == (epochs or 9)
    events = [decode(encode(event)) for event in sweep.events]
    found = replay(sweep.plan, events)
    assert found.differences == ()
    assert found.counts["trial_created"] == 13
    assert replay(sweep.plan.launched, events) == found


@pytest.mark.parametrize("scheduler", EXTENDABLE)
def test_the_views_that_decisions_read_are_those_that_are_made_from_zero(virtual_sweep, scheduler):
    orders = [(6.5, more(epochs=15)), (11.5, more(3)), (20.5, more(2, 27))]
    sweep = virtual_sweep(spec_of(scheduler), workers=2, seconds=by_alpha, orders=orders)
    launched = sweep.plan.launched
    state = SweepState()
    kept = DecisionState(launched, state)
    for event in sweep.events:
        state.apply(event)
        kept.apply(event)
        if isinstance(event, OrderAccepted | TrialReopened | RungDecided):
            made = DecisionState(in_force(launched, SweepState(state_events(sweep, event))), state)
            assert dict(kept.views) == dict(made.views)
            assert (kept.plan.spec, kept.plan.rungs, kept.plan.rung_schedule) == (
                made.plan.spec,
                made.plan.rungs,
                made.plan.rung_schedule,
            )


def state_events(sweep, last):
    return sweep.events[: next(i for i, event in enumerate(sweep.events) if event is last) + 1]


def test_rungs_stay_and_continue_with_the_epochs(virtual_sweep):
    sweep = virtual_sweep(spec_of("grace_period: 1, kind: stopping", epochs=27))
    assert sweep.plan.rungs == (1, 3, 9)
    sweep.run((0.0, more(epochs=81)), generation=2)
    assert (sweep.plan.rungs, sweep.plan.max_epochs) == ((1, 3, 9, 27), 81)
    (accepted,) = of_kind(sweep, OrderAccepted)
    assert "rungs: 1, 3, 9 stay, 27 are new" in accepted.notes


def test_a_budget_is_computed_once_more_and_its_rungs_stay(virtual_sweep):
    sweep = virtual_sweep(spec_of("grace_period: auto", trials=14))
    before = sweep.plan.rung_schedule
    sweep.run((0.0, more(14)), generation=2)
    after = sweep.plan.rung_schedule
    assert after.rungs == before.rungs
    assert (after.num_trials, after.budget) == (27, pytest.approx((0.3 * 28 - 1) * 9))
    assert all(new >= old for new, old in zip(after.places, before.places, strict=True))
    assert after.places > before.places
    searched = [trial for trial in sweep.state.trials.values() if trial.origin != "baseline"]
    assert sum(trial.epoch for trial in searched) <= after.budget


def test_trials_that_were_paused_at_the_end_may_be_promoted_after_an_extension(virtual_sweep):
    sweep = virtual_sweep(spec_of("grace_period: auto", trials=14))
    stopped = {trial.id for trial in sweep.state.with_status("stopped")}
    sweep.run((0.0, order(settings=["scheduler.budget_fraction=0.9"])), generation=2)
    reopened = of_kind(sweep, TrialReopened)
    assert {event.trial for event in reopened} == stopped
    assert all(event.rung is not None for event in reopened)
    assert any(sweep.state.trials[name].status == "completed" for name in stopped)


def test_the_plan_of_the_launch_stays_as_it_was(virtual_sweep):
    sweep = virtual_sweep(spec_of("grace_period: auto"))
    sealed = sweep.plan.model_dump_json()
    sweep.run((0.0, more(3, 27)), generation=2)
    assert sweep.plan.launched.model_dump_json() == sealed
    (accepted,) = of_kind(sweep, OrderAccepted)
    assert extended(extended(sweep.plan.launched, accepted), accepted) == sweep.plan


def test_an_added_point_runs_before_the_samplers_next_one(virtual_sweep):
    point = {"optimizer.lr": 0.25, "mixup.alpha": 1.0}
    for sampler in ("grid", "random"):
        plain = virtual_sweep(spec_of("name: none", sampler=sampler), workers=1)
        text = spec_of("name: none", sampler=sampler)
        sweep = virtual_sweep(text, workers=1, orders=[(20.5, order(points=[point]))])
        created = list(sweep.state.trials.values())
        at = next(i for i, trial in enumerate(created) if trial.origin == "point")
        assert 1 < at < len(created) - 1
        assert created[at].point.items() >= point.items()
        assert len(created) == 10
        if sampler == "grid":
            rest = [trial.point for trial in created if trial.origin != "point"]
            assert rest == [trial.point for trial in plain.state.trials.values()]


def test_a_stopped_trial_frees_its_slot_and_counts_at_the_rungs_it_passed(virtual_sweep):
    text = spec_of("grace_period: 1, kind: stopping")
    sweep = virtual_sweep(text, workers=2, orders=[(4.5, order("stop", trials=["t000"]))])
    trial = sweep.state.trials["t000"]
    assert (trial.status, trial.end.reason, trial.end.rung) == ("stopped", "ordered by ada@here", None)
    assert trial.epoch == 4
    assert len(sweep.state.trials) == 9
    competitors = [event.competitors for event in of_kind(sweep, RungDecided) if event.rung == 3]
    assert max(competitors) == len(competitors)
    assert replay(sweep.plan, sweep.events).differences == ()


@pytest.mark.parametrize("scheduler", EXTENDABLE)
def test_stops_and_extensions_in_any_order_leave_a_sweep_that_replays(virtual_sweep, scheduler):
    orders = [
        (2.5, order("stop", trials=["t001"])),
        (5.5, more(3)),
        (7.5, order("stop", trials=["t000", "t003"])),
        (12.5, more(epochs=12)),
    ]
    sweep = virtual_sweep(spec_of(scheduler), workers=3, seconds=by_alpha, orders=orders)
    answers = [*of_kind(sweep, OrderAccepted), *of_kind(sweep, OrderRefused)]
    assert sorted(event.order for event in answers) == [each.id for _, each in orders]
    assert {trial.status for trial in sweep.state.trials.values()} <= OVER
    assert replay(sweep.plan, [decode(encode(event)) for event in sweep.events]).differences == ()


def test_a_failed_trial_gets_its_retries_once_more():
    state = SweepState([TrialCreated(time=0.0, trial="t000", origin="baseline", point={}, config={"epochs": 3})])
    for attempt in (1, 2):
        state.apply(AttemptStarted(time=0.0, trial="t000", attempt=attempt))
        state.apply(AttemptFailed(time=0.0, trial="t000", attempt=attempt, cause="infrastructure", reason="lost"))
    state.apply(TrialEnded(time=0.0, trial="t000", status="failed", cause="infrastructure"))
    state.apply(OrderAccepted(time=1.0, order="a", action="extend", author="ada@here", trials=["t000"]))
    assert (state.trials["t000"].status, list(state.to_reopen)) == ("failed", ["t000"])
    state.apply(TrialReopened(time=1.0, order="a", trial="t000"))
    assert (state.trials["t000"].status, list(state.to_reopen)) == ("waiting", [])
    assert state.trials["t000"].failures_of("infrastructure") == 0


def tune_trial(name, *, epochs):
    return SimpleNamespace(config={"ravel.trial": name, "epochs": epochs})


@pytest.mark.parametrize(("value", "end"), [(0.9, "interrupted"), (0.1, "stopped")])
def test_a_running_trial_that_was_extended_meets_the_rung_at_its_old_end_and_is_queued(
    virtual_sweep, tmp_path, value, end
):
    """The worker trains the 9 epochs that it was started with; another trial waits at 9 with 0.5."""
    from orchestrator.execution.tune.callback import TrialRecorder

    plan = virtual_sweep(spec_of("grace_period: 9, kind: stopping"), workers=1).plan
    state = SweepState()
    decisions = DecisionState(plan, state)
    store = EventStore(EventLog(tmp_path / "events.jsonl"), state, folds=(decisions,))
    store.append(SweepStarted(time=0.0, generation=1, host="here", pid=1))
    for name, last in (("t001", 0.5), ("t002", value)):
        store.append(TrialCreated(time=0.0, trial=name, origin="search", point=POINT, config={**POINT, "epochs": 9}))
        store.append(AttemptStarted(time=0.0, trial=name, attempt=1))
        for epoch in range(1, 9):
            store.append(epoch_of(name, epoch, last))
    freed = []
    searcher = SimpleNamespace(over=lambda name, retry=False: freed.append((name, retry)))
    recorder = TrialRecorder(decisions, store, searcher, storage_path="/s", clock=lambda: 1.0)
    store.append(answer(more(epochs=81), decisions, has_checkpoint=lambda _: True, now=1.0))
    assert (state.trials["t002"].budget, decisions.plan.rungs) == (81, (9, 27))
    for name, last in (("t001", 0.5), ("t002", value)):
        store.append(epoch_of(name, 9, last))
        recorder.on_trial_complete(0, [], tune_trial(name, epochs=9))
    store.close()
    assert {name: trial.status for name, trial in state.trials.items()} == {"t001": "interrupted", "t002": end}
    assert freed == [("t001", True), ("t002", end == "interrupted")]
    assert [(trial.rungs[9].kept, trial.rungs[9].competitors) for trial in state.trials.values()] == [
        (True, 1),
        (end == "interrupted", 2),
    ]


def epoch_of(trial, epoch, value):
    metrics = {"val/accuracy": value}
    return EpochReported(time=0.0, trial=trial, attempt=1, epoch=epoch, since_restore=epoch, metrics=metrics)


def test_trials_are_handed_out_up_to_the_number_at_a_time_that_the_last_order_gave(virtual_sweep, tmp_path):
    """Eight CPUs are free; ``resources.max_concurrent`` goes from 3 to 1, to 2, and away."""
    from orchestrator.execution.cluster.capacity import Capacity, Node
    from orchestrator.execution.tune.cluster import ClusterView, ClusterWatch
    from orchestrator.execution.tune.searcher import LogSearcher

    text = spec_of("name: none", trials=40) + "resources: {cpus: 1, max_concurrent: 3}\n"
    decisions = DecisionState(virtual_sweep(text, workers=1).plan.launched, SweepState())
    store = EventStore(EventLog(tmp_path / "events.jsonl"), decisions.state, folds=(decisions,))
    store.append(SweepStarted(time=0.0, generation=1, host="here", pid=1))
    room = Capacity((Node(cpus=8, gpus=0),))
    watch = ClusterWatch(lambda: decisions.plan.spec.resources, 0.0, lambda: ClusterView(capacity=room, free=room))
    searcher = LogSearcher(decisions, store, limit=lambda: watch.limit, device="cpu", checkpoint_of=lambda _: None)
    running = []

    def fill():
        while (config := searcher.suggest("any")) is not None:
            running.append(config["ravel.trial"])
        return len(running)

    def end_one():
        searcher.over(running.pop(0))

    counts = [fill()]
    for value, ends in (("1", 3), ("2", 1), ("null", 1)):
        setting = order(settings=[f"resources.max_concurrent={value}"])
        store.append(answer(setting, decisions, has_checkpoint=lambda _: True, now=1.0))
        counts.append(fill())
        for _ in range(ends):
            end_one()
            counts.append(fill())
    store.close()
    assert counts == [3, 3, 2, 1, 1, 2, 2, 9, 9]
