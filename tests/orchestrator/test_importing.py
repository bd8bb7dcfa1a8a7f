"""Runs of any MLflow experiment, against real stores: as points of a spec, and as a sweep to report on."""

import json
import math

import pytest
import yaml
from typer.testing import CliRunner

from orchestrator.analysis.result import SweepResult
from orchestrator.cli.main import app
from orchestrator.launching import resume
from orchestrator.mlflow_import.runs import read_experiment, value_of
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.planning.trial_configs import trial_config
from orchestrator.state.event_log import EventLog, read_events
from orchestrator.state.events import (
    AttemptStarted,
    EpochReported,
    RungDecided,
    SweepEnded,
    SweepStarted,
    TrialCreated,
    TrialEnded,
)
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.state.sweep_state import OVER
from orchestrator.tracking.tracker import Tracker
from search_spaces import Choice, Float, Int

SPEC = """
name: digits
trial: {data.name: digits, model.name: mlp, epochs: 9}
space:
  parameters:
    optimizer.name: sgd
    optimizer.lr: {float: [1.0e-3, 1.0], log: true}
    batch_size: {choice: [32, 64, 128], ordered: true}
    optimizer.nesterov: {choice: [true, false]}
search: {num_trials: 8}
"""
T0 = 1_700_000_000_000


class Store:
    """A store of other programs, and the client that filled it."""

    def __init__(self, root):
        from mlflow import MlflowClient

        self.uri = f"sqlite:///{root}/theirs.db"
        self.client = MlflowClient(self.uri)

    def experiment(self, name):
        return self.client.create_experiment(name)

    def run(self, experiment, name, parameters, metrics=(), *, status="FINISHED", start=T0, tags=None):
        """``metrics``: (name, value, step), each a second after the one before."""
        run = self.client.create_run(experiment, start_time=start, run_name=name, tags=tags).info.run_id
        for key, value in parameters.items():
            self.client.log_param(run, key, value)
        for second, (key, value, step) in enumerate(metrics, start=1):
            self.client.log_metric(run, key, value, timestamp=start + 1000 * second, step=step)
        if status != "RUNNING":
            self.client.set_terminated(run, status, end_time=start + 100_000)
        return run

    def everything(self):
        """All content, by run; as text, in which nan equals nan."""
        return {
            run.info.run_id: repr((run.info, sorted(run.data.params.items()), run.data.tags, run.data.metrics))
            for experiment in self.client.search_experiments()
            for run in self.client.search_runs([experiment.experiment_id])
        }


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path


@pytest.fixture
def store(here, store_at):
    store_at(here / "theirs.db")
    return Store(here)


@pytest.fixture(scope="module")
def template(tmp_path_factory, store_at):
    """Runs of other programs: other names, texts, nan, inf, a failure, one that was killed, one that is running."""
    root = tmp_path_factory.mktemp("template")
    store_at(root / "theirs.db")
    store = Store(root)
    experiment = store.experiment("their experiment")
    runs = {
        "good": ({"lr": "1e-2", "batch": "64.0", "nesterov": "True", "optimizer.name": "sgd"}, [0.5, 0.9]),
        "best": ({"lr": "4", "batch": "60", "nesterov": "false", "note": "a: 'b' [c"}, [0.6, 0.95]),
        "adam": ({"lr": "0.1", "batch": "32", "nesterov": "False", "optimizer.name": "adam"}, [0.93]),
        "poor": ({"lr": "0.5", "batch": "128", "nesterov": "no"}, [0.91]),
        "bare": ({}, [0.2]),
        "nan": ({"lr": "0.2"}, [0.99, math.nan]),
        "inf": ({"lr": "0.2"}, [math.inf]),
        "blind": ({"lr": "0.2"}, []),
    }
    for index, (name, (parameters, values)) in enumerate(runs.items()):
        metrics = [("val_acc", value, step) for step, value in enumerate(values, start=1)]
        store.run(experiment, name, parameters, metrics, start=T0 + index)
    for status in ("FAILED", "KILLED", "RUNNING"):
        metrics = [("val_acc", 0.1, 1), ("val_acc", 0.3, 2)]
        store.run(experiment, status.lower(), {"lr": "0.3", "epochs": "7"}, metrics, status=status, start=T0 + 50)
    return store


@pytest.fixture
def foreign(here, template, store_at):
    """A store of one's own with all these runs."""
    store_at(here / "theirs.db", copy_of=template.uri.removeprefix("sqlite:///"))
    return Store(here)


