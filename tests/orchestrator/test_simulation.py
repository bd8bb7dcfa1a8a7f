"""Simulated sweeps: the decisions of live ones, on curves that are known."""

import gzip
import json
import math
import statistics

import pytest
from test_virtual_sweeps import SCHEDULERS, by_alpha, spec_of
from typer.testing import CliRunner

from orchestrator.analysis.replay import replay
from orchestrator.cli.main import app
from orchestrator.errors import SpecError
from orchestrator.planning.loading import parse_spec
from orchestrator.simulation.objective_value import Value
from orchestrator.simulation.runs import KnownRun, RecordedRuns
from orchestrator.simulation.surrogate import Surrogate
from orchestrator.simulation.sweep_table import sweep_table
from orchestrator.simulation.tables import LEAST_POINTS, load_table, table_of
from orchestrator.simulation.virtual_sweep import VirtualSweep
from orchestrator.simulation.whole_search import given_points, search, spec_for

EPOCHS = 9
SPACE = {"version": 1, "parameters": {"optimizer.lr": {"float": [0.001, 1.0], "log": True}}}
ACCURACY = Value(("val/accuracy",), "max")


def trial(rate, seed, curve, status="completed"):
    curves = {"val/accuracy": curve, "val/nll": [1 - value for value in curve], "time/epoch_s": [2.0] * len(curve)}
    return {
        "trial": f"{rate}-{seed}",
        "seed": seed,
        "point": {"optimizer.lr": rate},
        "status": status,
        "curves": curves,
    }


def document(trials, space=SPACE):
    return {"name": "tiny", "fixed": {"optimizer.name": "sgd"}, "space": space, "trials": trials}


def learning(rate, epoch):
    return (0.9 - abs(math.log10(rate / 0.03)) / 5) * (1 - math.exp(-epoch / 3))


@pytest.fixture(scope="module")
def table():
    """Thirty rates, two training seeds each: the second is higher by 0.02 at every epoch."""
    rates = [10 ** (-3 + 3 * (index + 0.5) / 30) for index in range(30)]
    lifted = [
        (rate, seed, [learning(rate, e) + 0.02 * seed for e in range(1, 10)]) for rate in rates for seed in (0, 1)
    ]
    return table_of(document([trial(*each) for each in lifted]))


@pytest.fixture(scope="module")
def surrogate(table):
    return Surrogate(table)


class KnownRuns:
    """Curves of the virtual sweeps of the other tests."""

    def __init__(self, metrics):
        self._metrics = metrics

    def run_of(self, trial):
        values = [self._metrics(trial.point, epoch)["val/accuracy"] for epoch in range(1, trial.budget + 1)]
        lost = next((index for index, value in enumerate(values) if not math.isfinite(value)), len(values))
        return KnownRun({"val/accuracy": values}, lost, by_alpha(trial.point), _passes(trial.config))


def _passes(config):
    return 1 + ("adversarial.epsilon" in config and bool(config["adversarial.epsilon"]))


def curve_of(point, epoch):
    rate, alpha = point["optimizer.lr"], point["mixup.alpha"]
    end = 0.9 - abs(math.log10(rate / 0.03)) / 10 + 0.02 * alpha
    return {"val/accuracy": end * (1 - math.exp(-epoch / (1 + alpha)))}


def decided(events):
    """What was decided, without the seconds that no decision rests on."""
    kinds = {"trial_created", "rung_decided", "trial_promoted"}
    return [event.model_dump(mode="json", exclude={"time"}) for event in events if event.kind in kinds]


class Recording(VirtualSweep):
    def __init__(self, *arguments, **keywords):
        self.events = []
        super().__init__(*arguments, **keywords)

    def apply(self, event, **keywords):
        self.events.append(event)
        super().apply(event, **keywords)


@pytest.mark.parametrize("leaps", [True, False])
@pytest.mark.parametrize("scheduler", [scheduler for scheduler in SCHEDULERS if "gpu_seconds" not in scheduler])
def test_a_simulated_sweep_decides_as_the_virtual_sweep_of_the_live_path(virtual_sweep, scheduler, leaps):
    expected = virtual_sweep(spec_of(scheduler), workers=3, seconds=by_alpha, metrics=curve_of)
    found = Recording(expected.plan, KnownRuns(curve_of), workers=3, leaps=leaps).run()
    order = (lambda events: sorted(events, key=json.dumps)) if leaps else list
    assert order(decided(found.events)) == order(decided(expected.events))
    ends = {name: (trial.status, trial.epoch) for name, trial in expected.state.trials.items()}
    assert {name: (trial.status, trial.epoch) for name, trial in found.state.trials.items()} == ends


