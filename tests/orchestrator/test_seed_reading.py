"""What is read of a sweep with several seeds: rows, bests, comparisons, progress, forks and confirmations by means."""

import math
import random

import pytest
from rich.console import Console

from orchestrator.analysis.comparison.comparison import compare
from orchestrator.analysis.comparison_output import trials_table
from orchestrator.analysis.forecast.forecast import expected_epochs, forecast
from orchestrator.analysis.leaderboard import best_lines, event_line, log_line, shown_parameters, table
from orchestrator.analysis.result import SweepResult
from orchestrator.analysis.sweep_progress import progress, trials_over
from orchestrator.cli.run import describe
from orchestrator.decisions.trial_views import DecisionState
from orchestrator.errors import OrchestratorError
from orchestrator.export import tables
from orchestrator.export.history import SweepHistory, histories
from orchestrator.export.optuna_storage import frozen_trials
from orchestrator.planning.changes.fork import confirmation, fork
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.seeds import configuration_of, searched_state, seed_index_of
from orchestrator.state.events import SeedsDropped
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState
from orchestrator.tracking.runs import trial_tags

SPEC = """
name: virtual
trial: {epochs: 9, optimizer.name: sgd}
space:
  use: [mixup]
  parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}
search: {num_trials: 12, seed: 3, sampler: random, seeds: 3}
scheduler: {SCHEDULER}
"""
IMAGES = 360


def noisy(trial, epoch):
    """Seed 2 of one configuration is lucky, so that the best trial is not of the best configuration."""
    quality = 0.9 - abs(math.log10(trial.point["optimizer.lr"] / 0.03)) / 10
    noise = random.Random(trial.id).gauss(0, 0.01) + 0.08 * (trial.id == "t000s2")
    value = (quality + noise) * (1 - math.exp(-epoch / 2))
    return {"val/accuracy": round(value * IMAGES) / IMAGES}


def sweep_of(virtual_sweep, scheduler):
    return virtual_sweep(SPEC.replace("SCHEDULER", scheduler), workers=3, of_trial=noisy)


@pytest.fixture
def raced(virtual_sweep):
    return sweep_of(virtual_sweep, "name: none")


@pytest.fixture
def promoted(virtual_sweep):
    return sweep_of(virtual_sweep, "grace_period: 1")


def means(sweep):
    values = {}
    for name, trial in sweep.state.trials.items():
        if trial.status == "completed":
            values.setdefault(configuration_of(name), []).append(trial.epochs[9]["val/accuracy"])
    return {name: math.fsum(some) / 3 for name, some in values.items() if len(some) == 3}


def test_the_best_is_the_best_mean_and_not_the_luckiest_seed(raced):
    result = SweepResult(raced.plan, raced.state, SweepFolder(raced.plan.sweep))
    best = max(means(raced).items(), key=lambda item: item[1])
    luckiest = max(raced.state.trials.values(), key=lambda trial: trial.epochs[trial.epoch]["val/accuracy"])
    assert luckiest.id == "t000s2" != best[0]
    assert (result.best().trial.id, result.best().score) == best
    assert best_lines(raced.plan, raced.state)[0].startswith(
        f"best {best[0]}: val/accuracy {best[1]:.4f} (mean of 3 seeds) after epoch 9; baseline t000: "
    )


@pytest.mark.parametrize("epoch", [None, 3])
def test_an_exported_study_has_a_trial_for_each_configuration_and_the_best_of_ravel_best(promoted, epoch):
    folder = SweepFolder(promoted.plan.sweep)
    history = SweepHistory(promoted.plan, promoted.state, folder, histories(promoted.events, promoted.state), epoch)
    values = {trial.user_attrs["trial"]: trial.value for trial in frozen_trials(history) if trial.value is not None}
    compared = compare(promoted.plan, promoted.state, epoch=epoch or 9)
    assert values == compared.values
    assert max(values, key=values.get) == compared.best
    assert len(frozen_trials(history)) == 12
    (best,) = [trial for trial in frozen_trials(history) if trial.user_attrs["trial"] == "t000"]
    assert best.user_attrs["trials"] == ["t000", "t000s1", "t000s2"]
    assert best.user_attrs["training_s"] == 27.0


