"""Event log to MLflow, against real stores."""

import itertools
import json
import logging
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.errors import OrchestratorError
from orchestrator.execution.exporters import Exporter
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.redaction import without_password
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import (
    AttemptFailed,
    AttemptStarted,
    EpochReported,
    RungDecided,
    SweepEnded,
    SweepStarted,
    TrialCreated,
    TrialEnded,
)
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.tracking.cursor import Cursor
from orchestrator.tracking.tracker import Tracker
from trainables.metrics import CLASSIFIER_METRICS, GAN_METRICS

SPEC = "name: digits\ntrial: {epochs: 9}\nspace: {use: [snnl, mixup, adversarial]}\n"


def events():
    """A sweep of three trials: one ran through (and was retried), one was stopped, one diverged."""
    at = iter(range(1000, 2000))
    yield SweepStarted(time=next(at), generation=1, host="here", pid=1)
    for trial, weight in (("t000", 0.0), ("t001", 0.5), ("t002", -0.5)):
        config = {"epochs": 9, "snnl.weight": weight, "mixup.alpha": 0.0, "data.name": "digits"}
        yield TrialCreated(time=next(at), trial=trial, origin="search", point={"snnl.weight": weight}, config=config)
        yield AttemptStarted(time=next(at), trial=trial, attempt=1)
    for epoch in (1, 2, 3):
        metrics = {"val/accuracy": 0.9 + epoch / 100, "train/loss": 1.0 / epoch, "val/nll": None}
        yield EpochReported(time=next(at), trial="t000", attempt=1, epoch=epoch, since_restore=epoch, metrics=metrics)
    yield AttemptFailed(time=next(at), trial="t000", attempt=1, cause="infrastructure", reason="its worker died")
    yield AttemptStarted(time=next(at), trial="t000", attempt=2)
    yield EpochReported(time=next(at), trial="t001", attempt=1, epoch=3, since_restore=3, metrics={"val/accuracy": 0.5})
    yield RungDecided(time=next(at), trial="t001", rung=3, value=0.5, cutoff=0.93, competitors=2, kept=False)
    yield TrialEnded(time=next(at), trial="t001", status="stopped", rung=3)
    reason = "epoch 1, step 2: ce is not finite"
    yield TrialEnded(time=next(at), trial="t002", status="diverged", reason=reason, traceback="Traceback ...")
    yield TrialEnded(time=next(at), trial="t000", status="completed")
    yield SweepEnded(time=next(at), status="completed")


def resumed():
    """The same sweep, interrupted in the middle of t000 and gone on with."""
    *before, _, _ = events()
    yield from before
    yield TrialEnded(time=1030, trial="t000", status="interrupted", reason="the driver was stopped")
    yield SweepEnded(time=1031, status="interrupted", reason="somebody pressed Ctrl-C")
    yield SweepStarted(time=1040, generation=2, host="there", pid=2)
    yield AttemptStarted(time=1041, trial="t000", attempt=3)
    yield EpochReported(time=1042, trial="t000", attempt=3, epoch=4, since_restore=1, metrics={"val/accuracy": 0.95})
    yield TrialEnded(time=1043, trial="t000", status="completed")
    yield SweepEnded(time=1044, status="completed")


@pytest.fixture
def sweep(tmp_path, monkeypatch, store_at):
    """A planned sweep, tracked in an empty sqlite store in the test's folder."""
    monkeypatch.chdir(tmp_path)
    store_at(tmp_path / "mlflow.db")
    return planned(tmp_path, "digits-1")


def planned(root, name, spec=SPEC):
    folder = SweepFolder(root / "results" / name)
    folder.path.mkdir(parents=True)
    plan = make_plan(parse_spec(spec), folder, slots=2, now=5.0, working_directory=root)
    plan.save(folder)
    return plan, folder


def write(folder, some):
    with EventLog(folder.events) as log:
        for event in some:
            log.append(event)


def runs_of(plan, kind):
    from mlflow import MlflowClient

    client = MlflowClient(plan.tracking_uri)
    experiment = client.get_experiment_by_name("digits")
    found = client.search_runs([experiment.experiment_id], f"tags.`ravel.kind` = '{kind}'")
    return client, {run.data.tags.get("ravel.trial", "sweep").rpartition("/")[2]: run for run in found}


def _without_ids(value, run, plan):
    """A tag's value without the ids that MLflow assigns, which a description has in its addresses."""
    text = value.replace(run.info.run_id, "RUN").replace(f"experiments/{run.info.experiment_id}/", "experiments/E/")
    return text.replace(plan.sweep, "SWEEP")


