"""S3 that is away for a while is waited for, and a purge leaves nothing in S3 or at an MLflow server."""

import errno
import json
import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from orchestrator.analysis import purge
from orchestrator.errors import ObjectMissing, StorageError
from orchestrator.execution.trainable import SweepTrainable
from orchestrator.execution.trials import sweep_training
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.state import sweep_lookup
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import AttemptStarted, EpochReported, SweepStarted, TrialCreated, TrialEnded
from orchestrator.state.s3_mirror import publish
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_lock import acquire, is_held
from orchestrator.state.sweep_lookup import create_folder, list_sweeps, new_id
from orchestrator.storage import patience
from orchestrator.storage.patience import patiently
from orchestrator.storage.s3 import Bucket, Settings, filesystem
from orchestrator.tracking.tracker import Tracker

ONLY_MOTO = pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
POINT = {"data.name": "digits", "model.name": "mlp", "epochs": 3, "device": "cpu"}
AWAY_S = 2.0
SPEC = "name: digits\ntrial: {epochs: 1}\nspace: {use: [mixup]}\n"


class Longest(random.Random):
    """Jitter that never shortens a pause."""

    def random(self):
        return 1.0


class Clock:
    """Seconds that pass only in ``sleep``; ``pauses`` is how long each was."""

    def __init__(self):
        self.now, self.pauses = 0.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


def failing(times, error=StorageError):
    """Fails so many times, then answers."""
    left = iter([error("s3://team/a: away")] * times)

    def fetch():
        if (failure := next(left, None)) is not None:
            raise failure
        return "here"

    return fetch


def test_an_outage_is_waited_out_with_growing_pauses_and_one_warning(caplog):
    clock = Clock()
    assert patiently(failing(5), clock=clock, sleep=clock.sleep, rng=Longest()) == "here"
    assert clock.pauses == [5, 10, 20, 30, 30]
    assert caplog.text.count("s3://team/a: away; waiting, for up to 600 s") == 1


def test_pauses_are_spread_so_that_workers_do_not_return_at_once():
    pauses = []
    for seed in range(20):
        clock = Clock()
        patiently(failing(5), clock=clock, sleep=clock.sleep, rng=random.Random(seed))
        assert all(0 <= pause <= limit for pause, limit in zip(clock.pauses, (5, 10, 20, 30, 30), strict=True))
        pauses += clock.pauses
    assert len(set(pauses)) == 100


def test_an_outage_that_does_not_end_is_raised():
    clock = Clock()
    with pytest.raises(StorageError, match="away"):
        patiently(failing(1000), clock=clock, sleep=clock.sleep)
    assert clock.now == patience.PATIENCE_S


def test_what_is_missing_is_not_waited_for():
    clock = Clock()
    with pytest.raises(ObjectMissing):
        patiently(failing(1, ObjectMissing), clock=clock, sleep=clock.sleep)
    assert not clock.pauses


@pytest.fixture
def _short_pauses(monkeypatch):
    monkeypatch.setattr(patience, "SHORTEST_PAUSE_S", 0.1)
    monkeypatch.setattr(patience, "LONGEST_PAUSE_S", 0.5)


@ONLY_MOTO
@pytest.mark.usefixtures("_short_pauses")
def test_a_worker_waits_for_its_checkpoint_while_s3_is_away(s3, proxy, tmp_path, caplog):
    orders = {
        "ravel.objectives": ["val/accuracy"],
        "ravel.storage": asdict(Settings(endpoint=proxy.endpoint, attempts=1)),
    }
    actor = SweepTrainable({**POINT, **orders})
    actor.train()
    saved = tmp_path / "saved"
    saved.mkdir()
    actor.save_checkpoint(str(saved))
    checkpoint = Bucket(s3.location / "checkpoint", Settings(endpoint=s3.endpoint))
    for path in saved.iterdir():
        checkpoint.upload(path, path.name)
    proxy.status, proxy.code, proxy.refusals = 500, "InternalError", 10**9
    back = threading.Timer(AWAY_S, setattr, (proxy, "refusals", 0))
    back.start()
    began = time.monotonic()
    actor.reset_config({**POINT, **orders, "ravel.checkpoint": [checkpoint.location.uri]})
    assert time.monotonic() - began > AWAY_S / 2
    assert actor.train()["epoch"] == 2
    assert caplog.text.count("waiting, for up to") == 1
    actor.stop()