def test_a_simulated_sweep_with_tpe_replays_from_its_events(virtual_sweep):
    plan = virtual_sweep(spec_of("grace_period: auto", "tpe"), workers=3).plan
    sweep = Recording(plan, KnownRuns(curve_of), workers=3, leaps=False).run()
    found = replay(plan, sweep.events)
    assert found.differences == ()
    assert found.counts["trial_created"] == 14


def test_given_points_cost_and_find_what_a_calculation_by_hand_says():
    """Curves are flat. One worker, in the drawn order; of two or three trials the best continues."""
    heights = {0.01: 0.5, 0.02: 0.8, 0.04: 0.6, 0.08: 0.9}
    tiny = table_of(document([trial(rate, 0, [height] * 4) for rate, height in heights.items()]))
    spec = spec_for(tiny, "val/accuracy", scheduler={"grace_period": 1, "reduction_factor": 4, "kind": "stopping"})
    order = [recorded.point["optimizer.lr"] for recorded in RecordedRuns(tiny, ACCURACY, seed=30).trials]
    assert [heights[rate] for rate in order] == [0.6, 0.9, 0.5]
    found = given_points(spec, tiny, ACCURACY, workers=1, seed=30)
    # 0.6 comes first and is kept: 4 epochs. 0.9 is the best of two: 4. 0.5 is stopped after 1.
    assert found.epochs == 4 + 4 + 1
    assert found.ended_at_s == 9 * 2.0
    assert (found.best, found.true, found.regret, found.found_at_s) == ("t001", 0.9, 0.0, 16.0)
    assert (found.full_epochs, found.share) == (12, 9 / 12)
    assert [(each.trial, each.passes, each.at_s) for each in found.completed] == [("t000", 4, 8.0), ("t001", 8, 16.0)]


def test_regret_is_of_the_true_value_of_the_trial_that_measured_best(surrogate):
    spec = spec_for(
        surrogate.table, "val/accuracy", search={"sampler": "random", "num_trials": 12}, scheduler={"name": "none"}
    )
    found = search(spec, surrogate, seed=3)
    true = {name: surrogate.true_final(trial.config)["val/accuracy"] for name, trial in found.state.trials.items()}
    measured = {name: trial.last("val/accuracy") for name, trial in found.state.trials.items()}
    best = max(measured, key=measured.get)
    assert (found.best, found.true) == (best, true[best])
    assert found.regret == found.optimum - true[best]
    assert found.optimum >= max(true.values())
    assert found.epochs == 12 * EPOCHS


def test_the_surrogate_predicts_points_that_it_did_not_see(surrogate):
    at = {(each.metric, each.epoch): each for each in surrogate.quality}
    assert set(at) == {(metric, epoch) for metric in ("val/accuracy", "val/nll") for epoch in (3, EPOCHS)}
    assert min(each.spearman for each in at.values()) > 0.9
    assert abs(surrogate.true_final({"optimizer.lr": 0.03})["val/accuracy"] - learning(0.03, EPOCHS)) < 0.04


def test_noise_is_what_training_seeds_differ_by_and_the_same_at_all_epochs_of_a_trial(surrogate):
    """Two seeds are 0.02 apart: 0.01 from their mean, of two, so 0.01 times the root of two."""
    noise = set()
    for seed in range(20):
        curve = surrogate.curve({"optimizer.lr": 0.001 + 0.02 * seed}, seed)
        pairs = zip(curve.measured["val/accuracy"], curve.true["val/accuracy"], strict=True)
        noise.add(tuple(round(measured - true, 6) for measured, true in pairs))
    assert noise == {(round(sign * 0.01 * math.sqrt(2), 6),) * EPOCHS for sign in (1, -1)}


def test_a_seed_that_collapsed_makes_no_other_trial_lucky():
    trials = [trial(0.002 * (i + 1), s, [0.9 + 0.002 * s] * 3) for i in range(20) for s in (0, 1)]
    trials += [trial(0.5, 0, [0.9] * 3), trial(0.5, 1, [0.1] * 3)]
    collapsed = Surrogate(table_of(document(trials)))
    lifts = [
        collapsed.curve({"optimizer.lr": 0.45}, seed).measured["val/accuracy"][-1]
        - collapsed.true_final({"optimizer.lr": 0.45})["val/accuracy"]
        for seed in range(40)
    ]
    assert max(map(abs, lifts)) < 0.01


