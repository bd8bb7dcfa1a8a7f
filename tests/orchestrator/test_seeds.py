"""Sweeps with several seeds for each configuration: means, rungs, racing, and every decision once more from the log."""

import math
import random
from collections import Counter

import pytest

from orchestrator.analysis.figures.progress import outcome
from orchestrator.analysis.leaderboard import describe_status, event_line, short_status
from orchestrator.analysis.replay import replay, what_if
from orchestrator.analysis.sweep_progress import progress, trials_over
from orchestrator.decisions.promotion import next_step
from orchestrator.decisions.propose import Proposer
from orchestrator.decisions.rung import decide
from orchestrator.decisions.seeds import step_event
from orchestrator.decisions.trial_views import DecisionState
from orchestrator.errors import SpecError
from orchestrator.orders.answers import answer
from orchestrator.orders.order import extend_order, stop_order
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import SweepPlan
from orchestrator.planning.seeds import configuration_of, searched_state, seed_index_of
from orchestrator.scheduling.racing import Spread, chance_to_reach, paired_spread
from orchestrator.scheduling.rungs import seeds_at
from orchestrator.state.events import (
    EpochReported,
    RungDecided,
    SeedsDropped,
    TrialCreated,
    TrialPromoted,
    decode,
    encode,
)
from orchestrator.state.sweep_state import OVER, SweepState

SPEC = """
name: virtual
trial: {epochs: 9, optimizer.name: sgd}
space:
  use: [mixup]
  parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}
search: {num_trials: 12, seed: 3, sampler: SAMPLER, seeds: SEEDS}
scheduler: {SCHEDULER}
"""
SCHEDULERS = [
    "grace_period: auto",
    "grace_period: auto, budget_fraction: 0.6",
    "grace_period: 1",
    "grace_period: 1, reduction_factor: 2, kind: promotion",
    "grace_period: 1, strata: [mixup.alpha]",
    "name: none",
]
STATUSES = (short_status, describe_status, outcome)
EVERY = [(scheduler, seeds) for scheduler in SCHEDULERS for seeds in (2, 3)]


def spec_of(scheduler, seeds=3, sampler="random"):
    return SPEC.replace("SCHEDULER", scheduler).replace("SAMPLER", sampler).replace("SEEDS", str(seeds))


def by_alpha(point):
    return 1.0 + point["mixup.alpha"]


def noisy(trial, epoch):
    """A curve whose end depends on the rate, with a shift of each seed and noise of each trial."""
    point, seed = trial.point, seed_index_of(trial.id)
    quality = 0.9 - abs(math.log10(point["optimizer.lr"] / 0.03)) / 10
    noise = random.Random(f"{trial.id}").gauss(0, 0.01) + random.Random(f"{seed}").gauss(0, 0.02)
    return {"val/accuracy": (quality + noise) * (1 - math.exp(-epoch / 2))}


@pytest.fixture
def seeded(virtual_sweep):
    """A virtual sweep whose trials also differ by their seeds."""

    def run(scheduler="grace_period: 1", seeds=3, sampler="random", **keywords):
        keywords = {"workers": 3, "seconds": by_alpha, "of_trial": noisy, **keywords}
        return virtual_sweep(spec_of(scheduler, seeds, sampler), **keywords)

    return run


def own_mean(sweep, name, level, count):
    values = [sweep.state.trials[each].epochs[level]["val/accuracy"] for each in members(sweep, name)[:count]]
    assert len(values) == count
    return math.fsum(values) / count


def members(sweep, name):
    return sorted((each for each in sweep.state.trials if configuration_of(each) == name), key=seed_index_of)


@pytest.mark.parametrize(("scheduler", "seeds"), EVERY)
def test_every_seeded_sweep_ends_with_all_configurations_and_the_baseline_complete(seeded, scheduler, seeds):
    sweep = seeded(scheduler, seeds)
    assert {trial.status for trial in sweep.state.trials.values()} <= OVER
    assert len(sweep.decisions.configurations) == 12
    assert sweep.decisions.configurations["t000"].state == "completed"
    assert [sweep.state.trials[name].status for name in members(sweep, "t000")] == ["completed"] * seeds


@pytest.mark.parametrize(("scheduler", "seeds"), EVERY)
def test_no_configuration_has_more_trials_than_seeds_and_they_are_created_in_order(seeded, scheduler, seeds):
    sweep = seeded(scheduler, seeds)
    for name in sweep.decisions.configurations:
        assert [seed_index_of(each) for each in members(sweep, name)] == list(range(len(members(sweep, name))))
        assert len(members(sweep, name)) <= seeds


