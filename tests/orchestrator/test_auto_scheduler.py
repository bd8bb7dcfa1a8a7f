"""The scheduler and the unit of its budget that `auto` chooses, and sweeps that older versions began."""

import json
from pathlib import Path

import pytest

from orchestrator.analysis.forecast.forecast import forecast
from orchestrator.analysis.replay import replay, what_if
from orchestrator.decisions.trial_views import passes_per_epoch
from orchestrator.errors import SpecError
from orchestrator.planning.changes.extension import Wish, extension
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import SweepPlan
from orchestrator.scheduling.budgeted.rung_schedule import RungSchedule
from orchestrator.scheduling.registry import rung_schedule_of
from orchestrator.simulation.surrogate import Surrogate
from orchestrator.simulation.tables import load_table
from orchestrator.simulation.whole_search import spec_for
from orchestrator.spec.trial_costs import mean_passes_of
from orchestrator.state.sweep_folder import SweepFolder

PLAIN = """
name: virtual
trial: {epochs: 27, optimizer.name: sgd}
space: {parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}}
search: {num_trials: 24, seed: 3, sampler: random}
scheduler: {budget_fraction: 0.4}
"""
ATTACKED = PLAIN.replace(
    "space: {parameters: {",
    "space: {parameters: {adversarial.epsilon: {zero_or: {float: [0.01, 0.3], log: true}}, "
    "adversarial.steps: {choice: [1, 4, 10]}, adversarial.attack: {fixed: pgd}, ",
)


def gradients(sweep):
    return sum(trial.epoch * passes_per_epoch(trial.config) for trial in sweep.state.trials.values())


def full_gradients(sweep):
    return sum(27 * passes_per_epoch(trial.config) for trial in sweep.state.trials.values())


def by_steps(point, epoch):
    """Curves on which the costliest trials win."""
    return {"val/accuracy": epoch * 0.01 + passes_per_epoch({**point}) / 20 + point["optimizer.lr"] / 100}


@pytest.fixture
def swept(virtual_sweep):
    """``swept(text, *settings)`` runs a virtual sweep of a spec with other settings."""

    def run(text, *settings, **keywords):
        return virtual_sweep(parse_spec(text, list(settings)).canonical(), metrics=by_steps, **keywords)

    return run


@pytest.fixture
def older(swept, monkeypatch):
    """A sweep as the version before launched it: a schedule of design 1, in epochs, and no reason for a choice."""

    def run(text=PLAIN):
        spec = parse_spec(text, ["scheduler.name=asha", "scheduler.resource=epochs"])
        schedule = rung_schedule_of(spec, max_epochs=27, design=1)
        with monkeypatch.context() as patched:
            patched.setattr("orchestrator.planning.plan.rung_schedule_of", lambda *_, **__: schedule)
            return swept(text, "scheduler.name=asha", "scheduler.resource=epochs")

    return run


def test_where_attacks_make_trials_differ_the_budget_is_of_gradient_evaluations_and_else_of_epochs():
    schedules = [rung_schedule_of(parse_spec(text), max_epochs=27) for text in (PLAIN, ATTACKED)]
    assert [schedule.resource for schedule in schedules] == ["epochs", "gradient_evaluations"]
    assert schedules[1].most_passes == 11
    named = [
        rung_schedule_of(parse_spec(ATTACKED, [f"scheduler.resource={unit}"]), max_epochs=27).resource
        for unit in ("epochs", "gradient_evaluations")
    ]
    assert named == ["epochs", "gradient_evaluations"]


@pytest.mark.parametrize("fraction", [0.2, 0.3, 0.5])
def test_a_budget_of_gradient_evaluations_is_kept_where_costly_trials_win_and_one_of_epochs_is_not(swept, fraction):
    setting = f"scheduler.budget_fraction={fraction}"
    kept = swept(ATTACKED, setting)
    most = max(passes_per_epoch(trial.config) for trial in kept.state.trials.values())
    assert gradients(kept) <= fraction * full_gradients(kept) + 27 * most
    in_epochs = swept(ATTACKED, setting, "scheduler.resource=epochs")
    assert gradients(in_epochs) > 1.1 * gradients(kept)
    assert any(trial.status == "completed" for name, trial in kept.state.trials.items() if name != "t000")


def test_a_sweep_with_a_budget_of_gradient_evaluations_replays_extends_and_is_read_back(swept):
    sweep = swept(ATTACKED)
    assert replay(sweep.plan, sweep.events).differences == ()
    longer = extension(sweep.plan, Wish(more_trials=8), num_existing=24).plan
    assert (longer.rung_schedule.resource, longer.rung_schedule.num_trials) == ("gradient_evaluations", 31)
    assert longer.rungs == sweep.plan.rungs
    assert SweepPlan.model_validate_json(longer.model_dump_json()).rung_schedule == longer.rung_schedule