RENAMES = ("--rename", "lr=optimizer.lr", "--rename", "batch=batch_size", "--rename", "nesterov=optimizer.nesterov")
METRIC = ("--metric", "val_acc", *RENAMES)


def ravel(*arguments, code=0):
    result = CliRunner().invoke(app, ["import-mlflow", *arguments], catch_exceptions=True)
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def points_of(store, *arguments, experiment="their experiment"):
    told = ravel(experiment, "--spec", "spec.yaml", "--tracking", store.uri, *arguments, "--json")
    return json.loads(told.stdout), told.stderr


def refused(store, *arguments, experiment="their experiment", code=1):
    return str(ravel(experiment, "--spec", "spec.yaml", "--tracking", store.uri, *arguments, code=code).exception)


def swept(store, *arguments, experiment="their experiment"):
    ravel(experiment, "--spec", "spec.yaml", "--tracking", store.uri, *arguments, "--into", "results")
    return SweepResult.read(find_sweep("results"))


def test_the_best_runs_come_first_as_points_of_the_space(foreign):
    points, told = points_of(foreign, *METRIC)
    assert [point["optimizer.lr"] for point in points[:2]] == [1.0, 0.01]
    assert points[0] == {"optimizer.lr": 1.0, "batch_size": 64, "optimizer.nesterov": False}
    assert points[1] == {"optimizer.lr": 0.01, "batch_size": 64, "optimizer.nesterov": True}
    space = parse_spec(SPEC).space
    assert all(space.contains({**point, "optimizer.name": "sgd"}) for point in points)
    assert "run best (val_acc 0.95) clipped: " in told
    assert "optimizer.lr: 4 moved to 1.0; batch_size: 60 moved to 64" in told
    assert "run adam (val_acc 0.93) dropped: optimizer.name: must be always 'sgd', got 'adam'" in told
    assert "optimizer.nesterov: must be one of True, False, got 'no'" in told
    assert "run bare (val_acc 0.2) kept: optimizer.name: filled with 'sgd'; optimizer.lr: filled with" in told


def test_what_is_left_out_is_counted_and_named(foreign):
    _, told = points_of(foreign, *METRIC)
    first, second, third = told.splitlines()[:3]
    assert first == "11 runs: 7 measured val_acc, 3 did not, 1 failed"
    assert second == "not in the space: note, epochs (--rename THEIRS=OURS says what one is here)"
    assert third == "the best 7: 3 kept, 1 clipped, 1 merged, 2 dropped"


def test_at_most_so_many_points_are_offered_and_only_their_runs_reported(foreign):
    points, told = points_of(foreign, *METRIC, "--top", "2")
    assert len(points) == 2
    assert "the best 4: 1 kept, 1 clipped, 0 merged, 2 dropped" in told
    assert "run bare" not in told
    lowest, _ = points_of(foreign, *METRIC, "--top", "1", "--mode", "min")
    assert lowest[0]["batch_size"] == 128  # a trial's default: the run says nothing of it


def test_the_points_as_yaml_are_valid_in_the_spec(foreign):
    text = ravel("their experiment", "--spec", "spec.yaml", "--tracking", foreign.uri, *METRIC).stdout
    pasted = SPEC.replace(
        "search: {num_trials: 8}",
        "search:\n  num_trials: 8\n  points:\n" + "".join(f"    {line}\n" for line in text.splitlines()),
    )
    points, _ = points_of(foreign, *METRIC)
    assert list(parse_spec(pasted).search.points) == points == yaml.safe_load(text)


def test_a_filter_is_mlflows_own(foreign):
    _, told = points_of(foreign, *METRIC, "--filter", "metrics.val_acc > 0.9 and status = 'FINISHED'")
    assert told.startswith("4 runs: 3 measured val_acc, 1 did not")  # to MLflow infinity is a number
    assert "--filter" in refused(foreign, *METRIC, "--filter", "metrics.val_acc >")
    assert "no runs to import; see --filter" in refused(foreign, *METRIC, "--filter", "metrics.val_acc > 1e400")


def test_every_page_of_a_large_experiment_is_read(store, monkeypatch):
    monkeypatch.setattr("orchestrator.mlflow_import.runs.PAGE", 3)
    experiment = store.experiment("large")
    for index in range(11):
        store.run(experiment, f"run{index}", {"optimizer.lr": str(0.01 * (index + 1))}, start=T0 + index)
    source = read_experiment(store.uri, "large")
    assert [run.name for run in source.runs] == [f"run{index}" for index in range(11)]
    assert len(read_experiment(store.uri, experiment).runs) == 11


