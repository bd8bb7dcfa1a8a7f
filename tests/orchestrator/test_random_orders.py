"""Random sweeps under random orders: equal to the longer sweep where they must be, and lossless everywhere."""

import math
import random
from itertools import count

import pytest

from orchestrator.analysis.replay import replay
from orchestrator.decisions.trial_views import DecisionState
from orchestrator.orders.answers import answer
from orchestrator.orders.order import Order
from orchestrator.planning.changes.extension import in_force
from orchestrator.state.events import EpochReported, OrderAccepted, OrderRefused, TrialReopened, decode, encode
from orchestrator.state.sweep_state import OVER, SweepState

SPEC = """
name: virtual
trial: {{epochs: {epochs}, optimizer.name: sgd}}
space: {{use: [mixup], parameters: {{optimizer.lr: {{float: [1.0e-3, 1.0], log: true}}}}}}
search: {{num_trials: {trials}, seed: {seed}, sampler: {sampler}}}
scheduler: {{{scheduler}}}
"""
POINT = {"mixup.alpha": 1.0, "optimizer.lr": 0.25}
EQUAL = ["asha", "audited asha", "median", "none"]
ANY = [
    *EQUAL,
    "grace_period: auto",
    "grace_period: auto, budget_fraction: 0.5, audit: 0.5",
    "grace_period: 1, kind: promotion",
    "grace_period: 1, kind: promotion, brackets: 3",
    "grace_period: 1, kind: promotion, strata: [mixup.alpha]",
    "grace_period: 2, kind: stopping, resource: gpu_seconds",
    "name: hyperband, grace_period: 1",
    "name: pasha, grace_period: 1, audit: 0.2",
    "name: median",
]
IDS = count(1)


def order(action="extend", **fields):
    return Order(id=f"{next(IDS):032x}", time=0.0, author="ada@here", action=action, **fields)


def scheduler_of(kind, rng):
    factor, grace = rng.choice([2, 3, 4]), rng.randint(1, 4)
    asha = f"grace_period: {grace}, reduction_factor: {factor}, kind: stopping"
    made = {
        "asha": asha,
        "audited asha": f"{asha}, audit: 0.3",
        "median": f"name: median, grace_period: {grace}",
        "none": "name: none",
    }
    return made.get(kind, kind)


def curves(rng):
    """Learning curves that cross each other; a point's own are the same in every sweep."""
    jumps = [[rng.uniform(-0.15, 0.15) for _ in range(100)] for _ in range(100)]

    def metrics(point, epoch):
        learned = 0.8 - abs(math.log10(point["optimizer.lr"] / 0.03)) / 10
        return {"val/accuracy": learned + jumps[int(point["optimizer.lr"] * 99)][epoch]}

    return metrics


def spec_of(kind, rng, **numbers):
    return SPEC.format(
        **{"sampler": "random", "seed": rng.randrange(100), **numbers}, scheduler=scheduler_of(kind, rng)
    )


def ends(sweep):
    """The point, the last epoch and the status of each trial, and its decisions."""
    return {
        name: (
            trial.point,
            trial.epoch,
            trial.status,
            {
                rung: (decided.kept, decided.cutoff, decided.competitors)
                for rung, decided in sorted(trial.rungs.items())
            },
        )
        for name, trial in sweep.state.trials.items()
    }


def steps_to(rng, *, trials, epochs, to_trials, to_epochs):
    """Orders that lead from the smaller numbers to the larger ones in one to three steps."""
    orders = []
    while (trials, epochs) != (to_trials, to_epochs):
        is_last = len(orders) == 2
        more = to_trials - trials if is_last else rng.randint(0, to_trials - trials)
        longer = to_epochs if is_last else rng.randint(epochs, to_epochs)
        if more or longer > epochs:
            setting = [f"trial.epochs={longer}"] if longer > epochs else []
            orders.append(order(more_trials=more or None, settings=setting))
        trials, epochs = trials + more, longer
    return orders


@pytest.mark.parametrize("kind", EQUAL)
@pytest.mark.parametrize("seed", range(10))
def test_extensions_of_a_finished_sweep_equal_one_that_had_the_larger_numbers_from_the_start(virtual_sweep, kind, seed):
    rng = random.Random(f"{kind} {seed}")
    trials, epochs, to_trials, to_epochs = (
        rng.randint(2, 10),
        rng.randint(4, 12),
        rng.randint(10, 18),
        rng.randint(12, 40),
    )
    shared = rng.random()
    metrics = curves(rng)

    def spec(**numbers):
        return spec_of(kind, random.Random(shared), **numbers)

    longer = virtual_sweep(spec(trials=to_trials, epochs=to_epochs), workers=1, metrics=metrics)
    sweep = virtual_sweep(spec(trials=trials, epochs=epochs), workers=1, metrics=metrics)
    steps = steps_to(rng, trials=trials, epochs=epochs, to_trials=to_trials, to_epochs=to_epochs)
    for generation, step in enumerate(steps, start=2):
        sweep.run((0.0, step), generation=generation)
    assert not refusals(sweep)
    assert ends(sweep) == ends(longer)
    assert replay(sweep.plan, sweep.events).differences == ()


