"""Decisions of whole sweeps: repeated, replayed, restarted anywhere, and asked what other settings would have done."""

import json
import math

import pytest

from orchestrator.analysis.replay import most_at_once, replay, what_if, winner
from orchestrator.decisions.promotion import Promotion, next_promotion
from orchestrator.decisions.propose import Proposer, propose
from orchestrator.decisions.rung import decide
from orchestrator.decisions.sequences import SobolPoints
from orchestrator.decisions.trial_views import DecisionState, stratum
from orchestrator.errors import PreflightError, SpecError
from orchestrator.execution.preflight import check_gpu_seconds
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import SweepPlan
from orchestrator.state.events import RungDecided, SweepStarted, TrialCreated, TrialEnded, TrialPromoted, decode, encode
from orchestrator.state.sweep_state import OVER, SweepState
from search_spaces import Float, SearchSpace, ZeroOr

SPEC = """
name: virtual
trial: {epochs: 9, optimizer.name: sgd}
space:
  use: [mixup]
  parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}
search: {num_trials: 14, seed: 3, sampler: SAMPLER}
scheduler: {SCHEDULER}
"""
SCHEDULERS = [
    "grace_period: auto",
    "grace_period: auto, budget_fraction: 0.5, audit: 0.5",
    "grace_period: auto, kind: stopping",
    "grace_period: 1, kind: stopping",
    "grace_period: 1, kind: stopping, audit: 0.5",
    "grace_period: 1, kind: promotion",
    "grace_period: 1, kind: promotion, brackets: 3",
    "grace_period: 1, kind: promotion, strata: [mixup.alpha]",
    "grace_period: 2, kind: promotion, resource: gradient_evaluations",
    "grace_period: 2, kind: stopping, resource: gpu_seconds",
    "name: hyperband, grace_period: 1",
    "name: pasha, grace_period: 1, audit: 0.2",
    "name: median",
    "name: none",
]


def spec_of(scheduler, sampler="random"):
    return SPEC.replace("SCHEDULER", scheduler).replace("SAMPLER", sampler)


def by_alpha(point):
    return 1.0 + point["mixup.alpha"]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_trial_ends_and_the_baseline_at_its_full_budget(virtual_sweep, scheduler):
    state = virtual_sweep(spec_of(scheduler), workers=3, seconds=by_alpha).state
    assert len(state.trials) == 14
    assert {trial.status for trial in state.trials.values()} <= OVER
    assert state.trials["t000"].status == "completed"


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_sweep_replays_bit_for_bit_from_its_log(virtual_sweep, scheduler):
    sweep = virtual_sweep(spec_of(scheduler, "tpe"), workers=3, seconds=by_alpha)
    found = replay(sweep.plan, [decode(encode(event)) for event in sweep.events])
    assert found.differences == ()
    assert found.counts["trial_created"] == 14


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_driver_that_starts_again_at_any_point_decides_as_one_that_never_stopped(virtual_sweep, scheduler):
    sweep = virtual_sweep(spec_of(scheduler), workers=3, seconds=by_alpha)
    plan = SweepPlan.model_validate_json(sweep.plan.model_dump_json())
    for index, event in enumerate(sweep.events):
        if not isinstance(event, RungDecided | TrialPromoted | TrialCreated):
            continue
        state = restarted(sweep.events[:index], now=event.time)
        decisions = DecisionState(plan, state)
        if isinstance(event, RungDecided):
            expected = event.model_dump(exclude={"v", "time", "kind"})
            assert decide(decisions, event.trial, event.rung) == expected
            continue
        promotion = next_promotion(decisions, now=event.time)
        if isinstance(event, TrialPromoted):
            assert promotion == Promotion(event.trial, event.rung, event.audited)
        else:
            assert promotion is None
            assert propose(state, plan.spec) == (event.origin, event.point)


def restarted(events, *, now):
    """The state that a new driver reads: what ran is interrupted."""
    state = SweepState([decode(encode(event)) for event in events])
    for trial in state.with_status("running"):
        state.apply(TrialEnded(time=now, trial=trial.id, status="interrupted"))
    state.apply(SweepStarted(time=now, generation=2, host="there", pid=2))
    return state


@pytest.mark.parametrize("sampler", ["auto", "tpe", "gp", "cmaes", "qmc", "nsga2", "random"])
def test_a_sequential_sweep_repeats_exactly(virtual_sweep, sampler):
    first, second = (virtual_sweep(spec_of("grace_period: 1", sampler), workers=1) for _ in range(2))
    assert [encode(event) for event in first.events] == [encode(event) for event in second.events]