def test_the_plan_says_what_auto_chose_and_why():
    from orchestrator.planning.choices import scheduler_choice

    def said(text, *settings):
        spec = parse_spec(text, list(settings))
        is_budgeted = spec.scheduler.is_budgeted
        schedule = rung_schedule_of(spec, max_epochs=27) if is_budgeted else None
        return scheduler_choice(spec, schedule, pauses=True)

    budget = "asha that pauses and promotes trials: its rungs follow from budget_fraction 0.4 of all "
    assert said(PLAIN) == budget + "epochs, as an epoch has 1 gradient evaluation in every trial"
    assert said(ATTACKED) == (
        budget + "gradient evaluations, as an epoch has 1 to 11 gradient evaluations, depending on the trial"
    )
    assert said(ATTACKED, "scheduler.resource=epochs") == budget + "epochs, as scheduler.resource says"
    assert said(ATTACKED, "scheduler.resource=epochs", "scheduler.name=asha") == ""


def test_the_reason_is_part_of_the_plan_on_disk_and_absent_where_nothing_was_chosen(swept, tmp_path):
    sweep = swept(ATTACKED, "search.num_trials=3")
    folder = SweepFolder(tmp_path)
    sweep.plan.save(folder)
    document = json.loads(folder.plan.read_text())
    assert document["scheduler_choice"].startswith("asha that pauses and promotes trials")
    assert document["format"] == 6
    assert SweepPlan.load(folder).scheduler_choice == sweep.plan.scheduler_choice
    named = swept(PLAIN, "scheduler.name=none", "search.num_trials=3").plan
    assert "scheduler_choice" not in json.loads(named.model_dump_json())


def test_an_older_sweep_continues_replays_and_extends_by_the_design_it_was_launched_with(older):
    sweep = older()
    assert sweep.plan.rung_schedule == RungSchedule(
        rungs=(6, 12, 24), places=sweep.plan.rung_schedule.places, num_trials=23, maximum=27, budget=0.4 * 23 * 27
    )
    assert {"design", "resource", "most_passes"}.isdisjoint(json.loads(sweep.plan.model_dump_json())["ladder"])
    assert replay(sweep.plan, sweep.events).differences == ()
    longer = extension(sweep.plan, Wish(more_trials=8, settings=("trial.epochs=81",)), num_existing=24).plan
    assert longer.rungs == (6, 12, 24, 48)
    assert longer.rung_schedule.budget == pytest.approx(0.4 * 31 * 81)
    other, _ = what_if(sweep.plan, sweep.state, ["scheduler.budget_fraction=0.3"], workers=4)
    assert other.rung_schedule.design == 1
    without = SweepPlan(**{**dict(sweep.plan), "rung_schedule": None})
    assert without.scheduler.schedule.design == 1


@pytest.mark.parametrize("num_trials", [2, 3, 4, 8, 12])
def test_a_small_sweep_costs_its_budget_with_the_baseline_or_what_ends_one_trial_besides_it(swept, num_trials):
    sweep = swept(PLAIN, f"search.num_trials={num_trials}", "scheduler.budget_fraction=0.3")
    cheapest = 27 + (num_trials - 2) + 27
    assert sweep.state.epochs_run <= max(0.3 * num_trials * 27, cheapest)
    assert sum(trial.status == "completed" for trial in sweep.state.trials.values()) >= 2


def test_a_sweep_with_two_objectives_ends_a_front_of_trials_at_a_small_budget():
    text = PLAIN.replace("num_trials: 24", "num_trials: 64").replace("0.4", "0.2") + (
        "objective: [val/accuracy max, val/robust_accuracy max]\n"
    )
    assert rung_schedule_of(parse_spec(text), max_epochs=27).places[-1] == 5
    one = text.replace("objective: [val/accuracy max, val/robust_accuracy max]", "objective: val/accuracy max")
    assert rung_schedule_of(parse_spec(one), max_epochs=27).places[-1] < 5


@pytest.mark.parametrize(
    ("text", "settings", "says"),
    [
        (ATTACKED, ["scheduler.resource=gpu_seconds"], "scheduler.resource: must be 'auto', 'epochs' or 'gradient"),
        (ATTACKED, ["scheduler.name=auto", "scheduler.strata=[optimizer.lr]"], "scheduler.strata: must be empty"),
        (ATTACKED, ["scheduler.brackets=2"], "scheduler.brackets: must be 1 for asha with grace_period: auto"),
        (
            ATTACKED,
            ["search.seeds=2", "scheduler.grace_period=3", "scheduler.resource=gradient_evaluations"],
            "scheduler.resource: must be epochs with search.seeds: 2",
        ),
    ],
)
def test_what_a_budget_cannot_be_counted_in_is_refused_with_its_place(text, settings, says):
    with pytest.raises(SpecError) as error:
        parse_spec(text, settings)
    assert says in str(error.value)