@pytest.mark.parametrize(("scheduler", "seeds"), EVERY)
def test_a_rung_decides_on_the_mean_of_exactly_the_seeds_it_needs(seeded, scheduler, seeds):
    sweep = seeded(scheduler, seeds)
    needs = dict(zip(sweep.plan.rungs, seeds_at(sweep.plan.rungs, seeds), strict=True))
    means = [event for event in sweep.events if isinstance(event, RungDecided) and event.outcome == "mean"]
    assert means or scheduler == "name: none"
    for event in means:
        name = configuration_of(event.trial)
        assert event.mean == own_mean(sweep, name, event.rung, needs[event.rung])
    counts = Counter((configuration_of(event.trial), event.rung) for event in means)
    assert set(counts.values()) <= {1}


@pytest.mark.parametrize(("scheduler", "seeds"), EVERY)
def test_a_configuration_never_competes_with_a_mean_of_fewer_seeds(seeded, scheduler, seeds):
    sweep = seeded(scheduler, seeds)
    decisions = DecisionState(sweep.plan, SweepState())
    needs = {**dict(zip(sweep.plan.rungs, seeds_at(sweep.plan.rungs, seeds), strict=True)), 9: seeds}
    for event in sweep.events:
        decisions.state.apply(event)
        decisions.apply(event)
        if isinstance(event, EpochReported):
            name = configuration_of(event.trial)
            trials = [trial for each, trial in decisions.state.trials.items() if configuration_of(each) == name]
            for level, count in needs.items():
                has_all = sum(level in trial.epochs for trial in trials[:count]) == count
                assert (level in decisions.views[name].values) == has_all


def test_the_first_rung_needs_one_seed_and_the_last_all_of_them(seeded):
    sweep = seeded("grace_period: 1, reduction_factor: 2")
    assert sweep.plan.rungs == (1, 2, 4, 8)
    (levels,) = {tuple(each.levels.items()) for each in sweep.decisions.configurations.values()}
    assert levels == ((1, 1), (2, 1), (4, 2), (8, 3), (9, 3))


@pytest.mark.parametrize(("scheduler", "seeds"), EVERY)
def test_further_seeds_start_only_after_a_promotion_by_the_seeds_before(seeded, scheduler, seeds):
    sweep = seeded(scheduler, seeds)
    rungs = sweep.plan.rungs
    state = SweepState()
    for event in sweep.events:
        if isinstance(event, TrialCreated) and seed_index_of(event.trial) and rungs:
            configuration = DecisionState(sweep.plan, state).configurations[configuration_of(event.trial)]
            needed = configuration.levels[configuration.target]
            assert seed_index_of(event.trial) < needed
            assert all(configuration.has_advanced(rung) for rung in rungs if configuration.levels[rung] < needed)
        state.apply(event)


def test_trials_of_one_seed_number_have_one_seed_and_those_of_others_another(seeded):
    sweep = seeded("name: none")
    by_number = {}
    for trial in sweep.state.trials.values():
        by_number.setdefault(seed_index_of(trial.id), set()).add(trial.config["seed"])
    assert [len(found) for found in by_number.values()] == [1, 1, 1]
    assert len(set.union(*by_number.values())) == 3


@pytest.mark.parametrize(("scheduler", "seeds"), EVERY)
@pytest.mark.parametrize("sampler", ["auto", "tpe", "random"])
def test_a_seeded_sweep_replays_bit_for_bit_from_its_log(seeded, scheduler, seeds, sampler):
    sweep = seeded(scheduler, seeds, sampler)
    found = replay(sweep.plan, [decode(encode(event)) for event in sweep.events])
    assert found.differences == ()
    assert found.counts["trial_created"] == len(sweep.state.trials)


