"""Event log to MLflow, against real stores."""

import json
from pathlib import Path

import pytest

from orchestrator import plan as planning
from orchestrator.events import (
    AttemptFailed,
    AttemptStarted,
    EpochReported,
    EventLog,
    RungDecided,
    SweepEnded,
    SweepStarted,
    TrialCreated,
    TrialEnded,
)
from orchestrator.follower import Follower
from orchestrator.loading import parse_spec
from orchestrator.storage import SweepFolder
from orchestrator.tracking import Cursor, Tracker

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


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """A planned sweep, tracked in a fresh sqlite store in the test's folder."""
    monkeypatch.chdir(tmp_path)
    folder = SweepFolder(tmp_path / "results" / "digits-1")
    folder.path.mkdir(parents=True)
    plan = planning.make(parse_spec(SPEC), folder, now=5.0, working_directory=tmp_path)
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


def test_sending_everything_again_changes_nothing(sweep):
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
    follower = Follower(Tracker(plan, folder))
    follower.start()
    assert not follower.stop(timeout_s=2)
    assert "no route to MLflow" in follower.error
    assert caplog.text.count("MLflow is behind") == 1
    monkeypatch.setattr(Tracker, "_connect", up)
    again = Follower(Tracker(plan, folder))
    again.start()
    assert again.stop(timeout_s=60)
    assert len(runs_of(plan, "trial")[1]) == 3