@pytest.fixture
def kept_at():
    """`kept_at(path, filesystem=None)`: where Tune has a worker put its checkpoints; it takes it in an actor alone."""
    from ray.train._internal.storage import StorageContext

    def storage(path, files=None):
        return StorageContext(str(path), "tune", storage_filesystem=files, trial_dir_name="t000-1-g1")

    return storage


@ONLY_MOTO
@pytest.mark.usefixtures("_short_pauses")
def test_a_worker_waits_to_store_its_checkpoint_while_s3_is_away(s3, proxy, kept_at, caplog):
    files, path = filesystem(s3.location / "a-1", Settings(endpoint=proxy.endpoint, attempts=1))
    orders = {"ravel.objectives": ["val/accuracy"], "ravel.storage": asdict(Settings(proxy.endpoint, attempts=1))}
    actor = SweepTrainable({**POINT, **orders})
    actor._storage = kept_at(path, files)
    actor.train()
    proxy.status, proxy.code, proxy.refusals = 500, "InternalError", 10**9
    back = threading.Timer(AWAY_S, setattr, (proxy, "refusals", 0))
    back.start()
    began = time.monotonic()
    saved = actor.save()
    assert time.monotonic() - began > AWAY_S / 2
    stored = Bucket(s3.location / "a-1", Settings(endpoint=s3.endpoint)).child("tune/t000-1-g1/checkpoint_000000")
    assert saved.checkpoint.path.endswith("tune/t000-1-g1/checkpoint_000000")
    assert [item.key for item in stored.list()] == ["state.pt"]
    assert caplog.text.count("waiting, for up to") == 1
    actor.stop()


@pytest.mark.usefixtures("_short_pauses")
def test_a_worker_waits_to_store_its_checkpoint_while_the_disk_is_full(tmp_path, kept_at, monkeypatch, caplog):
    storage = kept_at(tmp_path)
    persist, times = storage.persist_current_checkpoint, []

    def full(checkpoint):
        times.append(time.monotonic())
        if len(times) < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return persist(checkpoint)

    monkeypatch.setattr(storage, "persist_current_checkpoint", full)
    orders = {"ravel.objectives": ["val/accuracy"], "ravel.storage": asdict(Settings())}
    actor = SweepTrainable({**POINT, **orders})
    actor._storage = storage
    actor.train()
    saved = actor.save()
    assert len(times) == 3
    assert Path(saved.checkpoint.path, "state.pt").is_file()
    assert caplog.text.count("No space left on device; waiting, for up to 600 s") == 1
    actor.stop()