@pytest.mark.parametrize(("scheduler", "seeds"), EVERY)
def test_a_driver_that_starts_again_at_any_point_of_a_seeded_sweep_decides_alike(seeded, scheduler, seeds):
    sweep = seeded(scheduler, seeds)
    plan = SweepPlan.model_validate_json(sweep.plan.model_dump_json())
    decided = RungDecided | TrialPromoted | TrialCreated | SeedsDropped
    for index, event in enumerate(sweep.events):
        if not isinstance(event, decided):
            continue
        decisions = DecisionState(plan, SweepState([decode(encode(each)) for each in sweep.events[:index]]))
        if isinstance(event, RungDecided):
            assert decide(decisions, event.trial, event.rung) == event.model_dump(exclude={"v", "time", "kind"})
            continue
        step = next_step(decisions, now=event.time)
        if step is not None:
            assert step_event(decisions, step, now=event.time) == event
            continue
        assert Proposer(plan.spec, decisions.searched).propose() == (event.origin, event.point)
        assert Proposer(plan.spec, decisions.searched).next_id() == event.trial


@pytest.mark.parametrize(("scheduler", "seeds"), EVERY)
def test_a_seeded_sweep_that_is_killed_anywhere_completes_and_replays(seeded, scheduler, seeds):
    whole = seeded(scheduler, seeds)
    for index in range(1, len(whole.events), 9):
        events = whole.events[:index]
        sweep = whole.restarted(events)
        assert {trial.status for trial in sweep.state.trials.values()} <= OVER, index
        assert replay(sweep.plan.launched, sweep.events).differences == (), index
        assert sweep.decisions.configurations["t000"].state == "completed"


@pytest.mark.parametrize("scheduler", SCHEDULERS[:2])
def test_configurations_that_complete_do_not_depend_on_the_number_of_workers_and_speeds(seeded, scheduler, monkeypatch):
    monkeypatch.setattr(
        "orchestrator.scheduling.racing.CHANCE", 0.0
    )  # which seeds are dropped depends on who came first
    ends = []
    for workers in (1, 2, 5, 30):
        for seconds in (by_alpha, lambda _: 1.0):
            configurations = seeded(scheduler, workers=workers, seconds=seconds).decisions.configurations
            ends.append({name for name, each in configurations.items() if each.state == "completed"})
    assert all(end == ends[0] for end in ends)


@pytest.mark.parametrize("seeds", [2, 3])
def test_a_budgeted_sweep_with_seeds_stays_within_its_budget(seeded, seeds):
    for fraction in (0.3, 0.6):
        sweep = seeded(f"grace_period: auto, budget_fraction: {fraction}", seeds)
        baseline = sum(sweep.state.trials[name].epoch for name in members(sweep, "t000"))
        assert sweep.plan.rung_schedule.budget == pytest.approx((fraction * 12 - 1) * 9 * seeds)
        assert baseline == 9 * seeds
        assert sweep.state.epochs_run <= fraction * 12 * 9 * seeds


def test_racing_drops_seeds_of_hopeless_configurations_and_says_why(seeded):
    sweep = seeded("name: none")
    dropped = [event for event in sweep.events if isinstance(event, SeedsDropped)]
    assert dropped
    best = max(sweep.decisions.configurations.values(), key=lambda each: each.means.get(9, (0.0,)))
    assert best.state == "completed"
    for event in dropped:
        assert not any(9 in sweep.state.trials[name].epochs for name in members(sweep, event.trial)[event.seeds[0] :])
        assert "seeds its mean reaches that of" in event.reason
        assert "below 5%" in event.reason
        assert sweep.decisions.configurations[event.trial].means == {}
        assert sweep.decisions.searched.trials[event.trial].status == "stopped"


def test_running_seeds_of_a_dropped_configuration_stop_after_their_epoch(seeded):
    sweep = seeded("name: none", seeds=5, workers=16)
    out = [event for event in sweep.events if isinstance(event, RungDecided) and event.outcome == "out"]
    assert out
    for event in out:
        assert "is out of the race" in event.reason
        assert sweep.state.trials[event.trial].status == "stopped"
        assert sweep.state.trials[event.trial].epoch == event.rung < 9


def test_what_racing_drops_without_a_scheduler_is_shown_at_no_rung(seeded):
    sweep = seeded("name: none", seeds=5, workers=16)
    out = {event.trial for event in sweep.events if isinstance(event, RungDecided) and event.outcome == "out"}
    dropped = {event.trial for event in sweep.events if isinstance(event, SeedsDropped)}
    assert out
    lines = [line for event in sweep.events if (line := event_line(sweep.plan, sweep.state, event))]
    assert sum(f" {name} dropped after epoch " in line for line in lines for name in out) == len(out)
    shown = [*lines, trials_over(progress(sweep.plan, sweep.state, now=sweep.state.last_time))]
    shown += [words(searched_state(sweep.plan, sweep.state).trials[name]) for name in dropped for words in STATUSES]
    shown += [words(sweep.state.trials[name]) for name in out for words in STATUSES]
    assert not [text for text in shown if "rung" in text]