def test_a_difference_in_the_log_is_found_and_named(virtual_sweep):
    sweep = virtual_sweep(spec_of("grace_period: 1, kind: stopping"))
    at = next(i for i, event in enumerate(sweep.events) if isinstance(event, RungDecided) and not event.kept)
    forged = [*sweep.events]
    forged[at] = forged[at].model_copy(update={"kept": True})
    found = replay(sweep.plan, forged[: at + 1])
    assert [(each.event, each.kind) for each in found.differences] == [(at + 1, "rung_decided")]
    assert found.differences[0].replayed["kept"] is False


def test_the_trials_that_go_on_do_not_depend_on_the_number_of_workers(virtual_sweep):
    ends = []
    for workers in (1, 2, 5, 14):
        state = virtual_sweep(spec_of("grace_period: auto"), workers=workers, seconds=by_alpha).state
        ends.append({trial.id: trial.epoch for trial in state.trials.values()})
    assert ends[0] == ends[1] == ends[2] == ends[3]


def test_the_share_spent_is_the_budget_and_the_baseline(virtual_sweep):
    sweep = virtual_sweep(spec_of("grace_period: auto, budget_fraction: 0.4"))
    assert 0.35 * 13 * 9 < sweep.state.epochs_run - 9 <= 0.4 * 13 * 9


def test_an_audited_trial_ends_whatever_rungs_say_and_changes_no_other_decision(virtual_sweep):
    plain = virtual_sweep(spec_of("grace_period: 1, kind: stopping"), workers=1)
    audited = virtual_sweep(spec_of("grace_period: 1, kind: stopping, audit: 0.5"), workers=1)
    blind = {trial.id for trial in audited.state.trials.values() if trial.blind_from is not None}
    assert blind
    assert {audited.state.trials[name].status for name in blind} == {"completed"}
    kept = [
        {name: trial.epoch for name, trial in sweep.state.trials.items() if name not in blind}
        for sweep in (plain, audited)
    ]
    assert kept[0] == kept[1]


def test_what_if_shows_who_would_have_stopped_earlier_and_who_is_unknown(virtual_sweep):
    sweep = virtual_sweep(spec_of("grace_period: 3, reduction_factor: 3, kind: stopping"))
    other, outcome = what_if(sweep.plan, sweep.state, ["scheduler.grace_period=1"], workers=2)
    assert other.rungs == (1, 3)
    assert outcome.spent < sweep.state.epochs_run
    assert winner(outcome) is not None
    _, longer = what_if(sweep.plan, sweep.state, ["scheduler.grace_period=6"], workers=2)
    unknown = {trial for _, trial, what, _ in longer.decisions if what == "unknown"}
    assert unknown == {trial.id for trial in sweep.state.with_status("stopped")}


def test_what_if_with_the_same_settings_decides_the_same(virtual_sweep):
    sweep = virtual_sweep(spec_of("grace_period: 1, reduction_factor: 3, kind: stopping"), workers=1)
    _, outcome = what_if(sweep.plan, sweep.state, ["scheduler.reduction_factor=3"], workers=1)
    ended = {trial: each.level for trial, each in outcome.views.items()}
    assert ended == {trial.id: trial.epoch for trial in sweep.state.trials.values()}
    assert most_at_once(sweep.events) == 1


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("search.num_trials=3", "must be scheduler.FIELD=VALUE"),
        ("scheduler.grace_perod=3", "scheduler.grace_perod: unknown field; did you mean 'grace_period'?"),
        (
            "scheduler.resource=gpu_seconds",
            "scheduler.resource: must be 'auto', 'epochs' or 'gradient_evaluations' for asha",
        ),
    ],
)
def test_what_if_refuses_what_it_cannot_answer(virtual_sweep, setting, says):
    sweep = virtual_sweep(spec_of("grace_period: auto"))
    with pytest.raises(SpecError, match=says.replace("(", r"\(").replace("?", r"\?")):
        what_if(sweep.plan, sweep.state, [setting], workers=1)


def test_costs_in_gradient_evaluations_bring_an_attacked_trial_to_its_rung_sooner(virtual_sweep):
    text = SPEC.replace("SCHEDULER", "grace_period: 4, kind: stopping, resource: gradient_evaluations")
    text = text.replace("use: [mixup]", "use: [mixup, adversarial]").replace("SAMPLER", "random")
    text += "trial: {epochs: 9, optimizer.name: sgd, adversarial.attack: pgd, adversarial.steps: 3}\n"
    text = text.replace("trial: {epochs: 9, optimizer.name: sgd}\n", "", 1)
    sweep = virtual_sweep(text)
    for trial in sweep.state.trials.values():
        first = next(iter(trial.rungs.values()), None)
        if first is not None:
            assert first.rung == 4
    attacked = [trial for trial in sweep.state.with_status("stopped") if trial.point["adversarial.epsilon"]]
    plain = [trial for trial in sweep.state.with_status("stopped") if not trial.point["adversarial.epsilon"]]
    assert {trial.epoch for trial in attacked if trial.stopping_rung == 4} <= {1}
    assert {trial.epoch for trial in plain if trial.stopping_rung == 4} <= {4}
    assert attacked
    assert plain