@ONLY_MOTO
def test_an_old_checkpoint_that_s3_does_not_delete_is_one_line_and_stays(s3, proxy, caplog):
    from ray import tune
    from ray.train._internal.checkpoint_manager import _CheckpointManager
    from ray.train._internal.session import _TrainingResult

    from orchestrator.execution.tune.storage import forgiving_storage

    files, path = filesystem(s3.location / "a-1", Settings(endpoint=proxy.endpoint, attempts=1))
    results = []
    for number in range(3):
        Bucket(s3.location / f"a-1/{number}", Settings(endpoint=s3.endpoint)).write("state.pt", b"x")
        results.append(_TrainingResult(tune.Checkpoint(f"{path}/{number}", files), {}))
    kept = _CheckpointManager(tune.CheckpointConfig(num_to_keep=1))
    with forgiving_storage():
        kept.register_checkpoint(results[0])
        proxy.status, proxy.code, proxy.refusals = 500, "InternalError", 10**9
        kept.register_checkpoint(results[1])
        proxy.refusals = 0
        kept.register_checkpoint(results[2])
    assert kept.latest_checkpoint_result is results[2]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{path}/0: an old checkpoint could not be deleted, it takes room (")
    assert "Traceback" not in caplog.text
    stored = [item.key for item in Bucket(s3.location / "a-1", Settings(endpoint=s3.endpoint)).list()]
    assert stored == ["0/state.pt", "2/state.pt"]


@ONLY_MOTO
@pytest.mark.usefixtures("_short_pauses")
def test_a_sweep_begins_once_s3_is_back_and_can_be_left_before(s3, proxy, caplog):
    from ray import tune

    from orchestrator.execution.tune.storage import once_reachable

    files, path = filesystem(s3.location / "a-1", Settings(endpoint=proxy.endpoint, attempts=1))
    kept = tune.RunConfig(name="tune", storage_path=path, storage_filesystem=files)
    tries = []
    proxy.status, proxy.code, proxy.refusals = 500, "InternalError", 10**9
    back = threading.Timer(AWAY_S, setattr, (proxy, "refusals", 0))
    back.start()
    tuner = once_reachable(lambda: tune.Tuner(SweepTrainable, run_config=kept), before_try=lambda: tries.append(1))
    assert isinstance(tuner, tune.Tuner)
    assert len(tries) > 1
    assert caplog.text.count("the place of the checkpoints cannot be written: ") == 1

    def leave():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        once_reachable(lambda: tuner, before_try=leave)


def test_a_machine_that_cannot_be_measured_costs_no_epoch(monkeypatch, caplog):
    def refuse():
        raise RuntimeError("no driver")

    monkeypatch.setattr(sweep_training, "system_metrics", refuse)
    orders = {"ravel.objectives": ["val/accuracy"], "ravel.storage": asdict(Settings()), "ravel.system_metrics": True}
    actor = SweepTrainable({**POINT, **orders})
    for epoch in (1, 2):
        metrics = json.loads(actor.train()["event"])["metrics"]
        assert metrics["val/accuracy"] > 0, epoch
        assert not [name for name in metrics if name.startswith("system/")]
    assert caplog.text.count("system metrics unavailable (RuntimeError: no driver)") == 1
    actor.stop()


def test_a_lock_that_s3_does_not_release_warns_and_hides_nothing(proxy, s3, tmp_path, caplog):
    held = acquire(SweepFolder(tmp_path / "a-1", Bucket(s3.location / "a-1", Settings(proxy.endpoint, attempts=1))))
    proxy.refusals = 10**9
    held.release()
    assert "the lock was not released (" in caplog.text


def sweep_of(root, storage, tracking):
    """A sweep of one trial, in S3 or in a folder, and tracked."""
    folder = create_folder(storage, new_id("digits", now=time_of_test()))
    plan = make_plan(
        parse_spec(f"{SPEC}tracking: {{uri: '{tracking}'}}"), folder, slots=1, now=1.0, working_directory=root
    )
    plan.save(folder)
    publish(folder)
    with EventLog(folder.events) as log:
        log.append(SweepStarted(time=1.0, generation=1, host="here", pid=1))
        log.append(TrialCreated(time=2.0, trial="t000", origin="baseline", point={}, config={"epochs": 1}))
        log.append(AttemptStarted(time=3.0, trial="t000", attempt=1))
        metrics = {"val/accuracy": 0.5}
        log.append(EpochReported(time=4.0, trial="t000", attempt=1, epoch=1, since_restore=1, metrics=metrics))
        log.append(TrialEnded(time=5.0, trial="t000", status="failed", reason="no", traceback="Traceback ..."))
    Tracker(plan, folder).catch_up()
    return plan, folder


def time_of_test():
    from datetime import datetime

    return datetime(2026, 1, 1).astimezone()


def test_a_purge_leaves_nothing_that_plain_boto3_sees(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "cache"))
    storage = s3.location / "sweeps"
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    plan, folder = sweep_of(tmp_path, storage.uri, store)
    _, kept = sweep_of(tmp_path, storage.uri, store)
    files, path = filesystem(folder.remote.location / "tune" / "t000-1")
    files.create_dir(path, recursive=True)  # as Tune does: empty objects that represent folders
    with files.open_output_stream(f"{path}/state.pt") as file:
        file.write(b"x" * 1000)
    found = purge.find(plan, folder)
    purge.carry_out(plan, found)
    client = s3.client()
    keys = [each["Key"] for each in client.list_objects_v2(Bucket=s3.bucket).get("Contents", ())]
    client.close()
    assert not [key for key in keys if folder.sweep in key]
    assert [key for key in keys if kept.sweep in key]
    assert list(Bucket(storage).list_folders()) == [kept.sweep]
    assert [each.sweep for each in list_sweeps(storage.uri)] == [kept.sweep]
    assert not folder.path.exists()