def everything_of(plan):
    """All that MLflow shows of a sweep, without the ids it assigns and the sweep's own name."""
    client, _ = runs_of(plan, "trial")
    experiment = client.get_experiment_by_name("digits").experiment_id
    return sorted(
        (
            sorted((name, _without_ids(value, run, plan)) for name, value in run.data.tags.items()),
            sorted(run.data.params.items()),
            (run.info.status, run.info.start_time, run.info.end_time),
            [
                (key, point.step, point.value, point.timestamp)
                for key in sorted(run.data.metrics)
                for point in client.get_metric_history(run.info.run_id, key)
            ],
            [(file.path, file.file_size) for file in client.list_artifacts(run.info.run_id)],
        )
        for run in client.search_runs([experiment], f"tags.`ravel.sweep` = '{plan.sweep}'")
    )


def points_of(plan):
    """Every (run, key, step, value, timestamp) MLflow holds, duplicates included."""
    client, runs = runs_of(plan, "trial")
    return sorted(
        (name, key, point.step, point.value, point.timestamp)
        for name, run in runs.items()
        for key in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, key)
    )


def test_a_trial_is_one_flat_run_with_its_parameters_metrics_and_end(sweep):
    plan, folder = sweep
    write(folder, events())
    assert Tracker(plan, folder).catch_up()
    client, runs = runs_of(plan, "trial")
    assert set(runs) == {"t000", "t001", "t002"}
    done = runs["t000"]
    assert done.data.params == {
        "epochs": "9",
        "snnl.weight": "0.0",
        "mixup.alpha": "0.0",
        "data.name": "digits",
    }
    assert [point.step for point in client.get_metric_history(done.info.run_id, "val/accuracy")] == [1, 2, 3]
    assert "val/nll" not in done.data.metrics
    assert done.data.tags["ravel.trial"] == f"{plan.sweep}/t000"
    assert done.data.tags["ravel.attempts"] == "2"
    assert "mlflow.parentRunId" not in done.data.tags
    assert {name: run.info.status for name, run in runs.items()} == {
        "t000": "FINISHED",
        "t001": "FINISHED",
        "t002": "FAILED",
    }
    assert runs["t001"].data.tags["ravel.rung"] == "3"
    assert runs["t002"].data.tags["ravel.status"] == "diverged"
    assert "ce is not finite" in runs["t002"].data.tags["ravel.reason"]


def one_trial(config, *, epochs=1, metrics=None, data=None, point=None):
    yield SweepStarted(time=1, generation=1, host="here", pid=1)
    yield TrialCreated(time=2, trial="t000", origin="search", point=point or {}, config=config)
    yield AttemptStarted(time=3, trial="t000", attempt=1)
    for epoch in range(1, epochs + 1):
        told = {"val/accuracy": 0.5, **(metrics or {})}
        yield EpochReported(
            time=3 + epoch, trial="t000", attempt=1, epoch=epoch, since_restore=epoch, metrics=told, data=data
        )


def test_at_most_forty_parameters_are_shown_the_searched_ones_first_and_none_is_cut_off(sweep):
    plan, folder = sweep
    config = {"epochs": 9, **{f"data.x{index}": index for index in range(50)}, "optimizer.lr": 0.1, "long": "x" * 7000}
    write(folder, one_trial(config, point={"optimizer.lr": 0.1, "long": "x" * 7000}))
    Tracker(plan, folder).catch_up()
    client, runs = runs_of(plan, "trial")
    told = runs["t000"].data.params
    assert len(told) == 40
    assert told["optimizer.lr"] == "0.1"
    assert re.fullmatch("7000 characters, SHA-256 [0-9a-f]{64}: see config.json", told["long"])
    whole = client.download_artifacts(runs["t000"].info.run_id, "config.json")
    assert json.loads(Path(whole).read_text()) == config