def test_points_diverge_about_as_often_as_recorded_ones_like_them():
    whole = [trial(0.01 + 0.001 * i, 0, [0.5] * EPOCHS) for i in range(20)]
    lost = [trial(0.9 + 0.004 * i, 0, [0.3] * 2, status="diverged") for i in range(20)]
    half = Surrogate(table_of(document([*whole, *lost])))
    ends = {rate: [half.curve({"optimizer.lr": rate}, seed).epochs for seed in range(20)] for rate in (0.012, 0.95)}
    assert set(ends[0.012]) == {EPOCHS}
    assert ends[0.95].count(2) > 15
    spec = spec_for(half.table, "val/accuracy", search={"sampler": "random", "num_trials": 20})
    statuses = {trial.status for trial in search(spec, half).state.trials.values()}
    assert "diverged" in statuses


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_search_is_a_function_of_its_seed(table, surrogate, sampler):
    spec = spec_for(table, "val/accuracy", search={"sampler": sampler, "num_trials": 14})
    first, again, other = (
        search(spec, surrogate, seed=1),
        search(spec, Surrogate(table), seed=1),
        search(spec, surrogate, seed=2),
    )
    assert first == again
    assert first != other


def test_policies_are_paired_the_same_trial_has_the_same_noise_under_each(table, surrogate):
    none, asha = (
        search(
            spec_for(table, "val/accuracy", search={"sampler": "random", "num_trials": 14}, scheduler=scheduler),
            surrogate,
        )
        for scheduler in ({"name": "none"}, {"budget_fraction": 0.4})
    )
    for name, stopped in asha.state.trials.items():
        whole = none.state.trials[name]
        assert stopped.epochs == {epoch: whole.epochs[epoch] for epoch in stopped.epochs}


def test_a_limit_is_never_exceeded_and_what_it_does_not_pay_for_is_not_begun(table, surrogate):
    spec = spec_for(table, "val/accuracy", search={"sampler": "random", "num_trials": 40}, scheduler={"name": "none"})
    found = search(spec, surrogate, limit=3.5 * EPOCHS, workers=2)
    assert found.passes == found.epochs == 3 * EPOCHS
    assert len(found.completed) == 3
    assert len(found.state.with_status("interrupted")) == 1


def test_a_mean_of_two_metrics_is_an_objective(table, surrogate):
    accuracy = search(spec_for(table, "val/accuracy"), surrogate, seed=1)
    nll = search(spec_for(table, "val/nll"), surrogate, seed=1)
    assert (nll.optimum, nll.regret) == (
        pytest.approx(1 - accuracy.optimum, abs=0.02),
        pytest.approx(nll.true - nll.optimum),
    )
    value = Value.of("val/accuracy+val/accuracy")
    assert search(spec_for(table, str(value)), surrogate, objective=str(value), seed=1).regret == accuracy.regret


OWN = """
class Low:
    def propose(self, space, trials, seed):
        return {"optimizer.lr": 0.03}

class Half:
    pauses, rungs = False, (3,)
    def decide(self, views, trial, level):
        from orchestrator.scheduling.rung_decision import RungDecision
        return RungDecision(level, kept=trial.endswith("1"))
    def promote(self, views, *, unstarted):
        return None
"""