@ONLY_MOTO
def test_a_purge_that_s3_cuts_off_can_be_repeated(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "cache"))
    plan, folder = sweep_of(tmp_path, (s3.location / "sweeps").uri, f"sqlite:///{tmp_path / 'mlflow.db'}")
    folder.remote.write("tune/t000-1/state.pt", b"x")

    def refuse(*_):
        raise StorageError("away")

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "delete_prefix", refuse)
        with pytest.raises(StorageError, match="away"):
            purge.carry_out(plan, purge.find(plan, folder))
    assert not is_held(folder)
    purge.carry_out(plan, purge.find(plan, folder))
    assert not list(Bucket(s3.location).list())


@ONLY_MOTO
def test_sweeps_are_pulled_in_parallel_and_listed_in_order(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "cache"))
    names = [f"a-20260101-12000{second}-aaaa" for second in range(8)]
    storage = Bucket(s3.location / "sweeps")
    for name in names:
        storage.write(f"{name}/plan.json", b"{}")
    pull, together = sweep_lookup.pull, threading.Barrier(4)

    def meeting(folder):
        together.wait(timeout=20)
        return pull(folder) and not folder.sweep.startswith("a-20260101-120003")

    monkeypatch.setattr(sweep_lookup, "pull", meeting)
    assert [folder.sweep for folder in list_sweeps(storage.location.uri)] == names[:3] + names[4:]

    def refuse(folder):
        if folder.sweep == names[5]:
            raise StorageError("s3://team/a: away")
        return True

    monkeypatch.setattr(sweep_lookup, "pull", refuse)
    with pytest.raises(StorageError, match="away"):
        list_sweeps(storage.location.uri)


@pytest.fixture
def mlflow_server(tmp_path, free_port, until_healthy):
    """A server that nothing but the spec names."""
    address, home = f"http://127.0.0.1:{free_port}", tmp_path / "server"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING")}
    store = ["--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}", "--artifacts-destination", str(home / "kept")]
    with (home / "output.txt").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(free_port), *store],
            cwd=home,
            stdout=out,
            stderr=out,
            env=environment | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
    try:
        until_healthy(address, process, home / "output.txt")
        yield address, home
    finally:
        process.terminate()
        process.wait(30)


def test_a_purge_takes_the_artifacts_from_the_server_that_the_spec_names(mlflow_server, tmp_path, monkeypatch):
    address, home = mlflow_server
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    plan, folder = sweep_of(tmp_path, tmp_path / "results", address)
    assert [path for path in (home / "kept").rglob("*") if path.is_file()]
    purge.carry_out(plan, purge.find(plan, folder))
    assert not [path for path in (home / "kept").rglob("*") if path.is_file()]
    assert not folder.path.exists()