@pytest.mark.parametrize(
    ("taps", "shown"),
    [(None, ["t0", "t2", "t4", "t7", "t9", "t11"]), (("t5", "t1"), ["t5", "t1"])],
    ids=["spread", "chosen"],
)
def test_at_most_twenty_five_metrics_are_shown_those_of_six_taps_among_them(sweep, taps, shown):
    plan, folder = sweep
    tracking = plan.spec.tracking.model_copy(update={"taps": taps})
    plan = plan.model_copy(update={"spec": plan.spec.model_copy(update={"tracking": tracking})})
    whole = {metric.name: 1.0 for metric in CLASSIFIER_METRICS if "<" not in metric.name and not metric.minor}
    minor = {metric.name: 1.0 for metric in CLASSIFIER_METRICS if metric.minor}
    of_taps = {f"{family}/t{tap}": 1.0 for tap in range(12) for family in ("entanglement", "temperature")}
    write(folder, one_trial({"epochs": 9}, metrics={**whole, **of_taps, **minor}, epochs=2))
    Tracker(plan, folder).catch_up()
    _, runs = runs_of(plan, "trial")
    told = set(runs["t000"].data.metrics)
    assert len(told) <= 25
    assert (set(minor) <= told) == (len(shown) < 6), "minor metrics only where the limit leaves room"
    assert told >= set(whole)
    assert [tap for tap in (f"t{index}" for index in range(12)) if f"entanglement/{tap}" in told] == sorted(
        shown, key=lambda tap: int(tap[1:])
    )
    assert {name.partition("/")[2] for name in told if name.startswith("temperature/")} <= set(shown)


def test_a_gan_is_shown_with_its_task_and_all_its_metrics(sweep, tmp_path):
    del sweep
    spec = "name: digits\ntrial: {task: gan}\nobjective: {metric: val/mode_kl, mode: min}"
    plan, folder = planned(tmp_path, "gan-1", spec)
    measured = {metric.name: 1.0 for metric in GAN_METRICS if not metric.minor}
    write(folder, one_trial({"task": "gan", "epochs": 9, "gan.beta_1": 0.5}, metrics={**measured, "train/loss": 1.0}))
    Tracker(plan, folder).catch_up()
    _, runs = runs_of(plan, "trial")
    assert runs["t000"].data.params == {"task": "gan", "epochs": "9", "gan.beta_1": "0.5"}
    assert runs["t000"].data.metrics.keys() == measured.keys()


def test_a_gan_is_shown_with_its_measures_in_features_where_the_limit_leaves_room(sweep, tmp_path):
    del sweep
    plan, folder = planned(
        tmp_path, "gan-2", "name: digits\ntrial: {task: gan}\nobjective: {metric: val/mode_kl, mode: min}"
    )
    whole = {metric.name: 1.0 for metric in GAN_METRICS if not metric.minor}
    minor = {metric.name: 1.0 for metric in GAN_METRICS if metric.minor}
    write(folder, one_trial({"task": "gan", "epochs": 9}, metrics={**whole, **minor}))
    Tracker(plan, folder).catch_up()
    _, runs = runs_of(plan, "trial")
    told = set(runs["t000"].data.metrics)
    assert told == {*whole, *list(minor)[: 25 - len(whole)]}
    assert {"val/feature_entanglement", "val/manifold_precision", "val/manifold_recall"} <= told


def test_the_data_set_is_an_input_of_the_run(sweep):
    plan, folder = sweep
    write(folder, one_trial({"epochs": 9, "data.name": "mnist", "data.root": "/data"}, data="ab" * 16, epochs=2))
    Tracker(plan, folder).catch_up()
    Tracker(plan, folder, replay=True).catch_up()
    _, runs = runs_of(plan, "trial")
    (given,) = runs["t000"].inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("mnist", "ab" * 16)
    assert json.loads(given.dataset.source) == {"root": "/data"}


def test_a_tracker_knows_how_many_events_it_has_sent(sweep):
    plan, folder = sweep
    there = list(events())
    write(folder, there[:5])
    tracker = Tracker(plan, folder)
    assert tracker.num_sent == 0
    tracker.catch_up()
    assert tracker.num_sent == 5
    write(folder, there[5:])
    again = Tracker(plan, folder)
    again.catch_up()
    assert again.num_sent == len(there)


def test_beside_a_sweep_few_events_are_sent_at_a_time(sweep, monkeypatch):
    plan, folder = sweep
    monkeypatch.setattr("orchestrator.tracking.tracker.FEW_EVENTS", 4)
    log = list(events())
    write(folder, log)
    tracker, sent = Tracker(plan, folder), []
    while tracker.advance():
        sent.append(tracker.num_sent)
    assert sent == [*range(4, len(log), 4), len(log)]
    in_parts = everything_of(plan)
    Tracker(plan, folder, replay=True).catch_up()
    assert everything_of(plan) == in_parts