def test_racing_saves_epochs_and_finds_the_same_best(seeded, monkeypatch):
    racing = seeded("name: none")
    monkeypatch.setattr("orchestrator.scheduling.racing.CHANCE", 0.0)
    whole = seeded("name: none")
    assert whole.state.epochs_run == 12 * 3 * 9 > racing.state.epochs_run
    best = [
        max((each.means.get(9, (0.0,)), name) for name, each in sweep.decisions.configurations.items())[1]
        for sweep in (racing, whole)
    ]
    assert best[0] == best[1]


def test_the_sampler_is_told_means_and_configurations_alone(seeded):
    sweep = seeded("grace_period: 1")
    for name, trial in sweep.decisions.searched.trials.items():
        assert configuration_of(name) == name
        for level, metrics in trial.epochs.items():
            configuration = sweep.decisions.configurations[name]
            if level in configuration.means:
                assert metrics["val/accuracy"] == own_mean(sweep, name, level, configuration.levels[level])


def test_a_failed_seed_makes_its_configuration_incomplete_and_stops_the_others(seeded):
    sweep = seeded("name: none", workers=40, fails=lambda trial, epoch: trial.id == "t003s1" and epoch == 2)
    configuration = sweep.decisions.configurations["t003"]
    assert configuration.state == "over"
    assert 9 not in configuration.means
    assert configuration.over_because == "t003 is incomplete: its seed 1 (t003s1) failed"
    out = [event for event in sweep.events if isinstance(event, RungDecided) and event.trial.startswith("t003")]
    assert {event.reason for event in out} == {configuration.over_because}
    assert replay(sweep.plan, sweep.events).differences == ()


def test_a_failed_seed_that_is_retried_completes_its_configuration(seeded):
    failing = [True]
    sweep = seeded("grace_period: 1", fails=lambda trial, epoch: failing[0] and trial.id == "t000s1" and epoch == 2)
    assert sweep.decisions.configurations["t000"].state == "over"
    failing[0] = False
    sweep.run((0.0, extend_order(now=0.0, retry_failed=True)), generation=2)
    assert sweep.decisions.configurations["t000"].state == "completed"
    assert replay(sweep.plan.launched, sweep.events).differences == ()


def test_a_stopped_seed_makes_its_configuration_incomplete(seeded):
    order = stop_order(now=0.0, generation=1, trials=["t000"])
    sweep = seeded("grace_period: 1", orders=[(0.5, order)])
    assert sweep.decisions.configurations["t000"].over_because == (
        "t000 is incomplete: its seed 0 (t000) was stopped by order"
    )
    assert replay(sweep.plan, sweep.events).differences == ()
    stopped = searched_state(sweep.plan, sweep.state)
    assert short_status(stopped.trials["t000"]) == "by order"
    assert "1 stopped by order" in trials_over(progress(sweep.plan, sweep.state, now=sweep.state.last_time))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_an_order_adds_configurations_with_all_their_seeds(seeded, scheduler):
    sweep = seeded(scheduler, orders=[(4.0, extend_order(now=0.0, trials="+4"))])
    assert len(sweep.decisions.configurations) == 16
    assert replay(sweep.plan.launched, sweep.events).differences == ()
    later = seeded(scheduler).run((0.0, extend_order(now=0.0, trials="+4")), generation=2)
    assert len(later.decisions.configurations) == 16
    assert replay(later.plan.launched, later.events).differences == ()


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_budget_of_an_extension_counts_the_baseline_as_the_setting_does(seeded, seeds):
    sweep = seeded("grace_period: auto, budget_fraction: 0.5", seeds)
    order = extend_order(now=0.0, trials="+4")
    event = answer(order, sweep.decisions, has_checkpoint=lambda _: True, now=sweep.state.last_time)
    before, after = (f"{0.5 * trials * seeds * 9:.0f}" for trials in (12, 16))
    assert any(note.startswith(f"budget: {before} to {after} epochs; ") for note in event.notes)


def test_an_order_for_more_epochs_is_refused_in_words(seeded):
    sweep = seeded(orders=[(4.0, extend_order(now=0.0, epochs=27))])
    (answer,) = sweep.state.orders.values()
    reason = "must stay 9 with search.seeds above 1, as seeds that ended are not reopened; got 27; use ravel fork"
    assert answer.reasons == (f"trial.epochs: {reason}",)