def test_deleted_runs_are_not_read(foreign):
    before = [run.name for run in read_experiment(foreign.uri, "their experiment").runs]
    foreign.client.delete_run(read_experiment(foreign.uri, "their experiment").runs[0].id)
    assert [run.name for run in read_experiment(foreign.uri, "their experiment").runs] == before[1:]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16", 16),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("-1.", -1.0),
        ("true", True),
        ("None", None),
        ("null", None),
        ("[3, 9]", [3, 9]),
        ("sgd", "sgd"),
        ("", ""),
        ("NaN", "NaN"),
        ("1e999", "1e999"),
        ("[1, Infinity]", "[1, Infinity]"),
        ("007", "007"),
        ("9" * 5000, "9" * 5000),
        ("[" * 5000, "[" * 5000),
        ("__import__('os').abort()", "__import__('os').abort()"),
    ],
)
def test_a_parameters_text_is_read_as_json_or_left_as_it_is(text, value):
    found = value_of(text)
    assert (found, type(found)) == (value, type(value))


def test_the_domain_of_a_parameter_decides_what_its_text_means():
    assert value_of("5", Choice(["5", "6"])) == "5"
    assert value_of("5", Choice([5, 6])) == 5
    assert value_of("False", Choice([False, True])) is False
    assert value_of("None", Choice(["None"])) == "None"
    assert value_of("0.5", Float(0.0, 1.0)) == 0.5
    assert value_of("[1]", Int(1, 3)) == [1]


@pytest.mark.parametrize(
    ("arguments", "law"),
    [
        (
            ["--rename", "lrr=optimizer.lr"],
            "--rename lrr=optimizer.lr: no run has the parameter 'lrr'; did you mean 'lr'?",
        ),
        (["--rename", "lr=optimizer.lrr"], "no trial has the parameter 'optimizer.lrr'; did you mean 'optimizer.lr'?"),
        (["--rename", "lr=optimizer.name"], "there are two parameters 'optimizer.name' then; keep one"),
        (["--rename", "lr"], "--rename lr: must be THEIRS=OURS"),
        (["--metric", "val_acc", "--into", "results", "--top", "3"], "--top: counts points"),
        (["--metric", "val_acc", "--into", "results", "--mode", "min"], "--mode: must be 'max' with --into"),
        (["--metric", "acc", "--into", "results"], "--metric: no run measured 'acc'; there are val_acc"),
        ([], "no run became a point"),
    ],
)
def test_wrong_arguments_are_refused_with_what_is_right(foreign, here, arguments, law):
    assert law in refused(foreign, *arguments)
    assert not (here / "results").exists()


def test_a_missing_experiment_or_store_is_refused_and_not_created(foreign, tmp_path):
    told = refused(foreign, experiment="their experimnt")
    assert "no experiment 'their experimnt'; did you mean 'their experiment'?" in told
    assert "no experiment '99'" in refused(foreign, experiment="99")
    with pytest.raises(Exception, match=r"none.db: no such file.*--tracking"):
        read_experiment(f"sqlite:///{tmp_path}/none.db", "any")
    assert not (tmp_path / "none.db").exists()
    foreign.client.delete_experiment(foreign.client.get_experiment_by_name("their experiment").experiment_id)
    assert "restore it" in refused(foreign)


def test_foreign_runs_become_a_sweep_that_every_report_can_read(foreign):
    result = swept(foreign, *METRIC)
    assert result.sweep.startswith("imported-digits-")
    trials = result.state.trials
    assert list(trials) == [f"t{index:03d}" for index in range(11)]
    best = result.best()
    assert (best.trial.id, best.score, best.trial.budget) == ("t001", 0.95, 2)
    assert best.config["optimizer.lr"] == 4
    assert best.trial.point == {"optimizer.lr": 4, "batch_size": 60, "optimizer.nesterov": False}
    assert trials["t000"].point == {
        "optimizer.lr": 0.01,
        "batch_size": 64,
        "optimizer.nesterov": True,
        "optimizer.name": "sgd",
    }
    assert best.metrics == {"val_acc": 0.95, "val/accuracy": 0.95}
    assert trials["t005"].epochs[2] == {"val_acc": None, "val/accuracy": None}
    assert trials["t006"].epochs == {1: {"val_acc": None, "val/accuracy": None}}
    ends = ["completed"] * 5 + ["diverged"] * 2 + ["completed", "failed", "stopped", "stopped"]
    assert [trial.status for trial in trials.values()] == ends
    assert [(trials[name].status, trials[name].stopping_rung) for name in ("t008", "t009", "t010")] == [
        ("failed", None),
        ("stopped", 2),
        ("stopped", 2),
    ]
    assert trials["t008"].budget == 7
    assert "MLflow's run killed (" in trials["t009"].end.reason
    assert result.plan.max_epochs == 7
    for command in (["status"], ["status", "--json"], ["best", "imported-digits"], ["list"], ["logs", result.sweep]):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output + repr(done.exception)
        assert "t001" in done.output or command[-1] in {"--json", "list"}
    points, scores = result.scored_points()
    assert len(points) == len(scores) < 11