def test_the_summary_run_holds_the_spec_the_counts_and_the_best(sweep):
    plan, folder = sweep
    write(folder, events())
    Tracker(plan, folder).catch_up()
    client, runs = runs_of(plan, "sweep")
    run = runs["sweep"]
    assert run.data.metrics["best/val/accuracy"] == pytest.approx(0.93)
    assert run.data.metrics["trials/stopped"] == 1
    assert run.data.tags["ravel.best_trial"] == "t000"
    assert run.data.tags["ravel.spec_fingerprint"] == plan.fingerprint
    text = client.download_artifacts(run.info.run_id, "spec.yaml")
    assert parse_spec(Path(text).read_text()) == plan.spec
    environment = Path(client.download_artifacts(run.info.run_id, "environment.txt")).read_text()
    assert f"mlflow=={plan.provenance.libraries['mlflow']}" in environment.splitlines()


def test_at_the_end_of_a_sweep_its_store_counts_its_rows(sweep, tmp_path):
    plan, folder = sweep
    told = list(events())
    write(folder, told)
    Tracker(plan, folder).catch_up()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
        counted = dict(store.execute("SELECT idx, stat FROM sqlite_stat1 WHERE tbl = 'runs'"))
    assert [stat.split()[0] for stat in counted.values()] == ["4"]  # three trials and the sweep


def test_sending_everything_twice_changes_nothing(sweep):
    plan, folder = sweep
    write(folder, events())
    Tracker(plan, folder).catch_up()
    before = points_of(plan)
    folder.cursor.unlink()
    Tracker(plan, folder).catch_up()
    assert points_of(plan) == before
    assert len(runs_of(plan, "trial")[1]) == 3
    assert len({row[:3] for row in before}) == len(before)


@pytest.mark.parametrize("cut", [1, 4, 7, 9, 12, 14])
def test_a_tracker_killed_between_any_two_steps_leaves_no_duplicate(sweep, cut, monkeypatch):
    """The process dies after MLflow took something and before the cursor was written."""
    plan, folder = sweep
    told = list(events())
    write(folder, told[:cut])

    def die(*_):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Cursor, "save", die)
        with pytest.raises(SystemExit):
            Tracker(plan, folder).catch_up()
    write(folder, told[cut:])
    tracker = Tracker(plan, folder)
    tracker.catch_up()
    assert not tracker.catch_up()
    points = points_of(plan)
    assert len(points) == len({row[:3] for row in points}) == 7
    client, runs = runs_of(plan, "trial")
    assert len(runs) == len(client.search_runs([runs["t000"].info.experiment_id], "tags.`ravel.kind` = 'trial'")) == 3


def test_a_damaged_cursor_is_no_loss(sweep):
    plan, folder = sweep
    write(folder, events())
    Tracker(plan, folder).catch_up()
    folder.cursor.write_text('{"offset": 3, "par')
    Tracker(plan, folder).catch_up()
    assert len(runs_of(plan, "trial")[1]) == 3
    assert json.loads(folder.cursor.read_text())["offset"] == folder.events.stat().st_size


def test_an_outage_is_waited_out_and_filled_in_afterwards(sweep, monkeypatch, caplog):
    plan, folder = sweep
    write(folder, events())
    up = Tracker._connect

    def down(_tracker):
        raise ConnectionError("no route to MLflow")

    monkeypatch.setattr(Tracker, "_connect", down)
    exporter = Exporter(Tracker(plan, folder))
    exporter.start()
    assert not exporter.stop(timeout_s=2)
    assert "no route to MLflow" in exporter.error
    assert caplog.text.count("MLflow lags") == 1
    monkeypatch.setattr(Tracker, "_connect", up)
    again = Exporter(Tracker(plan, folder))
    again.start()
    assert again.stop(timeout_s=60)
    assert len(runs_of(plan, "trial")[1]) == 3


SENDING = ("create_run", "log_batch", "update_run", "set_terminated")


def fail_once(patch, nth, *, before):
    """Let the ``nth`` call that changes MLflow fail, before or after it was done; the rest succeed."""
    from mlflow import MlflowClient

    calls = iter(range(1, 1000))

    def wrap(send):
        def sent(*args, **kwargs):
            failing = next(calls) == nth
            if failing and before:
                raise ConnectionError("gone")
            answer = send(*args, **kwargs)
            if failing:
                raise ConnectionError("gone")
            return answer

        return sent

    for name in SENDING:
        patch.setattr(MlflowClient, name, wrap(getattr(MlflowClient, name)))
    return calls