def test_a_sampler_and_a_scheduler_of_the_user_are_simulated_by_import_path(tmp_path, monkeypatch, table, surrogate):
    (tmp_path / "mine_simulated.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    search_section = {"sampler": "mine_simulated:Low", "num_trials": 12}
    spec = spec_for(table, "val/accuracy", search=search_section, scheduler={"name": "mine_simulated:Half"})
    found = search(spec, surrogate)
    assert {trial.point["optimizer.lr"] for trial in found.state.trials.values() if trial.origin == "search"} == {0.03}
    assert {trial.id for trial in found.state.with_status("completed")} == {"t000", "t001", "t011"}


def ravel(*arguments, code=0):
    result = CliRunner().invoke(app, ["simulate", *arguments], catch_exceptions=True)
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.stdout


@pytest.fixture
def recorded(tmp_path, monkeypatch, table):
    monkeypatch.chdir(tmp_path)
    trials = [
        {"trial": "x", "seed": each.seed, "point": each.point, "status": "completed", "curves": each.curves}
        for each in table.trials
    ]
    (tmp_path / "tiny.json.gz").write_bytes(gzip.compress(json.dumps(document(trials)).encode()))
    return "tiny.json.gz"


def test_the_command_prints_quality_costs_and_paired_regrets(recorded):
    lines = ravel(recorded, "--samplers", "random", "--sweeps", "3", "--trials", "12").splitlines()
    assert lines[0] == "tiny: 30 points, 60 trials of 9 epochs"
    assert lines[1].startswith("surrogate of val/accuracy: epoch 3 R² 0.9")
    assert lines[2] == "noise: differences between training seeds"
    assert lines[3] == "3 searches of 12 trials, paired by seed; regret of val/accuracy max with its 95 % interval"
    assert [line.split()[:4] for line in lines[5:]] == [
        ["sampler", "scheduler", "budget", "workers"],
        ["random", "none", "-", "8"],
        ["random", "asha", "0.3", "8"],
    ]
    assert lines[6].split()[4:6] == ["1.000", "1.000"]
    assert lines[6].endswith("+0.0000 ± 0.0000")


def test_the_command_as_json_has_the_regret_of_every_sweep(recorded):
    plain = json.loads(ravel(recorded, "--samplers", "random tpe", "--sweeps", "2", "--trials", "8", "--json"))
    assert [score["policy"]["sampler"] for score in plain["policies"]] == ["random", "random", "tpe", "tpe"]
    for score in plain["policies"]:
        assert score["regret"]["value"] == pytest.approx(statistics.fmean(score["regrets"]))


def test_given_points_test_schedulers_alone(recorded):
    lines = ravel(recorded, "--given-points", "--schedulers", "none median", "--sweeps", "2").splitlines()
    assert lines[1].startswith("2 sweeps over recorded points of 22 trials, paired by seed; regret of val/accuracy max")
    assert [line.split()[0] for line in lines[3:]] == ["scheduler", "none", "median"]


REFUSALS = {
    "tiny.json.gz --objective val/ece": "--objective: must be measured by tiny (val/accuracy, val/nll), got 'val/ece'",
    "tiny.json.gz --objective val/accuracy+val/nll": (
        "--objective: must be metrics of one direction, 'max' or 'min', such as 'val/accuracy' or 'my/loss min'; got "
        "'val/accuracy+val/nll'"
    ),
    "tiny.json.gz --schedulers asha,3": (
        "--schedulers asha,3: must be NAME or NAME,FIELD=VALUE,..., such as asha,grace_period=3; got '3'"
    ),
    "tiny.json.gz --schedulers asha,grace_perod=3": (
        "scheduler.grace_perod: unknown field; did you mean 'grace_period'?"
    ),
    "tiny.json.gz --schedulers pbt": (
        "--schedulers pbt: cannot be simulated: no recorded curve tells how a trial goes on whose values change in the "
        "middle of training; launch it"
    ),
    "tiny.json.gz --workers 0": "--workers: must be whole numbers above 0, separated by spaces; got '0'",
    "tiny.json.gz --budget much": "--budget: must be numbers above 0, separated by spaces; got 'much'",
    "small.json": "tiny: must have at least 16 points with whole curves, got 1",
    "none.json": "none.json: cannot be read: No such file or directory",
    "broken.json": (
        "broken.json: must be a recorded table (name, fixed, space, trials with point, seed, status and curves); "
        "KeyError: 'trials'"
    ),
}


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("arguments", REFUSALS)
def test_a_mistake_is_refused_with_its_place_and_what_would_be_right(tmp_path, arguments):
    (tmp_path / "broken.json").write_text('{"name": "broken"}')
    (tmp_path / "small.json").write_text(json.dumps(document([trial(0.1, seed, [0.5] * 3) for seed in range(20)])))
    result = CliRunner().invoke(app, ["simulate", *arguments.split()])
    assert isinstance(result.exception, SpecError)
    assert str(result.exception) == REFUSALS[arguments]


def test_a_sweep_without_early_stopping_is_a_table(virtual_sweep):
    text = spec_of("name: none").replace("num_trials: 14", "num_trials: 20")
    sweep = virtual_sweep(text, workers=2, metrics=curve_of)
    found = sweep_table(sweep.plan, sweep.state, ["val/accuracy"])
    assert (len(found.trials), found.epochs, found.metrics) == (20, 9, ("val/accuracy",))
    assert found.trials[3].curves["val/accuracy"][4] == sweep.state.trials["t003"].epochs[5]["val/accuracy"]
    assert Surrogate(found).true_final({"optimizer.lr": 0.03, "mixup.alpha": 0.0})["val/accuracy"] > 0.5


@pytest.mark.parametrize("kind", ["stopping", "promotion"])
def test_a_sweep_that_was_audited_whole_is_a_table_too(virtual_sweep, kind):
    text = spec_of(f"grace_period: 1, kind: {kind}, audit: 1.0").replace("num_trials: 14", "num_trials: 20")
    sweep = virtual_sweep(text, workers=2, metrics=curve_of)
    assert any(not decided.kept for trial in sweep.state.trials.values() for decided in trial.rungs.values())
    assert len(sweep_table(sweep.plan, sweep.state, ["val/accuracy"]).trials) == 20


def test_a_sweep_whose_trials_were_stopped_says_how_many_curves_are_whole(virtual_sweep):
    sweep = virtual_sweep(spec_of("grace_period: 1, kind: stopping"), workers=2, metrics=curve_of)
    ended = len(sweep.state.with_status("completed"))
    with pytest.raises(SpecError) as refused:
        sweep_table(sweep.plan, sweep.state, ["val/accuracy"])
    assert str(refused.value) == (
        f"virtual: must have at least {LEAST_POINTS} points with a whole curve of val/accuracy, got {ended} ({ended} "
        "of its 14 trials were trained to their end); launch one with scheduler.name: none, or with scheduler.audit: "
        "1, which trains rejected trials on"
    )


def test_a_metric_that_was_measured_at_some_epochs_alone_is_no_whole_curve(virtual_sweep):
    def metrics(point, epoch):
        return {"val/accuracy": point["optimizer.lr"], **({"val/nll": 1.0} if epoch == 9 else {})}

    text = spec_of("name: none").replace("num_trials: 14", "num_trials: 20").replace("[1.0e-3, 1.0]", "[1.0e-3, 0.5]")
    sweep = virtual_sweep(text, workers=2, metrics=metrics)
    with pytest.raises(SpecError, match=r"list every epoch in trial.evaluation.epochs, so that val/nll is measured"):
        sweep_table(sweep.plan, sweep.state, ["val/nll"])


def test_the_recorded_tables_of_the_project_are_read():
    digits = load_table("benchmarks/scheduling/tables/digits.json.gz")
    assert (len(digits.by_point), len(digits.trials), digits.epochs) == (64, 192, 27)
    assert digits.metrics == ("val/accuracy", "val/robust_accuracy", "val/nll")
    attacked = next(each.point for each in digits.trials if each.point.get("adversarial.attack") == "pgd")
    assert digits.passes(attacked) == 1 + attacked["adversarial.steps"]


def test_one_point_is_predicted_as_by_the_library_that_fitted_the_forest():
    import numpy as np
    from sklearn.ensemble import ExtraTreesRegressor

    from orchestrator.simulation.forest import TREES, Forests

    rng = np.random.default_rng(0)
    rows, targets = rng.random((40, 3)).astype(np.float32), rng.random((40, 5))
    fitted = Forests.fit([(rows, targets), (rows, targets[:, :2])])
    library = ExtraTreesRegressor(TREES, bootstrap=True, oob_score=True, random_state=0).fit(rows, targets)
    asked = rng.random((7, 3)).astype(np.float32)
    both, first_two = fitted.predict(asked)
    assert both == pytest.approx(library.predict(asked), abs=1e-5)
    assert [fitted.predict_one(row)[1].tolist() for row in asked] == first_two.tolist()


def test_the_spec_of_a_simulated_sweep_is_that_of_a_launched_one(table):
    spec = spec_for(table, "val/accuracy", search={"num_trials": 9})
    space = {"parameters": SPACE["parameters"]}
    text = f"name: simulated\ntrial: {{optimizer.name: sgd, epochs: 9}}\nspace: {json.dumps(space)}\n"
    assert spec.canonical() == parse_spec(text + "search: {num_trials: 9}").canonical()
