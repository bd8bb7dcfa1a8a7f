"""A sweep kept in S3 and tracked in PostgreSQL: killed, gone on with on an empty machine, and purged."""

import json
import os
import re
import signal
import subprocess
import time
from contextlib import ExitStack
from dataclasses import asdict

import pytest
import torch
from commands import RAVEL, raced, running

from orchestrator.analysis.result import SweepResult
from orchestrator.errors import PreflightError, SweepLocked
from orchestrator.execution import preflight
from orchestrator.execution.exporters import exporters_of
from orchestrator.execution.trainable import SweepTrainable
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.state.event_log import EventLog, read_events
from orchestrator.state.events import AttemptStarted, EpochReported, SweepEnded, SweepStarted
from orchestrator.state.s3_mirror import Mirror
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_lock import acquire, is_held
from orchestrator.state.sweep_lookup import find_sweep, list_sweeps
from orchestrator.state.sweep_state import SweepState
from orchestrator.storage.s3 import Bucket
from trainables.metrics import CLASSIFIER_METRICS

SPEC = """
name: cloud
trial: {{data.name: digits, model.name: cnn_bn, epochs: 9, optimizer.name: sgd}}
space: {{use: [mixup], parameters: {{optimizer.lr: {{float: [1.0e-3, 0.5], log: true}}}}}}
search: {{num_trials: 5}}
scheduler: {{grace_period: 3, reduction_factor: 3}}
resources: {{cpus: 0.5, max_concurrent: 2}}
storage: {{uri: "{storage}"}}
"""
HELD = """
def before_epoch(loop):  # past a checkpoint, and before the end
    while loop.epoch >= 6:
        time.sleep(0.1)
"""
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def machine(postgres, tmp_path, plant):
    """``machine(name, fault)`` runs `ravel` as on a machine of its own: its own folder, its own cache.

    What still runs at the end of the test is killed, and its output closed.
    """
    started = ExitStack()

    def on(name, fault=""):
        home = tmp_path / name
        home.mkdir()
        variables = {"RAVEL_CACHE": str(home / "cache"), "MLFLOW_TRACKING_URI": postgres.uri}
        environment = {**(plant(home, fault) if fault else os.environ), **variables}

        def ravel(*arguments, **options):
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            command = running([RAVEL, *arguments], cwd=home, env=environment, **pipes, **options)
            return started.enter_context(command)

        return home, ravel

    with started:
        yield on


def finished(process):
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    return output


def remote_history(storage):
    found = Bucket(storage)
    names = [name for name in found.list_folders() if found.child(name).head("plan.json")]
    return names and [event for event, _ in read_events(find_sweep(storage.uri, names[0]).events)]


def wait_for(condition, process):
    for _ in range(600):
        assert process.poll() is None, process.stdout.read()
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("it never came")