def test_whichever_call_fails_nothing_is_lost_and_nothing_is_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole, folder = planned(tmp_path, "digits-whole")
    write(folder, resumed())
    with monkeypatch.context() as patch:
        calls = fail_once(patch, 0, before=True)
        Tracker(whole, folder).catch_up()
        count = next(calls) - 1
    expected = everything_of(whole)
    assert [len(run[1]) > 0 for run in expected] == [True] * 4
    for nth in range(1, count + 1):
        plan, folder = planned(tmp_path, f"digits-{nth}")
        write(folder, resumed())
        tracker = Tracker(plan, folder)
        with monkeypatch.context() as patch:
            fail_once(patch, nth, before=nth % 2 == 0)
            with pytest.raises(ConnectionError, match="gone"):
                tracker.catch_up()
            assert tracker.catch_up()
        assert everything_of(plan) == expected, nth
        assert len(tracker._state.trials["t000"].failures) == 1


@pytest.mark.parametrize("method", ["create_run", "log_batch"])
def test_parameters_and_spec_survive_an_outage_right_after_the_run_was_made(sweep, monkeypatch, method):
    from mlflow import MlflowClient

    plan, folder = sweep
    write(folder, events())
    send = getattr(MlflowClient, method)
    made = []

    def gone(client, *args, **kwargs):
        if method == "create_run":
            made.append(send(client, *args, **kwargs))
        raise ConnectionError("gone")

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, method, gone)
            with pytest.raises(ConnectionError):
                Tracker(plan, folder).catch_up()
    Tracker(plan, folder).catch_up()
    client, runs = runs_of(plan, "trial")
    assert {run.data.params["epochs"] for run in runs.values()} == {"9"}
    summary = runs_of(plan, "sweep")[1]["sweep"]
    assert summary.data.params["search.num_trials"] == str(plan.spec.search.num_trials)
    assert [file.path for file in client.list_artifacts(summary.info.run_id)] == ["environment.txt", "spec.yaml"]


@pytest.mark.parametrize("known", [True, False], ids=["same tracker", "new tracker"])
@pytest.mark.parametrize("deleted", ["t001", "sweep"])
def test_a_deleted_run_stays_deleted_and_holds_back_no_other(sweep, caplog, known, deleted):
    plan, folder = sweep
    told = list(events())
    write(folder, told[:10])
    tracker = Tracker(plan, folder)
    tracker.catch_up()
    client, trials = runs_of(plan, "trial")
    gone = {**trials, **runs_of(plan, "sweep")[1]}[deleted].info.run_id
    client.delete_run(gone)
    write(folder, told[10:])
    tracker = tracker if known else Tracker(plan, folder)
    assert tracker.catch_up()
    assert tracker.skipped == (deleted if deleted == "t001" else plan.sweep,)
    assert caplog.text.count("MLflow continues without the run of") == 1
    assert Cursor.load(folder.cursor).offset == folder.events.stat().st_size
    assert client.get_run(gone).info.lifecycle_stage == "deleted"
    left = runs_of(plan, "trial")[1]
    assert set(left) == {"t000", "t001", "t002"} - {deleted}
    assert left["t000"].info.status == "FINISHED"
    client.restore_run(gone)
    Tracker(plan, folder, replay=True).catch_up()
    assert {**runs_of(plan, "trial")[1], **runs_of(plan, "sweep")[1]}[deleted].info.status == "FINISHED"


def test_an_artifact_store_that_takes_nothing_costs_only_the_artifacts(sweep, tmp_path, caplog):
    plan, folder = sweep
    (tmp_path / "mlartifacts").write_text("a file where a folder should be")
    write(folder, events())
    assert Tracker(plan, folder).catch_up()
    assert caplog.text.count("MLflow continues without artifacts") == 1
    _, runs = runs_of(plan, "trial")
    assert runs["t002"].data.tags["ravel.status"] == "diverged"
    assert runs["t002"].info.status == "FAILED"


def test_a_parameter_mlflow_refuses_costs_only_its_trial(sweep, caplog):
    plan, folder = sweep
    told = list(events())
    config = {"epochs": 9, "what?": 1}
    odd = TrialCreated(time=1003, trial="t001", origin="search", point={}, config=config)
    write(folder, [odd if event.kind == "trial_created" and event.trial == "t001" else event for event in told])
    tracker = Tracker(plan, folder)
    assert tracker.catch_up()
    assert tracker.skipped == ("t001",)
    assert "what?" in caplog.text
    _, runs = runs_of(plan, "trial")
    assert {name: run.info.status for name, run in runs.items() if name != "t001"} == {
        "t000": "FINISHED",
        "t002": "FAILED",
    }