def test_dropped_seeds_are_no_longer_planned(raced):
    events = [event for event in raced.events if event.kind != "sweep_ended"]
    assert any(isinstance(event, SeedsDropped) for event in events)
    seen = progress(raced.plan, SweepState(events), now=events[-1].time)
    assert seen.epochs_planned == seen.epochs_run < seen.epochs_full


def test_an_exported_table_has_a_row_for_each_seed_with_its_configuration(promoted):
    folder = SweepFolder(promoted.plan.sweep)
    history = SweepHistory(promoted.plan, promoted.state, folder, histories(promoted.events, promoted.state), None)
    columns = tables.trials_table(history).columns
    place = dict(zip(columns["trial"], zip(columns["configuration"], columns["seed_index"], strict=True), strict=True))
    assert place["t000s2"] == ("t000", 2)
    assert len(place) == len(promoted.state.trials) > 12


def test_the_leaderboard_has_a_row_for_each_configuration_with_its_seeds_and_interval(raced):
    console = Console(width=120, record=True)
    console.print(table(raced.plan, raced.state, top=20))
    lines = console.export_text().splitlines()
    rows = {line.split()[1].rstrip("*"): line.split() for line in lines if line.split()[1:2] and "/9" in line}
    assert list(rows) == [trial for trial in rows if configuration_of(trial) == trial]
    assert len(rows) == 12
    for name, mean in means(raced).items():
        assert rows[name][2:4] == [f"{mean:.4f}", "3/3"]
        assert float(rows[name][4]) > 0
    dropped = next(event for event in raced.events if isinstance(event, SeedsDropped))
    assert rows[dropped.trial][3] in {"1/3", "2/3"}


def test_the_set_that_cannot_be_told_apart_is_by_paired_tests_over_seeds(raced):
    comparison = compare(raced.plan, raced.state, epoch=9)
    assert comparison.values == pytest.approx(means(raced))
    assert comparison.images == IMAGES
    assert comparison.best in comparison.inseparable
    assert "over 3 seeds, epoch 9" in comparison.sentence()
    low, high = comparison.over_seeds(comparison.best)
    assert low < comparison.values[comparison.best] < high
    assert f"(95 % over seeds: {low:.4f} to {high:.4f}; the one above: over images)" in comparison.lines()[2]
    assert set(comparison.as_json()["seeds"]) == set(comparison.values)


def test_a_comparison_says_that_dropped_configurations_lack_a_mean_and_calls_them_as_the_leaderboard_does(raced):
    dropped = [event.trial for event in raced.events if isinstance(event, SeedsDropped)]
    comparison = compare(raced.plan, raced.state, epoch=9)
    assert comparison.lines()[-1] == (
        f"not compared, without a mean over 3 seeds at epoch 9: {len(dropped)} configurations"
    )
    console = Console(width=120, record=True)
    console.print(trials_table(raced.plan, raced.state, comparison, top=20))
    text = console.export_text()
    assert f"{12 - len(dropped)} of 12 configurations" in text
    rows = [line for line in text.splitlines() if line.split()[:1] and line.split()[0] in dropped]
    assert rows
    assert all("dropped" in row and "rung" not in row and "full budget" not in row for row in rows)


def test_an_epoch_without_means_is_refused_with_those_that_have_some(promoted):
    with pytest.raises(OrchestratorError, match=r"got 2; this sweep has means over seeds at 1, 3, 9$"):
        compare(promoted.plan, promoted.state, epoch=2)


def test_a_searched_learning_rate_has_one_column(raced):
    names = shown_parameters(raced.plan)
    assert names.count("optimizer.lr") == 1
    assert len(set(names)) == len(names)


def test_a_rung_with_one_seed_is_compared_over_images(promoted):
    comparison = compare(promoted.plan, promoted.state, epoch=1)
    assert len(comparison.values) == 12
    assert "validation images, epoch 1" in comparison.sentence()