@pytest.mark.ray
@pytest.mark.parametrize("s3_server", ["swift"], indirect=True)
def test_a_killed_sweep_resumes_on_an_empty_machine_and_is_purged(s3, postgres, machine, monkeypatch, tmp_path):
    storage = s3.location / "sweeps"
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "looking-on"))
    Bucket(s3.location).write("other/keep", b"not of the sweep")
    home, ravel = machine("first", HELD)  # it is killed while two trials are in the middle
    (home / "spec.yaml").write_text(SPEC.format(storage=storage.uri))
    driver = ravel("launch", "spec.yaml")

    def in_the_middle():
        events = remote_history(storage)
        state = SweepState(events or ())
        deep = [trial for trial in state.with_status("running") if trial.checkpoints and trial.epoch > 4]
        return events if deep and state.with_status("paused", "completed") else None

    before = wait_for(in_the_middle, driver)
    (sweep,) = list_sweeps(storage.uri)
    assert is_held(sweep)
    with pytest.raises(SweepLocked, match=rf"process {driver.pid} on .* runs this sweep; .*`ravel status {sweep.uri}`"):
        acquire(sweep)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()

    _, ravel = machine("second")
    status = finished(ravel("status", sweep.uri))
    assert f"its driver is gone: ravel resume {sweep.uri}" in status
    assert "yet to take" not in status  # what MLflow has is known where it was sent from
    output = finished(ravel("resume", sweep.uri))
    assert "full budget" in output

    result = SweepResult.read(find_sweep(storage.uri, "cloud"))
    events = [event for event, _ in read_events(result.folder.events)]
    assert events[: len(before)] == before
    state = result.state
    assert len(state.trials) == 5
    assert {trial.status for trial in state.trials.values()} <= {"completed", "stopped"}
    generations = [event.generation for event in events if isinstance(event, SweepStarted)]
    assert generations == [1, 2]
    went_on = [
        event.trial for event in events[len(before) :] if isinstance(event, AttemptStarted) and event.attempt > 1
    ]
    restored = [
        event
        for event in events[len(before) :]
        if isinstance(event, EpochReported) and event.trial in went_on and event.since_restore < event.epoch
    ]
    assert restored  # from a checkpoint in S3, not from the start
    assert result.best().load_model()(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert points_of(postgres, state) == points_in(state)

    secrets = [s3.secret.encode(), postgres.password.encode()]
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    stored = b"".join(Bucket(s3.location).read(found.key) for found in Bucket(s3.location).list())
    assert not [secret for secret in secrets if secret in kept + stored + dump(postgres)]

    told = finished(ravel("purge", sweep.uri))
    assert f"{sweep.uri}: " in told
    assert list_sweeps(storage.uri)
    finished(ravel("purge", sweep.uri, "--yes"))
    assert [found.key for found in Bucket(s3.location).list()] == ["other/keep"]
    assert sweep.sweep.encode() not in dump(postgres)


def points_in(state):
    """The points of a state, without the minor metrics: these trials have more metrics than MLflow is sent."""
    minor = {metric.name for metric in CLASSIFIER_METRICS if metric.minor}
    return sorted(
        (trial.id, name, epoch, value)
        for trial in state.trials.values()
        for epoch, metrics in trial.epochs.items()
        for name, value in metrics.items()
        if value is not None and name not in minor
    )


def points_of(postgres, state):
    from mlflow import MlflowClient

    client = MlflowClient(postgres.uri)
    experiment = client.get_experiment_by_name("cloud").experiment_id
    runs = client.search_runs([experiment], "tags.`ravel.kind` = 'trial'")
    assert len(runs) == len(state.trials)
    return sorted(
        (run.data.tags["ravel.trial"].rpartition("/")[2], name, point.step, point.value)
        for run in runs
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    )


def dump(postgres):
    return subprocess.run(["pg_dump", postgres.uri], check=True, capture_output=True).stdout


POINT = {"data.name": "image_folder", "data.image_size": 8, "model.name": "mlp", "epochs": 3, "device": "cpu"}


@pytest.fixture
def images(s3, tmp_path):
    """Digits as an image folder in S3."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits, root = load_digits(), tmp_path / "images"
    for index in range(300):
        folder = root / ("test" if index < 60 else "train") / str(digits.target[index])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[index] * 15).astype(np.uint8)).save(folder / f"{index}.png")
    bucket = Bucket(s3.location / "images")
    for path in root.rglob("*.png"):
        bucket.upload(path, str(path.relative_to(root)))
    return bucket.location.uri


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
def test_a_trial_trains_on_images_staged_from_s3_and_resumes_from_the_newest_readable_checkpoint(
    s3, images, tmp_path, monkeypatch
):
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "cache"))
    spec = parse_spec(f"name: a\ntrial: {{data.name: image_folder, data.root: '{images}', data.image_size: 8}}")
    preflight.check(spec, (s3.location / "sweeps").uri)
    orders = {"ravel.objectives": ["val/accuracy"], "ravel.storage": asdict(Bucket(s3.location).settings)}
    trainable = SweepTrainable({**POINT, "data.root": images, **orders, "ravel.system_metrics": True})
    event = json.loads(trainable.train()["event"])
    assert event["metrics"]["system/system_memory_usage_megabytes"] > 0
    assert len(event["data"]) == 32
    good = tmp_path / "good"
    good.mkdir()
    trainable.save_checkpoint(str(good))
    checkpoints = Bucket(s3.location / "checkpoints")
    for path in good.iterdir():
        checkpoints.upload(path, f"older/{path.name}")
        checkpoints.write(f"damaged/{path.name}", path.read_bytes()[:-40])
    saved = [checkpoints.uri(name) for name in ("damaged", "older")]
    trainable.reset_config({**POINT, "data.root": images, **orders, "ravel.checkpoint": saved})
    result = trainable.train()
    assert result["epoch"] == 2
    assert "system/system_memory_usage_megabytes" not in json.loads(result["event"])["metrics"]
    trainable.reset_config({**POINT, "data.root": images, **orders, "ravel.checkpoint": saved[:1]})
    assert trainable.train()["epoch"] == 1  # none can be read: from the start
    trainable.stop()


def test_preflight_names_a_storage_and_a_data_set_that_do_not_exist(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "cache"))
    root = (s3.location / "nothing").uri
    spec = parse_spec(f"name: a\ntrial: {{data.name: image_folder, data.root: '{root}', data.image_size: 8}}")
    with pytest.raises(PreflightError) as told:
        preflight.check(spec, "s3://ravel-no-such-bucket-here/sweeps")
    assert re.search("storage.uri: s3://ravel-no-such-bucket-here/.*create it|storage.uri: .*bucket", str(told.value))
    assert f"data.root: {root}: " in str(told.value)


def folder_of(s3, tmp_path, name):
    return SweepFolder(tmp_path / name / "cloud-1", Bucket(s3.location / "sweeps" / "cloud-1"))


def test_a_log_is_mirrored_as_it_grows_and_pulled_elsewhere(s3, tmp_path, monkeypatch):
    here = folder_of(s3, tmp_path, "here")
    here.path.mkdir(parents=True)
    here.plan.write_text("{}")
    here.remote.write("plan.json", b"{}")
    mirror = Mirror(here, here.remote)
    seen = []
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "cache"))
    with EventLog(here.events, segment_bytes=400) as log:
        for generation in range(1, 13):
            log.append(SweepStarted(time=1.0, generation=generation, host="here", pid=1))
            if generation % 3 == 0:
                assert mirror.catch_up()
                assert not mirror.catch_up()
                there = find_sweep((s3.location / "sweeps").uri, "cloud-1")
                seen.append([event.generation for event, _ in read_events(there.events)])
    assert seen == [list(range(1, last + 1)) for last in (3, 6, 9, 12)]
    assert mirror.num_sent == 12
    assert not Mirror(here, here.remote).catch_up()


def test_what_a_driver_wrote_after_it_lost_the_sweep_never_becomes_part_of_it(s3, tmp_path, monkeypatch):
    """Cut off with one event not yet sent, it comes back when another has gone on from what S3 had."""
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "cache"))
    lost = folder_of(s3, tmp_path, "lost")
    lost.path.mkdir(parents=True)
    lost.remote.write("plan.json", b"{}")
    with EventLog(lost.events) as log:
        log.append(SweepStarted(time=1.0, generation=1, host="lost", pid=1))
        Mirror(lost, lost.remote).catch_up()
        log.append(SweepEnded(time=2.0, status="failed"))
        other = find_sweep((s3.location / "sweeps").uri, "cloud-1")
        with EventLog(other.events, generation=2) as taken:
            taken.append(SweepStarted(time=3.0, generation=2, host="other", pid=1))
        Mirror(other, other.remote).catch_up()
        Mirror(lost, lost.remote).catch_up()
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "third"))
    third = find_sweep((s3.location / "sweeps").uri, "cloud-1")
    assert [event.host for event, _ in read_events(third.events)] == ["lost", "other"]


def test_mlflow_gets_only_events_that_s3_has(s3, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = SweepFolder(tmp_path / "here" / "cloud-1", Bucket(s3.location / "sweeps" / "cloud-1"))
    plan = make_plan(parse_spec("name: cloud"), folder, slots=2, now=1.0, working_directory=tmp_path)
    plan.save(folder)
    exporters = exporters_of(plan, folder)
    mirror, tracker = (exporters[name]._target for name in ("S3", "MLflow"))
    with EventLog(folder.events, generation=1) as log:
        log.append(SweepStarted(time=1.0, generation=1, host="here", pid=1))
        assert not tracker.catch_up()
        mirror.catch_up()
        log.append(SweepEnded(time=2.0, status="completed"))
        assert tracker.catch_up()
        assert tracker.num_sent == mirror.num_sent == 1
        assert not tracker.catch_up()
        mirror.catch_up()
        assert tracker.catch_up()
        assert tracker.num_sent == mirror.num_sent == 2


RACE = """
import sys
from pathlib import Path
from orchestrator import errors
from orchestrator.state import sweep_lock
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.storage.s3 import Bucket, Location
folder = SweepFolder(Path("unused"), Bucket(Location.parse(sys.argv[1])))
at_once()
try: sweep_lock.acquire(folder)
except errors.SweepLocked: print("refused", flush=True)
else: print("held", flush=True)
"""


def test_of_drivers_at_once_one_gets_the_lock(s3, tmp_path):
    said = raced(RACE, (s3.location / "raced").uri, folder=tmp_path)
    assert sorted(said) == ["held", "refused", "refused", "refused"]


def test_a_lock_in_s3_is_renewed_released_and_expires(s3, tmp_path, monkeypatch):
    from orchestrator.state import sweep_lock

    folder = folder_of(s3, tmp_path, "here")
    held = acquire(folder)
    assert is_held(folder)
    held.renew()
    (name,) = [found.key for found in folder.remote.list("leases")]
    holder = json.loads(folder.remote.read(name))
    folder.remote.write(name, json.dumps({**holder, "host": "elsewhere"}).encode())
    assert is_held(folder)  # renewed a moment ago
    monkeypatch.setattr(sweep_lock, "STALE_S", -5.0)
    assert not is_held(folder)
    monkeypatch.undo()
    held.release()
    assert not is_held(folder)
    assert acquire(folder).generation == 2