@pytest.mark.parametrize("known", [True, False], ids=["same tracker", "new tracker"])
def test_a_deleted_experiment_is_an_error_until_it_is_restored(sweep, known):
    plan, folder = sweep
    told = list(events())
    write(folder, told[:10])
    tracker = Tracker(plan, folder)
    tracker.catch_up()
    client, runs = runs_of(plan, "trial")
    experiment = runs["t000"].info.experiment_id
    client.delete_experiment(experiment)
    write(folder, told[10:])
    tracker = tracker if known else Tracker(plan, folder)
    for _ in range(2):
        with pytest.raises(OrchestratorError, match=r"experiment 'digits' is deleted; restore it .*experiment-id 1"):
            tracker.catch_up()
    client.restore_experiment(experiment)
    assert tracker.catch_up()
    assert tracker.skipped == ()
    assert runs_of(plan, "trial")[1]["t000"].info.status == "FINISHED"


def test_a_failure_that_may_pass_skips_nothing(sweep, monkeypatch):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    plan, folder = sweep
    write(folder, events())
    tracker = Tracker(plan, folder)

    def busy(*_, **__):
        raise MlflowException("the database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", busy)
        with pytest.raises(MlflowException, match="locked"):
            tracker.catch_up()
    assert tracker.skipped == ()
    assert tracker.catch_up()


def test_a_replay_sends_the_whole_log_and_changes_nothing_that_was_right(sweep):
    plan, folder = sweep
    told = list(resumed())
    tracker = Tracker(plan, folder)
    for start, end in itertools.pairwise((0, 7, 12, 16, len(told))):
        write(folder, told[start:end])
        tracker.catch_up()
    expected = everything_of(plan)
    client, runs = runs_of(plan, "trial")
    client.delete_tag(runs["t001"].info.run_id, "ravel.status")
    assert not Tracker(plan, folder).catch_up()
    assert everything_of(plan) != expected
    replay = Tracker(plan, folder, replay=True)
    assert replay.catch_up()
    assert not replay.catch_up()
    assert everything_of(plan) == expected


def test_a_run_begun_under_format_1_keeps_its_parameters(sweep):
    plan, folder = sweep
    told = [
        event.model_copy(update={"config": {**event.config, "model.name": "cnn"}})
        if event.kind == "trial_created"
        else event
        for event in resumed()
    ]
    write(folder, told[:-5])
    Tracker(plan, folder).catch_up()
    told_by_format_1 = folder.events.read_bytes().replace(b'{"v":4,', b'{"v":1,')
    end = rb',"seq":\d+,"prev":"[0-9a-f]{8}","crc":"[0-9a-f]{8}"}'
    folder.events.write_bytes(re.sub(end, lambda match: b"}" + b" " * (len(match[0]) - 1), told_by_format_1))
    write(folder, told[-5:])
    tracker = Tracker(plan, folder)
    assert tracker.catch_up()
    assert tracker.skipped == ()
    _, runs = runs_of(plan, "trial")
    assert runs["t000"].data.params["model.name"] == "cnn"
    assert runs["t000"].data.params["precision"] == "float32"
    assert runs["t000"].data.metrics["val/accuracy"] == 0.95


def test_another_store_is_sent_everything(sweep, tmp_path):
    plan, folder = sweep
    write(folder, events())
    Tracker(plan, folder).catch_up()
    moved = plan.model_copy(update={"tracking_uri": f"sqlite:///{tmp_path}/other.db"})
    assert Tracker(moved, folder).catch_up()
    assert everything_of(moved) == everything_of(plan)


@pytest.mark.parametrize("purged", ["t000", "t001", "sweep", "all"])
def test_runs_purged_from_the_store_hold_back_no_other(sweep, caplog, purged):
    """`mlflow gc`, or a fresh database under the same address: in that one, nothing was sent."""
    plan, folder = sweep
    told = list(events())
    write(folder, told[:-6])
    Tracker(plan, folder).catch_up()
    client, trials = runs_of(plan, "trial")
    for name, run in {**trials, **runs_of(plan, "sweep")[1]}.items():
        if purged in {name, "all"}:
            client._tracking_client.store._hard_delete_run(run.info.run_id)
    write(folder, told[-6:])
    tracker = Tracker(plan, folder)
    assert tracker.catch_up()
    assert Cursor.load(folder.cursor).offset == folder.events.stat().st_size
    if purged == "all":
        assert tracker.skipped == ()
        assert len(points_of(plan)) == 7
    assert caplog.text.count("it is gone there") == (purged != "all")
    Tracker(plan, folder, replay=True).catch_up()
    assert len(points_of(plan)) == 7