@pytest.mark.parametrize("kind", EQUAL)
@pytest.mark.parametrize("seed", range(10))
def test_extensions_of_a_running_sweep_equal_it_with_several_trials_at_a_time(virtual_sweep, kind, seed):
    """The orders come before a trial has ended at its last epoch, and before the last trial was proposed."""
    rng = random.Random(f"{kind} {seed}")
    shared, metrics, workers = rng.random(), curves(rng), rng.randint(2, 5)
    epochs, to_epochs = rng.randint(5, 12), rng.randint(12, 40)
    trials, to_trials = workers + rng.randint(1, 5), workers + rng.randint(6, 12)

    def spec(**numbers):
        return spec_of(kind, random.Random(shared), **numbers)

    def seconds(point):
        return 1.0 + point["mixup.alpha"] / 7

    longer = virtual_sweep(spec(trials=to_trials, epochs=to_epochs), workers=workers, metrics=metrics, seconds=seconds)
    steps = steps_to(rng, trials=trials, epochs=epochs, to_trials=to_trials, to_epochs=to_epochs)
    orders = [(0.1 * number, step) for number, step in enumerate(steps, start=1)]
    sweep = virtual_sweep(
        spec(trials=trials, epochs=epochs), workers=workers, metrics=metrics, seconds=seconds, orders=orders
    )
    assert not refusals(sweep)
    assert ends(sweep) == ends(longer)


def random_order(rng):
    """An order that may be right or wrong."""
    return rng.choice(
        [
            lambda: order(more_trials=rng.randint(1, 5)),
            lambda: order(settings=[f"trial.epochs={rng.randint(5, 30)}"]),
            lambda: order(more_trials=1, settings=[f"trial.epochs={rng.randint(12, 30)}"]),
            lambda: order(points=[POINT | {"mixup.alpha": rng.random()}]),
            lambda: order(settings=[f"budget.gpu_s={rng.randint(100, 4000)}"]),
            lambda: order(settings=["scheduler.audit=0.4"], retry_failed=rng.random() < 0.5),
            lambda: order(settings=[f"scheduler.budget_fraction={rng.uniform(0.2, 0.9):.2f}"]),
            lambda: order(settings=["resources.max_concurrent=2"]),
            lambda: order(retry_failed=True),
            lambda: order("stop", trials=[f"t{rng.randrange(12):03d}" for _ in range(rng.randint(1, 3))]),
            lambda: order("stop", generation=99),
            lambda: order(settings=["search.sampler=gp"]),
            lambda: order(settings=["search.num_trials=2"]),
            lambda: order(points=[{"optimizer.lr": 7.0}]),
        ]
    )()


def refusals(sweep):
    return [event for event in sweep.events if isinstance(event, OrderRefused)]


@pytest.fixture
def random_sweep(virtual_sweep):
    """``random_sweep(kind, seed)`` runs a sweep under random orders, while it runs and after each of two ends."""

    def run(kind, seed):
        rng = random.Random(f"{kind} {seed}")
        text = spec_of(kind, rng, trials=rng.randint(3, 9), epochs=9, sampler=rng.choice(["random", "tpe"]))
        orders = [(rng.uniform(0, 12), random_order(rng)) for _ in range(rng.randint(2, 6))]
        failing = [f"t{index:03d}" for index in rng.sample(range(1, 6), 2)]
        sweep = virtual_sweep(
            text,
            workers=rng.randint(1, 4),
            metrics=curves(rng),
            seconds=lambda point: 1.0 + point["mixup.alpha"],
            fails=lambda trial, epoch: (
                int(trial.id[1:]) in failing and epoch == 3 and not trial.forgiven and trial.attempts < 2
            ),
            orders=orders,
        )
        for generation in (2, 3):
            sweep.run(*((0.0, random_order(rng)) for _ in range(2)), generation=generation)
        return sweep

    return run


@pytest.mark.parametrize("kind", ANY)
@pytest.mark.parametrize("seed", range(5))
def test_under_random_orders_replay_repeats_every_decision_and_nothing_measured_is_lost(random_sweep, kind, seed):
    sweep = random_sweep(kind, seed)
    events = [decode(encode(event)) for event in sweep.events]
    assert replay(sweep.plan, events).differences == ()
    assert replay(sweep.plan.launched, events).differences == ()
    answered = [event.order for event in events if isinstance(event, OrderAccepted | OrderRefused)]
    assert answered == list(sweep.given)
    assert len(answered) > 4
    for name, trial in sweep.state.trials.items():
        measured = [event for event in events if isinstance(event, EpochReported) and event.trial == name]
        assert [event.epoch for event in measured] == list(range(1, trial.epoch + 1))
        assert trial.epochs == {event.epoch: event.metrics for event in measured}
        assert trial.status in OVER
        assert trial.epoch <= sweep.plan.max_epochs


@pytest.mark.parametrize("kind", ANY)
@pytest.mark.parametrize("seed", range(5))
def test_every_answer_follows_from_the_log_and_a_refusal_changes_nothing(random_sweep, kind, seed):
    sweep = random_sweep(kind, seed)
    launched, given = sweep.plan.launched, sweep.given
    for index, event in enumerate(sweep.events):
        if not isinstance(event, OrderAccepted | OrderRefused):
            continue
        state = SweepState(sweep.events[:index])
        decisions = DecisionState(in_force(launched, state), state)
        before = seen(decisions)
        assert answer(given[event.order], decisions, has_checkpoint=lambda _: True, now=event.time) == event
        assert seen(decisions) == before
        state.apply(event)
        decisions.apply(event)
        if isinstance(event, OrderRefused):
            assert seen(decisions) == before
    reopened = [event.trial for event in sweep.events if isinstance(event, TrialReopened)]
    assert set(reopened) <= set(sweep.state.trials)


def seen(decisions):
    """All that a later decision may read."""
    plan, state = decisions.plan, decisions.state
    trials = {
        name: (trial.status, trial.config, dict(trial.epochs), dict(trial.rungs))
        for name, trial in state.trials.items()
    }
    return plan.spec, plan.rungs, plan.rung_schedule, dict(decisions.views), trials, state.to_stop, state.to_reopen
