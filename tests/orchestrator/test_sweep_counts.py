"""Counts of a sweep are those of its state after every event, and cost the same however many trials it has."""

import io

import pytest
from rich.console import Console

from orchestrator.analysis import sweep_counts
from orchestrator.analysis.leaderboard import event_line
from orchestrator.analysis.sweep_counts import SweepCounts
from orchestrator.analysis.sweep_progress import progress
from orchestrator.cli.shared.live_display import MAX_SHARE, PacedView, PlainDisplay
from orchestrator.orders.order import extend_order, stop_order
from orchestrator.planning.changes.extension import extended
from orchestrator.state.event_log import EventLog
from orchestrator.state.event_store import EventStore
from orchestrator.state.events import OrderAccepted
from orchestrator.state.sweep_state import SweepState

SPEC = """
name: counted
trial: {data.name: digits, model.name: mlp, epochs: 9, optimizer.name: sgd}
space: {use: [mixup], parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}}
search: {num_trials: TRIALS, sampler: random, seed: 3, seeds: SEEDS}
scheduler: {SCHEDULER}
budget: {gpu_s: 1.0e6}
"""
POPULATION = """
name: counted
trial: {data.name: digits, model.name: mlp, epochs: 8, optimizer.name: sgd}
space: {parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}}
search: {num_trials: 6, sampler: random, seed: 3}
scheduler: {name: pbt, interval: 2}
"""


def spec_of(scheduler, *, trials=14, seeds=1):
    return SPEC.replace("TRIALS", str(trials)).replace("SEEDS", str(seeds)).replace("SCHEDULER", scheduler)


SWEEPS = {
    "stopping": spec_of("grace_period: 1, kind: stopping"),
    "promotion": spec_of("grace_period: 1, kind: promotion"),
    "budgeted with an audit": spec_of("budget_fraction: 0.3, audit: 0.5"),
    "median": spec_of("name: median"),
    "pasha": spec_of("name: pasha"),
    "three seeds with racing": spec_of("name: none", seeds=3),
    "three seeds with rungs": spec_of("grace_period: 1", seeds=3),
    "population": POPULATION,
}
ORDERS = (
    (4.0, stop_order(now=4.0, generation=1, trials=["t001"])),
    (9.0, extend_order(now=9.0, trials="+2")),
)


def measured(point, epoch):
    return {"val/accuracy": 1 - 1 / (1 + epoch) - abs(point["optimizer.lr"] - 0.03), "cost/gpu_s": 1.5}


@pytest.mark.parametrize("name", SWEEPS)
@pytest.mark.parametrize("orders", [(), ORDERS], ids=["", "ordered"])
def test_the_progress_from_counts_is_that_of_the_state_after_every_event(name, orders, virtual_sweep):
    sweep = virtual_sweep(SWEEPS[name], workers=3, metrics=measured, orders=orders if name != "population" else ())
    plan, state = sweep.plan.launched, SweepState()
    counts = SweepCounts(plan, state)
    for event in sweep.events:
        state.apply(event)
        plan = extended(plan, event) if isinstance(event, OrderAccepted) else plan
        assert progress(plan, state, now=event.time, counts=counts) == progress(plan, state, now=event.time)
        assert event_line(plan, state, event, counts=counts) == event_line(plan, state, event)


@pytest.mark.parametrize("seeds", [1, 3])
def test_all_lines_of_a_sweep_read_each_trial_at_most_once_for_each_of_its_events(
    seeds, virtual_sweep, tmp_path, monkeypatch
):
    reads, original = [], sweep_counts._of_searched
    monkeypatch.setattr(sweep_counts, "_of_searched", lambda trial: reads.append(trial.id) or original(trial))
    sweep = virtual_sweep(spec_of("grace_period: 1, kind: promotion", trials=40, seeds=seeds), workers=3)
    display = PlainDisplay(Console(file=io.StringIO(), width=200))
    with EventLog(tmp_path / "events.jsonl") as log:
        store = EventStore(log, SweepState(), listeners=(display.on_event,))
        display.on_start(sweep.plan, store, list)
        for event in sweep.events:
            store.append(event)
    assert 40 <= len(reads) <= len(store.state.changes)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("draw_s", [0.001, 0.1, 4.0])
def test_drawing_takes_no_more_than_its_share_of_the_time(draw_s):
    clock, drawn = Clock(), []

    def draw():
        clock.now += draw_s
        drawn.append(clock.now)
        return f"view {len(drawn)}"

    view = PacedView(draw, clock=clock)
    for _ in range(2000):
        assert view() == f"view {len(drawn)}"
        clock.now += 0.5
    assert draw_s * (len(drawn) - 1) <= MAX_SHARE * clock.now
    if draw_s < 0.5 * MAX_SHARE:
        assert len(drawn) == 2000
    assert len(drawn) > 10