def test_an_imported_log_is_in_order_and_has_the_times_of_mlflow(foreign):
    result = swept(foreign, *METRIC)
    events = [event for event, _ in read_events(result.folder.events)]
    times = [event.time for event in events]
    assert times == sorted(times)
    assert (events[0].kind, events[-1].kind) == ("sweep_started", "sweep_ended")
    of_best = {event.kind: event.time for event in events if getattr(event, "trial", None) == "t001"}
    assert of_best == {
        "trial_created": (T0 + 1) / 1000,
        "attempt_started": (T0 + 1) / 1000,
        "epoch_reported": (T0 + 2001) / 1000,
        "trial_ended": (T0 + 100_001) / 1000,
    }


def test_an_event_out_of_order_gets_the_time_of_the_event_before_it(store):
    run = store.run(store.experiment("their experiment"), "a", {}, [("val_acc", 0.1, 1)])
    store.client.log_metric(run, "val_acc", 0.2, timestamp=T0 + 500_000, step=2)
    store.client.log_metric(run, "val_acc", 0.3, timestamp=0, step=3)
    result = swept(store, "--metric", "val_acc")
    times = [event.time - T0 / 1000 for event, _ in read_events(result.folder.events)]
    assert times == [0, 0, 0, 1, 500, 500, 500, 500]
    assert result.state.trials["t000"].values("val_acc") == {1: 0.1, 2: 0.2, 3: 0.3}


def test_steps_that_begin_at_zero_are_counted_from_one_and_the_last_value_of_a_step_counts(store):
    experiment = store.experiment("their experiment")
    store.run(experiment, "a", {}, [("val_acc", 0.1, 0), ("val_acc", 0.2, 0), ("loss", 9.0, 0), ("val_acc", 0.3, 1)])
    store.run(experiment, "b", {"epochs": "many"}, [("val_acc", 0.4, 4)])
    trials = swept(store, "--metric", "val_acc").state.trials
    assert trials["t000"].epochs[1] == {"val_acc": 0.2, "val/accuracy": 0.2, "loss": 9.0}
    assert trials["t000"].values("val_acc") == {1: 0.2, 2: 0.3}
    assert trials["t001"].values("val_acc") == {5: 0.4}
    assert (trials["t000"].budget, trials["t001"].budget) == (2, 5)


def test_runs_that_measured_our_objective_too_are_refused(store):
    experiment = store.experiment("their experiment")
    store.run(experiment, "a", {}, [("val_acc", 0.1, 1), ("val/accuracy", 0.2, 1)])
    assert "the runs measured 'val/accuracy' too" in refused(store, "--metric", "val_acc", "--into", "results")
    assert swept(store).best().score == 0.2


def test_resume_and_sync_find_no_work_and_never_touch_the_runs_it_came_from(foreign):
    before = foreign.everything()
    result = swept(foreign, *METRIC, "--tracking", foreign.uri)
    assert all(trial.status in OVER for trial in result.state.trials.values())
    again = resume(result.folder)
    assert again.state.ended.status == "completed"
    assert list(again.state.trials) == list(result.state.trials)
    assert again.state.epochs_run == result.state.epochs_run
    assert {trial.id: trial.attempts for trial in again.state.trials.values()} == dict.fromkeys(again.state.trials, 1)
    assert CliRunner().invoke(app, ["sync", result.sweep]).exit_code == 0
    assert foreign.everything() == before
    from mlflow import MlflowClient

    ours = MlflowClient(result.plan.tracking_uri)
    copies = ours.search_runs([ours.get_experiment_by_name(result.sweep).experiment_id])
    assert len(copies) == 12