REFUSED = {
    "scheduler.name=pasha": "scheduler.name: must be asha or none with search.seeds: 3, as no other scheduler compares "
    "means over seeds; got 'pasha'",
    "scheduler.kind=stopping": "scheduler.kind: must be promotion or auto with search.seeds: 3, as a seed waits at its "
    "rung for the others; got 'stopping'",
    "scheduler.audit=0.1": "scheduler.audit: must be 0 with search.seeds: 3, as a rejected configuration has no more "
    "seeds; got 0.1",
    "budget.target=0.9": "budget.target: must be unset with search.seeds: 3, as one lucky seed would end the sweep; "
    "got 0.9",
    "trial.seed=4": "trial.seed: must be left out with search.seeds: 3, which gives each trial its seed",
    "search.num_trials=40000": "search.num_trials: must be at most 33,333 with search.seeds: 3, as the driver holds "
    "each trial in memory; got 40000",
    "search.seeds=0": "search.seeds: must be >= 1, got 0",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_what_seeds_cannot_have_is_refused_before_a_launch(setting):
    with pytest.raises(SpecError) as refused:
        parse_spec(spec_of("grace_period: 1"), [setting])
    assert [str(problem) for problem in refused.value.problems] == [REFUSED[setting]]


def test_a_kind_without_a_scheduler_is_refused_with_one_remedy():
    with pytest.raises(SpecError) as refused:
        parse_spec(spec_of("name: none, kind: stopping"))
    assert str(refused.value) == "scheduler.kind: must be 'auto' for none, got 'stopping'"


def test_a_users_scheduler_is_refused_with_seeds():
    with pytest.raises(SpecError, match=r"scheduler\.name: must be asha or none with search\.seeds: 3"):
        parse_spec(spec_of("name: 'mine:Halving'"))


def test_other_settings_are_not_simulated_for_seeds(seeded):
    sweep = seeded()
    with pytest.raises(SpecError, match=r"search\.seeds: must be 1 to simulate other settings"):
        what_if(sweep.plan, sweep.state, ["scheduler.grace_period=3"], workers=2)


def test_one_seed_is_absent_from_documents_plans_and_events(virtual_sweep):
    text = spec_of("grace_period: auto", seeds=1)
    without = text.replace(", seeds: 1", "")
    assert parse_spec(text).canonical() == parse_spec(without).canonical()
    one, other = virtual_sweep(text), virtual_sweep(without)
    assert [encode(event) for event in one.events] == [encode(event) for event in other.events]
    assert '"seeds"' not in one.plan.model_dump_json()
    assert not any(b'"outcome"' in encode(event) or b'"mean"' in encode(event) for event in one.events)
    assert SweepPlan.model_validate_json(seeded_plan(virtual_sweep).model_dump_json()).rung_schedule.seeds == 3


def seeded_plan(virtual_sweep):
    return virtual_sweep(spec_of("grace_period: auto")).plan


def test_the_chance_to_reach_a_rival_is_what_simulated_seeds_do():
    rng, reached, predicted = random.Random(0), [], []
    for _ in range(16_000):
        gap = rng.uniform(-0.06, 0.06)
        rival = {number: rng.gauss(0.9, 0.01) for number in range(3)}
        own = {number: rng.gauss(0.9 + gap, 0.01) for number in range(3)}
        table = [[rng.gauss(0.9, 0.01) for _ in range(3)] for _ in range(6)]
        chance = chance_to_reach({0: own[0]}, rival, paired_spread(table))
        if 0.02 < chance < 0.08:
            reached.append(sum(own.values()) >= sum(rival.values()))
            predicted.append(chance)
    assert len(reached) > 500
    assert sum(reached) / len(reached) == pytest.approx(sum(predicted) / len(predicted), abs=0.02)


def test_a_spread_needs_two_configurations_and_two_seeds():
    assert paired_spread([]) is None
    assert paired_spread([[0.9, 0.8]]) is None
    assert paired_spread([[0.9], [0.8]]) is None
    assert paired_spread([[0.9, 0.8], [0.8, 0.7]]) is None
    assert chance_to_reach({0: 0.5}, {0: 0.9, 1: 0.9}, Spread(0.01, 3)) < 1e-4