def test_progress_counts_configurations_and_all_epochs(raced):
    summary = progress(raced.plan, raced.state, now=raced.state.last_time)
    dropped = [event for event in raced.events if isinstance(event, SeedsDropped)]
    assert summary.num_trials == summary.over == 12
    assert summary.epochs_full == 12 * 3 * 9 > summary.epochs_run == raced.state.epochs_run
    assert trials_over(summary) == (
        f"12/12 configurations over: {len(dropped)} dropped by racing, {12 - len(dropped)} at full budget"
    )


def test_a_drop_is_a_line_in_words(raced):
    event = next(event for event in raced.events if isinstance(event, SeedsDropped))
    numbers = ", ".join(f"{event.trial}s{number}" for number in event.seeds)
    assert f"{event.trial}: racing drops {numbers}: with " in event_line(raced.plan, raced.state, event)
    assert "seeds_dropped trial=" in log_line(event)


def test_the_dry_run_names_configurations_and_seeds():
    spec = parse_spec(SPEC.replace("SCHEDULER", "grace_period: auto"))
    assert describe(spec).startswith("12 configurations of up to 3 seeds over 4 parameters")


@pytest.mark.parametrize("scheduler", ["name: none", "grace_period: 1", "grace_period: auto"])
def test_a_forecast_counts_the_epochs_of_all_seeds(virtual_sweep, scheduler, monkeypatch):
    monkeypatch.setattr("orchestrator.scheduling.racing.CHANCE", 0.0)
    sweep = sweep_of(virtual_sweep, scheduler)
    expected = forecast(sweep.plan.spec, slots=3, pauses=sweep.plan.pauses)
    ran = sweep.state.epochs_run
    assert expected.epochs.low * 0.9 <= ran <= expected.epochs.high * 1.1
    assert expected_epochs(sweep.plan) == pytest.approx(ran, rel=0.35)
    assert expected.share == pytest.approx(expected.epochs.mean / (12 * 3 * 9))


def test_a_fork_begins_with_the_best_configurations(raced):
    made = fork(raced.plan, raced.state, SweepFolder(raced.plan.sweep), name="next", settings=[], best=2)
    ranked = sorted(means(raced).items(), key=lambda item: -item[1])
    assert made.parent.trials == tuple(name for name, _ in ranked if name != "t000")[:2]
    assert made.spec.search.seeds == 3


def test_a_confirmation_ranks_means_and_takes_fresh_seeds(raced):
    made = confirmation(
        raced.plan, raced.state, SweepFolder(raced.plan.sweep), name="sure", top=2, seeds=4, suites=["clean"]
    )
    found = means(raced)
    ranked = sorted(
        (name for name in found if raced.state.trials[name].point["mixup.alpha"]), key=lambda name: -found[name]
    )
    assert made.parent.trials == tuple(ranked[:2])
    gains = [each.searched for each in made.parent.confirmation.configurations[1:]]
    assert gains == pytest.approx([found[name] - found["t000"] for name in ranked[:2]])
    used = {trial.config["seed"] for trial in raced.state.trials.values()}
    fresh = {point["seed"] for point in made.spec.search.points}
    assert len(fresh) == 4
    assert not used & fresh
    assert made.spec.search.seeds == 1


def test_runs_of_mlflow_are_tagged_with_configuration_and_seed(raced):
    for name, trial in raced.state.trials.items():
        tags = trial_tags(raced.plan, trial)
        assert tags["ravel.configuration"] == f"{raced.plan.sweep}/{configuration_of(name)}"
        assert tags["ravel.seed_index"] == str(seed_index_of(name))


def test_what_is_read_is_what_decisions_saw(raced, promoted):
    for sweep in (raced, promoted):
        read, decided = searched_state(sweep.plan, sweep.state), DecisionState(sweep.plan, sweep.state).searched
        assert read.trials == decided.trials == sweep.decisions.searched.trials


def test_a_dataframe_has_configuration_and_seed_of_each_trial(raced):
    frame = SweepResult(raced.plan, raced.state, SweepFolder(raced.plan.sweep)).dataframe()
    assert list(frame["configuration"]) == [configuration_of(name) for name in frame["trial"]]
    assert list(frame["seed_index"]) == [seed_index_of(name) for name in frame["trial"]]
