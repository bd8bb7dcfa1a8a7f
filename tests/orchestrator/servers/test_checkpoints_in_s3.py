"""Dropped checkpoints of a sweep in S3: deleted once the log is there, in few requests, and after an interruption."""

import shutil
import time

import pytest
from typer.testing import CliRunner

from orchestrator import launching
from orchestrator.cli.main import app
from orchestrator.decisions.trial_views import DecisionState
from orchestrator.execution import driver
from orchestrator.execution.checkpoints.deletion import AttemptFolder, all_dropped, delete, left_over
from orchestrator.execution.checkpoints.orphans import QUIET_S, orphans
from orchestrator.execution.checkpoints.retention import CheckpointRetention
from orchestrator.execution.exporters import Exporter
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import SweepPlan, make_plan
from orchestrator.state import sweep_lock
from orchestrator.state.event_log import EventLog, read_events
from orchestrator.state.event_store import EventStore
from orchestrator.state.events import (
    AttemptStarted,
    CheckpointSaved,
    CheckpointsDropped,
    EpochReported,
    SweepEnded,
    SweepStarted,
    TrialCreated,
    TrialEnded,
)
from orchestrator.state.s3_mirror import Mirror
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.state.sweep_state import SweepState
from orchestrator.storage.s3 import Bucket

pytestmark = pytest.mark.timeout(300)
NUM_TRIALS = 6


def events(number):
    trial = f"t{number:03d}"
    yield TrialCreated(time=2.0, trial=trial, origin="search", point={"mixup.alpha": 0.0}, config={"epochs": 1})
    yield AttemptStarted(time=2.0, trial=trial, attempt=1)
    metrics = {"val/accuracy": number / 10}
    yield EpochReported(time=3.0, trial=trial, attempt=1, epoch=1, since_restore=1, metrics=metrics)
    path = f"tune/{trial}-1-g1/checkpoint_000000"
    yield CheckpointSaved(time=3.0, trial=trial, epoch=1, path=path, size_bytes=7)
    yield TrialEnded(time=4.0, trial=trial, status="completed")


@pytest.fixture
def cloud(s3, tmp_path, monkeypatch):
    """A finished sweep in S3 on the machine of its driver: `cloud(keep_best)`."""
    storage = (s3.location / "sweeps").uri
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "driver"))
    monkeypatch.setattr(
        driver, "exporters_of", lambda _, folder: {"S3": Exporter(Mirror(folder, folder.remote), name="S3", poll_s=0.1)}
    )

    def write(*settings):
        folder = SweepFolder(tmp_path / "launched" / "cloud-1", Bucket(s3.location / "sweeps" / "cloud-1"))
        folder.path.mkdir(parents=True)
        text = f"name: cloud\ntrial: {{epochs: 1}}\nspace: {{use: [mixup]}}\nstorage: {{uri: '{storage}'}}\n"
        text += f"search: {{num_trials: {NUM_TRIALS}}}\nscheduler: {{name: none}}\n"
        spec = parse_spec(text, settings)
        make_plan(spec, folder, slots=1, now=1.0, working_directory=tmp_path).save(folder)
        lock = sweep_lock.acquire(folder)
        with EventLog(folder.events) as log:
            log.append(SweepStarted(time=1.0, generation=1, host="here", pid=1))
            for number in range(NUM_TRIALS):
                for event in events(number):
                    log.append(event)
                attempt = folder.remote.child(f"tune/t{number:03d}-1-g1")
                for key in ("checkpoint_000000/state.pt", "checkpoint_000000/.tune_metadata", "result.json"):
                    attempt.write(key, b"content")
            log.append(SweepEnded(time=9.0, status="completed"))
        Mirror(folder, folder.remote).catch_up()
        lock.release()
        return folder, storage

    return write


def objects(folder):
    return [item.key for item in folder.remote.list("tune")]


def with_checkpoints(folder):
    return sorted({key[5:9] for key in objects(folder) if "/checkpoint_" in key})


def test_the_driver_deletes_the_objects_of_all_but_the_best_and_the_log_in_s3_says_so(cloud, tmp_path, monkeypatch):
    folder, storage = cloud("storage.keep_best=2")
    fetched = folder.path / "tune" / "t000-1-g1" / "checkpoint_000000"  # a copy that an evaluation fetched
    fetched.mkdir(parents=True)
    launching.answer_orders(folder)
    assert with_checkpoints(folder) == ["t004", "t005"]
    assert sum(key.endswith("result.json") for key in objects(folder)) == NUM_TRIALS
    assert not fetched.exists()
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "laptop"))
    state = SweepState.read(find_sweep(storage, "cloud-1").events)
    assert [trial.id for trial in state.trials.values() if trial.checkpoints] == ["t004", "t005"]