TWO = SPEC.replace("SAMPLER", "SAMPLER}\nobjective: [val/accuracy max, val/nll min]\nbudget: {wall_clock_s: null")


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
@pytest.mark.parametrize("scheduler", ["grace_period: auto", "grace_period: 1, kind: stopping", "grace_period: 1"])
def test_several_objectives_are_stopped_early_by_front_and_report_one(virtual_sweep, scheduler, sampler):
    def metrics(point, epoch):
        reached = 1 - math.exp(-epoch / 3)
        alpha = min(1.0, point["mixup.alpha"])
        return {"val/accuracy": reached * (0.9 - 0.2 * alpha), "val/nll": 2 - reached * (1 + alpha)}

    text = TWO.replace("SCHEDULER", scheduler).replace("SAMPLER", sampler)
    sweep = virtual_sweep(text, workers=2, metrics=metrics)
    state, objective = sweep.state, sweep.plan.spec.objective
    front = state.front(objective)
    assert front
    ended = [trial for trial in state.trials.values() if trial.status == "completed"]
    for trial in ended:
        beaten = any(
            other.last("val/accuracy") >= trial.last("val/accuracy")
            and other.last("val/nll") <= trial.last("val/nll")
            and (other.last("val/accuracy"), other.last("val/nll"))
            != (trial.last("val/accuracy"), trial.last("val/nll"))
            for other in ended
        )
        assert (trial in front) == (not beaten)
    assert state.best(objective) in front
    assert replay(sweep.plan, sweep.events).differences == ()


def test_a_target_that_is_reached_ends_the_search(virtual_sweep):
    text = spec_of("name: none") + "budget: {target: 0.5}\n"
    state = virtual_sweep(text, workers=1).state
    assert len(state.trials) == 1


def test_a_ladder_goes_on_when_a_full_run_ends_at_a_rung(virtual_sweep):
    """Trials of 2 epochs are over at rung 2, where those of 9 wait for places that nobody else can take."""
    text = spec_of("grace_period: auto, budget_fraction: 0.5").replace(
        "parameters: {", "parameters: {epochs: {choice: [2, 9]}, "
    )
    text = text.replace("trial: {epochs: 9, ", "trial: {")
    state = virtual_sweep(text, workers=2).state
    searched = [trial for trial in state.trials.values() if trial.origin == "search" and trial.budget == 9]
    assert any(trial.status == "completed" for trial in searched)


def test_promotion_trains_the_next_best_when_all_that_were_promoted_diverge(virtual_sweep):
    def metrics(point, epoch):
        leads = point["optimizer.lr"] > 0.05
        return {"val/accuracy": math.nan if leads and epoch > 3 else 0.5 + leads / 4 + point["optimizer.lr"] / 10}

    state = virtual_sweep(spec_of("grace_period: 3, kind: promotion"), metrics=metrics).state
    ended = {trial.origin for trial in state.with_status("completed")}
    assert state.with_status("diverged")
    assert "search" in ended


def test_a_plan_goes_on_by_the_ladder_it_was_made_with(virtual_sweep):
    plan = virtual_sweep(spec_of("grace_period: auto")).plan
    document = json.loads(plan.model_dump_json())
    document["ladder"] = {"rungs": [3], "places": [2], "num_trials": 13, "maximum": 9, "budget": 60.0}
    document["rungs"] = [3]
    again = SweepPlan.model_validate_json(json.dumps(document))
    assert again.scheduler.rungs == (3,)
    assert again.scheduler.schedule.places == (2,)


def test_the_best_of_several_objectives_leads_in_the_first(virtual_sweep):
    def metrics(point, epoch):
        return {"val/accuracy": point["optimizer.lr"] * epoch / 9, "val/nll": point["optimizer.lr"] + 1 / epoch}

    sweep = virtual_sweep(TWO.replace("SCHEDULER", "name: none").replace("SAMPLER", "random"), metrics=metrics)
    objective = sweep.plan.spec.objective
    best = sweep.state.best(objective)
    assert best is sweep.state.front(objective)[0]
    assert best.score(objective) == max(trial.score(objective) for trial in sweep.state.trials.values())