def test_copies_in_the_same_store_are_kept_apart_from_the_runs_they_came_from(foreign, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", foreign.uri)
    before = foreign.everything()
    result = swept(foreign, *METRIC)
    resume(result.folder)
    after = foreign.everything()
    assert {run: after[run] for run in before} == before
    assert len(after) == len(before) + 12


def ours(root, name, scores):
    """A sweep of ours, tracked: t000 the baseline, t001 stopped at a rung though better, t002 diverged, and so on."""
    folder = SweepFolder(root / "results" / name)
    folder.path.mkdir(parents=True)
    plan = make_plan(parse_spec(SPEC), folder, slots=2, now=5.0, working_directory=root)
    plan.save(folder)
    events = [SweepStarted(time=1000.0, generation=1, host="here", pid=1)]
    for index, score in enumerate(scores):
        trial, at = f"t{index:03d}", 1000.0 + index
        origin = "baseline" if index == 0 else "search"
        point = {
            "optimizer.name": "sgd",
            "optimizer.lr": 0.01 * (index + 1),
            "batch_size": 64,
            "optimizer.nesterov": True,
        }
        config = trial_config(plan, trial, point)
        events += [
            TrialCreated(time=at, trial=trial, origin=origin, point=point, config=config),
            AttemptStarted(time=at, trial=trial, attempt=1),
        ]
        last = 3 if index == 1 else 9
        for epoch in range(1, last + 1):
            metrics = {"val/accuracy": score * epoch / 9, "val/nll": None}
            events.append(
                EpochReported(
                    time=at + epoch, trial=trial, attempt=1, epoch=epoch, since_restore=epoch, metrics=metrics
                )
            )
        status = {1: "stopped", 2: "diverged"}.get(index, "completed")
        rung = 3 if status == "stopped" else None
        if rung:
            events.append(
                RungDecided(time=at + 3, trial=trial, rung=3, value=0.1, cutoff=0.2, competitors=2, kept=False)
            )
        reason = "ce is not finite" if status == "diverged" else None
        events.append(TrialEnded(time=at + 20, trial=trial, status=status, rung=rung, reason=reason))
    events.append(SweepEnded(time=2000.0, status="completed"))
    with EventLog(folder.events) as log:
        for event in events:
            log.append(event)
    Tracker(plan, folder).catch_up()
    return SweepResult.read(folder)


@pytest.fixture
def own(here, store_at, store):
    store_at(here / "mlflow.db")
    store.uri = f"sqlite:///{here}/mlflow.db"
    return ours(here, "digits-1", [0.5, 0.9, 0.99, 0.7, 0.6])


def test_a_sweep_of_ours_comes_back_with_the_same_trials_and_the_same_best(store, own):
    back = swept(store, experiment="digits")
    assert back.sweep != own.sweep
    assert (back.best().trial.id, back.best().score) == (own.best().trial.id, own.best().score) == ("t003", 0.7)
    assert back.best().config == own.best().config
    for trial, original in zip(back.state.trials.values(), own.state.trials.values(), strict=True):
        assert (trial.id, trial.status, trial.origin, trial.point, trial.config, trial.stopping_rung, trial.budget) == (
            original.id,
            original.status,
            original.origin,
            original.point,
            original.config,
            original.stopping_rung,
            9,
        )
        assert trial.values("val/accuracy") == original.values("val/accuracy")
    assert back.state.trials["t002"].end.reason.startswith("ce is not finite; MLflow's run t002 (")
    objective = own.plan.spec.objective
    assert [t.id for t in back.state.ranked(objective)] == [t.id for t in own.state.ranked(objective)]
    assert back.scored_points()[0] == own.scored_points()[0]


def test_the_points_of_a_sweep_of_ours_are_those_it_tried(store, own):
    points, told = points_of(store, experiment="digits")
    assert told.startswith("5 runs: 4 measured val/accuracy, 0 did not, 1 failed")
    assert "not in the space: seed, " in told
    assert "--rename" not in told
    tried = {trial.id: trial.point for trial in own.state.trials.values()}
    expected = [
        {k: v for k, v in tried[name].items() if k != "optimizer.name"} for name in ("t003", "t004", "t000", "t001")
    ]
    assert points == expected


def test_trials_of_two_sweeps_of_ours_get_new_numbers(store, own, tmp_path):
    second = ours(tmp_path, "digits-2", [0.4, 0.3, 0.2, 0.95])
    back = swept(store, experiment="digits")
    assert list(back.state.trials) == [f"t{index:03d}" for index in range(9)]
    assert back.best().score == second.best().score == pytest.approx(0.95)
    assert back.best().score > own.best().score