def test_with_seeds_the_budget_of_gradient_evaluations_counts_every_seed(swept):
    sweep = swept(ATTACKED, "search.seeds=2", "search.num_trials=12", "scheduler.budget_fraction=0.5")
    assert replay(sweep.plan, sweep.events).differences == ()
    trials = [trial for trial in sweep.state.trials.values() if not trial.id.endswith("s1")]
    costs = [passes_per_epoch(trial.config) for trial in trials]
    assert gradients(sweep) <= 0.5 * sum(costs) * 27 * 2 + max(costs) * 27 * 2


@pytest.fixture
def by_mean_cost(swept, monkeypatch):
    """A sweep as the version before launched it, in whose schedule a place is worth the mean cost of its trials."""
    from orchestrator.scheduling import registry

    def run(text, *settings):
        with monkeypatch.context() as patched:
            schedule = registry.rung_schedule_of(parse_spec(text, list(settings)), max_epochs=27, design=2)
            patched.setattr("orchestrator.planning.plan.rung_schedule_of", lambda *_, **__: schedule)
            return swept(text, *settings)

    return run


def promised(text, *settings):
    """Gradient evaluations of each image that `ravel plan` promises."""
    spec = parse_spec(text, list(settings))
    return forecast(spec, slots=4, pauses=True).gradient_evaluations.mean


@pytest.mark.parametrize("sampler", ["random", "auto"])
@pytest.mark.parametrize("fraction", [0.2, 0.3, 0.4])
def test_a_sweep_spends_the_gradient_evaluations_that_its_plan_promises_whatever_its_points_cost(
    swept, fraction, sampler
):
    settings = [f"scheduler.budget_fraction={fraction}", f"search.sampler={sampler}", "search.num_trials=64"]
    promise = promised(ATTACKED, *settings)
    assert promise == pytest.approx(fraction * 64 * 27 * mean_passes_of(parse_spec(ATTACKED)), rel=0.02)
    assert 0.95 * promise <= gradients(swept(ATTACKED, *settings)) <= 1.02 * promise


@pytest.mark.parametrize("steps", [1, 4])
def test_the_budget_follows_the_space_and_the_given_points_and_not_what_a_sampler_proposes(swept, steps, monkeypatch):
    def chosen(space, seed):
        return {**space.sample(seed), "adversarial.epsilon": 0.1, "adversarial.steps": steps}

    spec = parse_spec(ATTACKED, ["search.num_trials=64"])
    budget = 0.4 * 64 * 27 * mean_passes_of(spec)
    monkeypatch.setattr("orchestrator.decisions.propose.random_point", chosen)
    sweep = swept(ATTACKED, "search.num_trials=64")
    assert {passes_per_epoch(trial.config) for name, trial in sweep.state.trials.items() if name != "t000"} == {
        steps + 1
    }
    assert 0.95 * budget <= gradients(sweep) <= 1.02 * budget


def test_given_points_are_part_of_the_mean_cost_that_a_budget_is_a_share_of():
    point = "{adversarial.epsilon: 0.1, adversarial.steps: 10, optimizer.lr: 0.%d}"
    points = ", ".join(point % number for number in range(1, 24))
    schedule = rung_schedule_of(parse_spec(ATTACKED, [f"search.points=[{points}]"]), max_epochs=27)
    assert schedule.mean_passes == 11
    assert schedule.passes == int((0.4 * 24 - 1 / 11) * 27 * 11)


def test_a_sweep_whose_places_were_worth_its_mean_cost_continues_replays_and_extends_by_that(by_mean_cost):
    sweep = by_mean_cost(ATTACKED)
    schedule = sweep.plan.rung_schedule
    assert (schedule.design, schedule.mean_passes, schedule.passes) == (2, None, None)
    assert "mean_passes" not in json.loads(sweep.plan.model_dump_json())["ladder"]
    assert replay(sweep.plan, sweep.events).differences == ()
    longer = extension(sweep.plan, Wish(more_trials=8), num_existing=24).plan.rung_schedule
    assert (longer.design, longer.mean_passes) == (2, None)
    other, _ = what_if(sweep.plan, sweep.state, ["scheduler.budget_fraction=0.3"], workers=4)
    assert other.rung_schedule.design == 2


def test_an_extension_fixes_the_budget_of_the_new_numbers_in_gradient_evaluations(swept):
    sweep = swept(ATTACKED)
    longer = extension(sweep.plan, Wish(more_trials=8), num_existing=24)
    mean = mean_passes_of(sweep.plan.spec)
    assert longer.plan.rung_schedule.passes == int((0.4 * 32 - 1 / mean) * 27 * mean)
    words = f"budget: {0.4 * 24 * 27 * mean:.0f} to {0.4 * 32 * 27 * mean:.0f} gradient evaluations of each image"
    assert any(note.startswith(words) for note in longer.notes)


def test_a_simulated_budget_is_a_share_of_the_cost_that_the_plan_of_a_sweep_takes_for_random_points():
    table = load_table(Path(__file__).parents[2] / "benchmarks" / "scheduling" / "tables" / "mnist.json.gz")
    assert mean_passes_of(spec_for(table, "val/accuracy")) == Surrogate(table).mean_passes