def test_what_if_knows_nothing_of_epochs_that_did_not_measure_the_objective(virtual_sweep):
    def metrics(point, epoch):
        return {"val/accuracy": point["optimizer.lr"]} if epoch in {3, 9} else {"val/nll": 1.0}

    text = spec_of("grace_period: 3, kind: stopping").replace("[1.0e-3, 1.0]", "[1.0e-3, 0.5]")
    sweep = virtual_sweep(text, workers=1, metrics=metrics)
    _, same = what_if(sweep.plan, sweep.state, ["scheduler.grace_period=3"], workers=1)
    assert {trial: each.level for trial, each in same.views.items()} == {
        trial.id: trial.epoch for trial in sweep.state.trials.values()
    }
    _, other = what_if(sweep.plan, sweep.state, ["scheduler.grace_period=2"], workers=1)
    assert {what for _, _, what, _ in other.decisions} == {"started", "unknown"}


def test_a_trial_that_crossed_several_rungs_at_once_is_judged_at_each(virtual_sweep):
    text = SPEC.replace("SCHEDULER", "grace_period: 1, kind: promotion, resource: gradient_evaluations")
    text = text.replace("use: [mixup]", "use: [adversarial]").replace("SAMPLER", "random")
    text = text.replace("trial: {epochs: 9,", "trial: {epochs: 9, adversarial.attack: pgd, adversarial.steps: 9,")
    sweep = virtual_sweep(text, metrics=lambda point, epoch: {"val/accuracy": epoch / 10 + point["optimizer.lr"] / 100})
    ended = [trial for trial in sweep.state.with_status("completed") if trial.point["adversarial.epsilon"]]
    assert ended
    assert all(set(trial.rungs) >= {1, 3, 9, 27} for trial in ended)


def test_strata_halve_the_range_of_a_method_that_may_be_off():
    spec = parse_spec(spec_of("grace_period: 1, strata: [mixup.alpha]"))
    parts = {alpha: stratum({"mixup.alpha": alpha}, spec) for alpha in (0.0, 0.1, 4.0)}
    assert parts == {0.0: (None,), 0.1: ("low",), 4.0: ("high",)}


@pytest.mark.parametrize(("field", "gpus", "refused"), [("gpu_s: 60", 0, True), ("gpu_s: 60", 1, False)])
def test_gpu_seconds_are_not_counted_where_there_is_no_gpu(field, gpus, refused):
    spec = parse_spec(spec_of("grace_period: 1") + f"budget: {{{field}}}\n")
    if not refused:
        check_gpu_seconds(spec, gpus=gpus)
        return
    with pytest.raises(PreflightError, match=r"budget.gpu_s: counts GPU seconds, and trials here have no GPU"):
        check_gpu_seconds(spec, gpus=gpus)


def test_a_low_discrepancy_sequence_is_the_same_whoever_asks_and_keeps_constraints():
    space = SearchSpace(
        {"a": Float(0.0, 1.0), "b": Float(0.0, 1.0), "c": ZeroOr(Float(0.1, 4.0, log=True))}, constraints=["a < b"]
    )
    points = [SobolPoints(space, seed=5).point(index) for index in range(16)]
    assert points == [SobolPoints(space, seed=5).point(index) for index in range(16)]
    assert all(space.contains(point) for point in points)
    assert len({point["a"] for point in points}) == 16
    assert {point["c"] == 0 for point in points} == {True, False}


MANY = """
name: many
trial: {epochs: 4, optimizer.name: sgd}
space: {parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}}
search: {num_trials: 1004, sampler: qmc}
scheduler: {grace_period: 2, kind: promotion, reduction_factor: 200}
"""


def test_ties_in_a_sweep_of_more_than_1000_trials_go_to_the_smaller_number(virtual_sweep):
    sweep = virtual_sweep(MANY, metrics=lambda *_: {"val/accuracy": 0.5})
    assert [int(trial[1:]) for trial in sweep.state.trials] == list(range(1004))
    assert [trial.id for trial in sweep.state.ranked(sweep.plan.spec.objective)] == list(sweep.state.trials)
    promoted = [int(event.trial[1:]) for event in sweep.events if event.kind == "trial_promoted"]
    assert promoted == [1, 2, 3, 4]


def test_a_sweep_recorded_with_ids_of_two_lengths_replays_and_continues_as_it_was(virtual_sweep):
    sweep = virtual_sweep(MANY, metrics=lambda *_: {"val/accuracy": 0.5}, name="t{:03d}".format)
    assert list(sweep.state.trials)[998:1001] == ["t998", "t999", "t1000"]
    replayed = replay(sweep.plan, sweep.events)
    assert replayed.differences == ()
    assert replayed.counts["trial_promoted"] > 0
    part = SweepState([event for event in sweep.events if event.kind == "trial_created"][:20])
    assert Proposer(sweep.plan.spec, part).next_id() == "t020"
