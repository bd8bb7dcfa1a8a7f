"""Sweep as an Optuna study, read back by Optuna and compared with the log."""

import json

import optuna
import planted_sweeps as planted
import pytest
import varied_sweep as varied

from orchestrator.analysis.comparison.comparison import compare
from orchestrator.analysis.result import SweepResult
from orchestrator.export import registry
from search_spaces.adapters.optuna import from_optuna


def loaded(folder, **arguments):
    place = registry.export(
        folder, "optuna", folder.path.parent / f"study-{arguments.get('epoch')}.db", **arguments
    ).path
    return optuna.load_study(study_name=folder.sweep, storage=f"sqlite:///{place}")


def assert_close(point, expected):
    """Assert equality, of floats to 1e-9: a signed-log coordinate is not exact."""
    assert point.keys() == expected.keys()
    for name, value in expected.items():
        assert point[name] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return varied.write(tmp_path_factory.mktemp("varied"))


@pytest.fixture(scope="module")
def study(folder):
    return loaded(folder)


def test_every_trial_has_its_state_in_the_order_of_the_log(study):
    states = ["COMPLETE", "COMPLETE", "COMPLETE", "PRUNED", "PRUNED", "FAIL", "FAIL", "RUNNING", "WAITING"]
    assert [trial.state.name for trial in study.trials] == states
    assert [trial.user_attrs["trial"] for trial in study.trials] == list(varied.TRIALS)


def test_intermediate_values_are_the_epochs_of_the_log_bit_for_bit(study):
    for trial in study.trials:
        curve = varied.TRIALS[trial.user_attrs["trial"]][2]
        assert trial.intermediate_values == {
            epoch: value for epoch, value in enumerate(curve, start=1) if value is not None
        }


def test_only_a_full_run_has_a_value(study):
    values = {trial.user_attrs["trial"]: trial.values for trial in study.trials if trial.values}
    assert values == {"t000": [0.7], "t001": [1 / 3 + 0.5], "t002": [0.8]}


def test_the_best_trial_is_that_of_ravel_best_though_a_stopped_one_has_a_higher_value(study, folder):
    best = SweepResult.read(folder).best()
    assert (
        (study.best_trial.user_attrs["trial"], study.best_value) == (best.trial.id, best.score) == ("t001", 1 / 3 + 0.5)
    )
    assert max(study.trials[3].intermediate_values.values()) > study.best_value


def test_with_an_epoch_the_best_trial_is_that_of_ravel_best_at_that_epoch(folder):
    study, result = loaded(folder, epoch=3), SweepResult.read(folder)
    comparison = compare(result.plan, result.state, epoch=3)
    complete = {trial.user_attrs["trial"]: trial.value for trial in study.get_trials(states=[1])}
    assert complete == comparison.values
    assert study.best_trial.user_attrs["trial"] == comparison.best == "t003"


@pytest.mark.parametrize("epoch", [None, 1, 3, 9, 27])
def test_the_best_value_of_a_larger_sweep_is_that_of_ravel_best(tmp_path, epoch):
    result = planted.misleading(tmp_path)
    study = loaded(result.folder, epoch=epoch)
    comparison = compare(result.plan, result.state, epoch=epoch or 27)
    assert study.best_value == comparison.values[comparison.best]
    assert study.best_trial.user_attrs["trial"] in comparison.equal_to_best


def test_distributions_are_those_that_were_searched(study):
    kinds = optuna.distributions
    assert study.trials[1].distributions == {
        "optimizer.name": kinds.CategoricalDistribution(("sgd", "adamw")),
        "optimizer.lr": kinds.FloatDistribution(1e-4, 1.0, log=True),
        "optimizer.momentum": kinds.FloatDistribution(0.5, 0.99),
        "mixup.alpha.gate": kinds.FloatDistribution(0.0, 1.0),
        "snnl.weight": study.trials[2].distributions["snnl.weight"],
        "batch_size": kinds.IntDistribution(0, 2),
        "adversarial.steps": kinds.IntDistribution(1, 64, log=True),
    }
    assert "optimizer.momentum" not in study.trials[2].params  # a conditional one that is not active
    assert study.trials[2].distributions["mixup.alpha"] == kinds.FloatDistribution(0.1, 4.0)
    assert "mixup.alpha" not in study.trials[1].params


def test_params_are_the_point_of_the_trial(study, folder):
    space = SweepResult.read(folder).plan.spec.space
    for trial in study.trials[1:]:
        point = varied.TRIALS[trial.user_attrs["trial"]][0]
        assert_close(from_optuna(space, trial.params), point)
        assert json.loads(trial.user_attrs["point"]) == point


def test_of_a_baseline_outside_the_space_each_parameter_inside_it_is_kept(study):
    baseline = study.trials[0]
    assert baseline.user_attrs["outside_the_space"] == "adversarial.epsilon, snnl.weight"
    assert baseline.params["optimizer.lr"] == 1e-3
    assert "snnl.weight" not in baseline.params


def test_a_trial_has_its_seed_cost_reason_and_times(study):
    failed, complete = study.trials[6], study.trials[2]
    assert failed.user_attrs["reason"] == varied.REASON
    assert failed.user_attrs["cause"] == "user"
    assert (complete.user_attrs["training_s"], complete.user_attrs["gpu_s"]) == (4.5, 2.25)
    assert isinstance(complete.user_attrs["seed"], int)
    assert complete.user_attrs["metrics.val/nll"] == 1.0 - 9 / 10
    pruned = study.trials[3]
    assert (complete.datetime_complete - complete.datetime_start).total_seconds() == pytest.approx(49)
    assert (pruned.datetime_complete - pruned.datetime_start).total_seconds() == pytest.approx(5)  # its last report


def test_a_study_of_two_objectives_has_both_directions_and_the_pareto_front_of_the_sweep(tmp_path):
    folder = varied.write(tmp_path, text=varied.SPEC + varied.TWO)
    study, front = loaded(folder), SweepResult.read(folder).front()
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["val/accuracy", "val/nll"]
    assert [trial.user_attrs["trial"] for trial in study.best_trials] == [trial.trial.id for trial in front]
    assert study.trials[1].values == [1 / 3 + 0.5, 1.0 - 9 / 10]


def test_optuna_continues_the_study_with_the_waiting_trial_first(tmp_path):
    study = loaded(varied.write(tmp_path))
    trial = study.ask()
    assert trial.number == 8
    assert trial.suggest_float("optimizer.lr", 1e-4, 1.0, log=True) == 1e-3


def test_a_full_run_that_measured_no_objective_is_a_failure(tmp_path):
    trials = {"t001": (varied.TRIALS["t001"][0], "completed", [None, None])}
    (trial,) = loaded(varied.write(tmp_path, trials=trials)).trials
    assert trial.state.name == "FAIL"


def test_the_verbosity_of_optuna_is_left_as_it_was(tmp_path):
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        loaded(varied.write(tmp_path))
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    finally:
        optuna.logging.set_verbosity(optuna.logging.INFO)


def test_params_hold_for_points_that_the_space_samples(tmp_path):
    from orchestrator.planning.loading import parse_spec

    space = parse_spec(varied.SPEC).space
    points = space.sample_many(40, seed=3)
    trials = {f"t{index:03d}": (point, "completed", [0.1]) for index, point in enumerate(points)}
    study = loaded(varied.write(tmp_path, trials=trials))
    for trial, point in zip(study.trials, points, strict=True):
        assert_close(from_optuna(space, trial.params), point)