def test_nothing_is_deleted_while_s3_lacks_the_line(cloud, caplog):
    """Another machine may continue from the log in S3: there a trial may run that ended here."""
    folder, _ = cloud("storage.keep_best=2")
    plan, state = SweepPlan.load(folder), SweepState.read(folder.events)
    decisions, exporter = DecisionState(plan, state), Exporter(Mirror(folder, folder.remote), name="S3")
    store = EventStore(EventLog(folder.events), state, folds=(decisions,))
    retention = CheckpointRetention.of_driver(
        decisions, store, folder, exporters={"S3": exporter}, is_lost=lambda: False
    )
    retention.serve()
    retention.finish(timeout_s=20.0)
    retention.warn_of_rest()
    store.close()
    assert sum(trial.is_dropped for trial in state.trials.values()) == NUM_TRIALS - 2
    assert len(with_checkpoints(folder)) == NUM_TRIALS
    assert "dropped checkpoints of 4 attempts are not deleted yet; the next driver does it: ravel resume" in caplog.text
    launching.answer_orders(folder)
    assert with_checkpoints(folder) == ["t004", "t005"]


def test_what_a_killed_driver_dropped_is_found_and_deleted_on_another_machine(cloud, tmp_path, monkeypatch):
    folder, storage = cloud("storage.keep_best=2")
    with EventLog(folder.events) as log:
        for trial in ("t000", "t001"):
            log.append(CheckpointsDropped(time=10.0, trial=trial, keep_best=2))
    Mirror(folder, folder.remote).catch_up()
    folder.remote.delete(["tune/t000-1-g1/checkpoint_000000/state.pt"])  # broken off within a checkpoint
    dropped = list(all_dropped(SweepState.read(folder.events), folder))
    assert [attempt.path for attempt in left_over(folder, dropped)] == ["tune/t000-1-g1", "tune/t001-1-g1"]
    shutil.rmtree(folder.path)
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "second"))
    launching.answer_orders(find_sweep(storage, "cloud-1"))
    assert with_checkpoints(folder) == ["t004", "t005"]
    assert left_over(folder, dropped) == []


def test_a_deletion_takes_one_request_for_all_objects_besides_the_listings(cloud, monkeypatch):
    folder, _ = cloud()
    batches = []
    whole = Bucket.delete
    monkeypatch.setattr(Bucket, "delete", lambda self, keys: whole(self, batches.append(found := list(keys)) or found))
    attempts = [AttemptFolder(f"tune/t{number:03d}-1-g1", frozenset()) for number in range(4)]
    delete(folder, attempts)
    assert [len(batch) for batch in batches] == [8]
    assert with_checkpoints(folder) == ["t004", "t005"]


def test_a_purge_of_checkpoints_in_s3_is_in_the_log_there(cloud, tmp_path, monkeypatch):
    folder, storage = cloud()
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "laptop"))
    command = ["purge", f"{storage}/cloud-1", "--checkpoints", "--keep-best", "1"]
    listed = CliRunner().invoke(app, command)
    assert "to delete: checkpoints of 5 trials, 35 B" in listed.output
    assert len(with_checkpoints(folder)) == NUM_TRIALS
    done = CliRunner().invoke(app, [*command, "--yes"])
    assert done.exit_code == 0, done.output
    assert with_checkpoints(folder) == ["t005"]
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "third"))
    dropped = [e for e, _ in read_events(find_sweep(storage, "cloud-1").events) if isinstance(e, CheckpointsDropped)]
    assert len(dropped) == 5


def test_objects_of_checkpoints_that_no_event_names_are_found_once_they_are_old_and_deleted_alone(cloud):
    folder, _ = cloud()
    attempt = folder.remote.child("tune/t002-1-g1")
    for key in ("checkpoint_000001/state.pt", "checkpoint_000001/.tune_metadata"):
        attempt.write(key, b"content")
    before, state = objects(folder), SweepState.read(folder.events)
    assert orphans(state, folder, now=time.time()).count == 0
    found = orphans(state, folder, now=time.time() + 2 * QUIET_S)
    assert (found.count, found.num_bytes) == (1, 14)
    delete(folder, found.attempts)
    assert objects(folder) == [key for key in before if "t002-1-g1/checkpoint_000001/" not in key]
    assert len(objects(folder)) == len(before) - 2