@pytest.mark.parametrize("change", [{"offset": 10**6}, {"offset": 30}, {"offset": "x"}, {"store": "sqlite:///no.db"}])
def test_a_cursor_that_does_not_fit_is_dropped(sweep, change):
    plan, folder = sweep
    write(folder, events())
    Tracker(plan, folder).catch_up()
    saved = json.loads(folder.cursor.read_text())
    folder.cursor.write_text(json.dumps({**saved, **change}))
    assert Tracker(plan, folder).catch_up()
    assert json.loads(folder.cursor.read_text()) == saved


def test_a_cursor_holds_no_password(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:secret@127.0.0.1:9")
    plan, folder = planned(tmp_path, "digits-1")
    tracker = Tracker(plan, folder)
    tracker._cursor.save(folder.cursor)
    assert json.loads(folder.cursor.read_text())["store"] == "http://***@127.0.0.1:9"


def test_nothing_of_an_interruption_is_left_on_a_completed_run(sweep):
    plan, folder = sweep
    told = list(resumed())
    interrupted = next(index for index, event in enumerate(told) if event.kind == "sweep_ended") + 1
    states = []
    tracker = Tracker(plan, folder)
    for part in (told[:interrupted], told[interrupted : interrupted + 2], told[interrupted + 2 :]):
        write(folder, part)
        tracker.catch_up()
        runs = {**runs_of(plan, "trial")[1], **runs_of(plan, "sweep")[1]}
        states.append(
            {
                name: (
                    runs[name].info.status,
                    runs[name].data.tags["ravel.status"],
                    runs[name].data.tags["ravel.reason"],
                )
                for name in ("t000", "sweep")
            }
        )
    assert states == [
        {
            "t000": ("KILLED", "interrupted", "the driver was stopped"),
            "sweep": ("KILLED", "interrupted", "somebody pressed Ctrl-C"),
        },
        {"t000": ("RUNNING", "running", ""), "sweep": ("RUNNING", "running", "")},
        {"t000": ("FINISHED", "completed", ""), "sweep": ("FINISHED", "completed", "")},
    ]


def test_an_outage_logs_one_warning_and_it_is_ours(tmp_path, monkeypatch, caplog):
    """A port without a listener: urllib3 would warn at every retry."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:hunter2@127.0.0.1:9")
    logging.getLogger("urllib3").setLevel(logging.NOTSET)
    plan, folder = planned(tmp_path, "digits-1")
    write(folder, events())
    tracker = Tracker(plan, folder)
    exporter = Exporter(tracker)
    assert exporter._attempt(tracker.advance) is None
    assert exporter._attempt(tracker.catch_up) is None
    assert [record.name for record in caplog.records] == ["orchestrator.execution.exporters"]
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://bob:p@ss@host", "http://***@host"),
        ("http://bob:p@ss@host:5000/path?to=me", "http://***@host:5000/path?to=me"),
        ("postgresql://bob:p/w@host/db", "postgresql://***@host/db"),
        ("https://token@host/ refused, http://a:b@c too", "https://***@host/ refused, http://***@c too"),
        ("http://host:5000/users/@ada", "http://host:5000/users/@ada"),
        ("sqlite:////home/ada@work/mlflow.db", "sqlite:////home/ada@work/mlflow.db"),
    ],
)
def test_no_password_is_shown(text, shown):
    assert without_password(text) == shown


def longer():
    """The sweep of ``resumed``, until a machine was lost: t000 got to epoch 5, and t003 was begun."""
    *before, _, _ = resumed()
    yield from before
    yield EpochReported(time=1050, trial="t000", attempt=3, epoch=5, since_restore=2, metrics={"val/accuracy": 0.96})
    yield TrialCreated(time=1051, trial="t003", origin="search", point={"snnl.weight": 2.0}, config={"epochs": 9})
    yield AttemptStarted(time=1052, trial="t003", attempt=1)
    yield EpochReported(time=1053, trial="t003", attempt=1, epoch=1, since_restore=1, metrics={"val/accuracy": 0.1})


def again():
    """The sweep of ``resumed`` up to epoch 4 of t000, from where it was measured a second time."""
    *before, _, _ = resumed()
    yield from before
    yield SweepStarted(time=2000, generation=3, host="there", pid=3)
    yield AttemptStarted(time=2001, trial="t000", attempt=4)
    yield EpochReported(time=2002, trial="t000", attempt=4, epoch=5, since_restore=1, metrics={"val/accuracy": 0.97})
    yield TrialEnded(time=2003, trial="t000", status="completed")
    yield TrialCreated(time=2004, trial="t003", origin="search", point={"snnl.weight": 3.0}, config={"epochs": 9})
    yield AttemptStarted(time=2005, trial="t003", attempt=1)
    yield EpochReported(time=2006, trial="t003", attempt=1, epoch=1, since_restore=1, metrics={"val/accuracy": 0.2})
    yield SweepEnded(time=2007, status="completed")


@pytest.mark.parametrize("replay", [False, True], ids=["resume", "sync"])
@pytest.mark.parametrize("sends_before", [False, True], ids=["measured since", "restored"])
def test_a_log_restored_from_an_older_copy_doubles_no_point(sweep, tmp_path, caplog, replay, sends_before):
    plan, folder = sweep
    write(folder, list(resumed())[:-2])
    copy = folder.events.read_bytes()
    folder.events.unlink()
    write(folder, longer())
    Tracker(plan, folder).catch_up()
    folder.events.write_bytes(copy)
    if sends_before:
        tracker = Tracker(plan, folder, replay=replay)
        tracker.catch_up()
    write(folder, list(again())[len(list(resumed())) - 2 :])
    if not sends_before:
        tracker = Tracker(plan, folder, replay=replay)
    tracker.catch_up()
    assert tracker.skipped == ()
    points = points_of(plan)
    assert len({point[:3] for point in points}) == len(points)
    assert caplog.text.count("MLflow was ahead of the log") == 1
    assert "the runs of t000, t003 have points that the log lacks" in caplog.text
    fresh = plan.model_copy(update={"tracking_uri": f"sqlite:///{tmp_path}/other.db"})
    Tracker(fresh, folder).catch_up()
    assert everything_of(plan) == everything_of(fresh)


def test_runs_that_are_not_ahead_of_a_restored_log_are_kept(sweep):
    plan, folder = sweep
    write(folder, list(resumed())[:-2])
    copy = folder.events.read_bytes()
    write(folder, list(longer())[-3:])
    Tracker(plan, folder).catch_up()
    client, runs = runs_of(plan, "trial")
    client.log_metric(runs["t001"].info.run_id, "robust/accuracy", 0.4, timestamp=9, step=99)  # of an evaluation
    folder.events.write_bytes(copy)
    Tracker(plan, folder).catch_up()
    _, later = runs_of(plan, "trial")
    assert {name: run.info.run_id for name, run in later.items()} == {
        name: run.info.run_id for name, run in runs.items() if name != "t003"
    }


def test_a_cursor_at_the_end_of_another_line_is_ahead_of_a_restored_log(sweep):
    plan, folder = sweep
    *before, last = list(events())[:7]
    write(folder, before)
    copy = folder.events.read_bytes()
    write(folder, [last])
    Tracker(plan, folder).catch_up()
    store = Cursor.load(folder.cursor).store
    assert not Cursor.is_ahead(folder, store)
    folder.events.write_bytes(copy)
    write(folder, [last.model_copy(update={"attempt": 2})])  # a line of the same length
    assert folder.events.stat().st_size == Cursor.load(folder.cursor).offset
    assert Cursor.is_ahead(folder, store)


@pytest.mark.parametrize("place", ["environment.txt", "tracking.json"])
def test_a_folder_in_the_place_of_a_file_costs_mlflow_no_point(sweep, caplog, place):
    plan, folder = sweep
    write(folder, events())
    (folder.path / place).unlink(missing_ok=True)
    (folder.path / place).mkdir()
    assert Tracker(plan, folder).catch_up()
    assert Tracker(plan, folder).catch_up() is (place == "tracking.json")  # whose position was not kept
    assert len(points_of(plan)) == 7
    assert str(folder.path / place) in caplog.text


def test_packages_that_are_no_text_are_sent_as_far_as_they_are(sweep):
    plan, folder = sweep
    write(folder, events())
    folder.environment.write_bytes(b"numpy==2\n\xff\xfe")
    assert Tracker(plan, folder).catch_up()
    assert len(points_of(plan)) == 7
