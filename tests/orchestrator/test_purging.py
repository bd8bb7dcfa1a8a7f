"""A purge removes everything that a sweep wrote, and nothing else."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock, Timeout
from typer.testing import CliRunner

from orchestrator.analysis import purge
from orchestrator.cli.main import app
from orchestrator.errors import OrchestratorError, SweepCopied, SweepLocked
from orchestrator.planning.changes.original import require_original
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import SweepPlan, make_plan
from orchestrator.state import sweep_lock
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import (
    AttemptStarted,
    CheckpointSaved,
    EpochReported,
    SweepEnded,
    SweepStarted,
    TrialCreated,
    TrialEnded,
)
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_lookup import list_sweeps
from orchestrator.storage.locations import Location
from orchestrator.tracking import removal
from orchestrator.tracking.tracker import Tracker
from search_spaces.errors import MissingExtraError

RAVEL = Path(sys.executable).with_name("ravel")


def write_sweep(root, name):
    folder = SweepFolder(root / "results" / name)
    (folder.tune / "t000-1" / "checkpoint_000000").mkdir(parents=True)
    (folder.tune / "t000-1" / "checkpoint_000000" / "state.pt").write_bytes(b"x" * 1000)
    spec = parse_spec("name: digits\ntrial: {epochs: 1}\nspace: {use: [snnl, mixup]}")
    plan = make_plan(spec, folder, slots=2, now=1.0, working_directory=root)
    plan.save(folder)
    with EventLog(folder.events) as log:
        log.append(SweepStarted(time=1.0, generation=1, host="here", pid=1))
        log.append(TrialCreated(time=2.0, trial="t000", origin="baseline", point={}, config={"epochs": 1}))
        log.append(AttemptStarted(time=3.0, trial="t000", attempt=1))
        metrics = {"val/accuracy": 0.5}
        log.append(EpochReported(time=4.0, trial="t000", attempt=1, epoch=1, since_restore=1, metrics=metrics))
        log.append(CheckpointSaved(time=4.5, trial="t000", epoch=1, path="tune/t000-1/checkpoint_000000"))
        log.append(TrialEnded(time=5.0, trial="t000", status="failed", reason="no", traceback="Traceback ..."))
        log.append(SweepEnded(time=6.0, status="completed"))
    Tracker(plan, folder).catch_up()
    return plan, folder


def ravel(root, *arguments):
    return subprocess.run([str(RAVEL), *arguments], cwd=root, capture_output=True, text=True, check=False)


def files(root):
    return {
        path.relative_to(root): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith("mlflow.db")
    }


def rows(root):
    with sqlite3.connect(root / "mlflow.db") as connection:
        return list(connection.iterdump())


@pytest.fixture
def two_sweeps(tmp_path, monkeypatch, store_at):
    monkeypatch.chdir(tmp_path)
    store_at(tmp_path / "mlflow.db")
    _, gone = write_sweep(tmp_path, "digits-20260101-120000-aaaa")
    plan, kept = write_sweep(tmp_path, "digits-20260101-120000-bbbb")
    return tmp_path, plan, gone, kept


def test_a_purge_is_announced_and_then_leaves_nothing_of_the_sweep_and_everything_else(two_sweeps):
    root, _, gone, kept = two_sweeps
    before = files(root)
    told = ravel(root, "purge", gone.sweep)
    assert told.returncode == 0, told.stderr
    assert "2 runs with their artifacts" in told.stdout
    assert f"nothing was removed; to remove all of this: ravel purge {gone.sweep} --yes" in told.stdout
    assert files(root) == before
    done = ravel(root, "purge", gone.sweep, "--yes")
    assert done.returncode == 0, done.stderr
    assert f"{gone.sweep}: removed" in done.stdout
    assert not gone.path.exists()
    after = files(root)
    assert set(after) <= set(before)
    assert {path: content for path, content in before.items() if kept.sweep in str(path)}.items() <= after.items()
    mlartifacts = [path for path in after if path.parts[0] == "mlartifacts"]
    assert len(mlartifacts) == len([path for path in before if path.parts[0] == "mlartifacts"]) / 2
    assert not [row for row in rows(root) if gone.sweep in row]
    assert [row for row in rows(root) if kept.sweep in row]


def test_a_second_purge_finds_no_sweep(two_sweeps):
    root, _, gone, _ = two_sweeps
    assert ravel(root, "purge", gone.sweep, "--yes").returncode == 0
    again = ravel(root, "purge", gone.sweep, "--yes")
    assert again.returncode == 2
    assert f"no sweep {gone.sweep!r} here" in again.stderr


def test_a_purge_that_was_cut_off_is_gone_on_with(two_sweeps):
    root, _, gone, _ = two_sweeps
    (gone.tune / "t000-1" / "checkpoint_000000" / "state.pt").unlink()
    with sqlite3.connect(root / "mlflow.db") as connection:
        connection.execute("DELETE FROM experiment_tags")
    assert ravel(root, "purge", gone.sweep, "--yes").returncode == 0
    assert not gone.path.exists()


@pytest.mark.parametrize("command", ["purge", "sync"])
def test_a_sweep_that_runs_is_left_to_its_driver(two_sweeps, command):
    root, _, gone, _ = two_sweeps
    held = sweep_lock.acquire(gone)
    told = ravel(root, command, gone.sweep)
    assert told.returncode == 3
    assert "its driver runs" in told.stderr
    held.release()
    assert gone.plan.exists()


def test_of_two_syncs_at_once_one_waits_and_no_run_is_made_twice(two_sweeps, monkeypatch):
    root, plan, _, kept = two_sweeps
    removal.remove(plan, removal.traces(plan))
    catch_up, others = Tracker.catch_up, []

    def catching_up(tracker):
        with pytest.raises(Timeout):
            FileLock(kept.sync_lock, timeout=0).acquire()
        others.append(subprocess.Popen([str(RAVEL), "sync", kept.sweep], cwd=root))
        return catch_up(tracker)

    monkeypatch.setattr(Tracker, "catch_up", catching_up)
    assert CliRunner().invoke(app, ["sync", kept.sweep]).exit_code == 0
    assert [other.wait(60) for other in others] == [0]
    assert len(removal.traces(plan).runs) == 2  # the trial's and the sweep's


def test_a_lock_that_cannot_be_taken_is_not_laid_at_mlflows_door(two_sweeps):
    root, _, _, kept = two_sweeps
    kept.sync_lock.mkdir()
    told = ravel(root, "sync", kept.sweep)
    assert told.returncode == 3
    assert str(kept.sync_lock.relative_to(root)) in told.stderr
    assert "MLflow did not take it" not in told.stderr


def test_a_sync_that_lacks_its_extra_says_what_to_install(two_sweeps, monkeypatch):
    _, _, _, kept = two_sweeps
    monkeypatch.setitem(sys.modules, "filelock", None)
    with pytest.raises(MissingExtraError, match=r"filelock is not installed: pip install 'ravel-sweeps\[track\]'"):
        CliRunner().invoke(app, ["sync", kept.sweep], catch_exceptions=False)


def test_a_sweep_whose_model_is_registered_is_kept(two_sweeps):
    from mlflow import MlflowClient

    root, plan, _, kept = two_sweeps
    client = MlflowClient(plan.tracking_uri)
    experiment = client.get_experiment_by_name("digits").experiment_id
    (run,) = client.search_runs([experiment], f"tags.`ravel.trial` = '{kept.sweep}/t000'")
    client.create_registered_model("champion")
    for _ in range(10):
        client.create_model_version("champion", run.info.artifact_uri, run.info.run_id)
    told = ravel(root, "purge", kept.sweep, "--yes")
    assert told.returncode == 3
    assert "champion version 9, champion version 10 was registered from it; delete the version in" in told.stderr
    assert kept.plan.exists()


def test_no_driver_can_begin_while_a_purge_is_under_way(two_sweeps, monkeypatch):
    _, plan, _, kept = two_sweeps
    found = purge.find(plan, kept)
    remove, seen = removal.remove, []

    def removing(*arguments):
        with pytest.raises(SweepLocked, match="runs this sweep"):
            sweep_lock.acquire(kept)
        seen.append(sweep_lock.is_held(kept))
        remove(*arguments)

    monkeypatch.setattr(removal, "remove", removing)
    purge.carry_out(plan, found)
    assert seen == [True]
    assert not kept.path.exists()


def test_a_sweep_that_was_gone_on_with_since_is_kept(two_sweeps):
    _, plan, _, kept = two_sweeps
    found = purge.find(plan, kept)
    sweep_lock.acquire(kept)
    with pytest.raises(SweepLocked):
        purge.carry_out(plan, found)
    assert kept.events.exists()
    assert purge.removal.traces(plan).runs


def test_a_sweep_that_another_driver_took_while_it_was_purged_is_kept(two_sweeps, monkeypatch):
    _, plan, _, kept = two_sweeps
    found = purge.find(plan, kept)
    monkeypatch.setattr(sweep_lock.SweepLock, "is_lost", lambda _: True)
    with pytest.raises(SweepLocked, match="another driver took it meanwhile"):
        purge.carry_out(plan, found)
    assert kept.events.exists()


def test_a_purge_that_mlflow_refuses_releases_the_sweep(two_sweeps, monkeypatch):
    _, plan, _, kept = two_sweeps
    found = purge.find(plan, kept)

    def refuse(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(removal, "remove", refuse)
    with pytest.raises(OrchestratorError, match="MLflow refused"):
        purge.carry_out(plan, found)
    assert not sweep_lock.is_held(kept)


def test_a_removal_that_is_cut_off_leaves_no_half_sweep(two_sweeps, monkeypatch):
    root, plan, gone, kept = two_sweeps
    found = purge.find(plan, kept)

    rmtree = shutil.rmtree

    def cut_off(path, *arguments):
        if kept.sweep in str(path):
            raise KeyboardInterrupt
        rmtree(path, *arguments)  # MLflow's artifacts

    monkeypatch.setattr(shutil, "rmtree", cut_off)
    with pytest.raises(KeyboardInterrupt):
        purge.carry_out(plan, found)
    assert [folder.sweep for folder in list_sweeps(root / "results")] == [gone.sweep]


@pytest.mark.parametrize(
    ("place", "content"),
    [
        ("leases/000001.json", b""),
        ("leases/._000001.json", b"\0"),
        ("tracking.json", b'{"offset": "x"}'),
        ("plan.json", b"\xff"),
        ("events.jsonl", b"\xff\n"),
        ("events.jsonl", None),
        ("leases", b"a file"),
    ],
)
def test_a_list_names_a_damaged_sweep_and_shows_the_others(two_sweeps, place, content):
    root, _, gone, kept = two_sweeps
    damaged = gone.path / place
    if content is None:
        damaged.unlink()
        damaged.mkdir()
    else:
        damaged.parent.mkdir(exist_ok=True)
        damaged.write_bytes(content)
    listed = ravel(root, "list")
    assert (listed.returncode, "Traceback" in listed.stderr) == (0, False)
    assert kept.sweep in listed.stdout
    assert gone.sweep in listed.stdout + listed.stderr


def copied(folder, to):
    """Copy a sweep as ``cp -a`` does."""
    shutil.copytree(folder.path, to / folder.sweep)
    return SweepFolder(to / folder.sweep)


@pytest.mark.parametrize("is_old", [False, True], ids=["today's", "without identity"])
@pytest.mark.parametrize("command", [("purge", "--yes"), ("sync",), ("resume",)], ids=lambda command: command[0])
def test_a_copy_is_refused_and_the_original_keeps_its_runs(two_sweeps, command, is_old):
    root, plan, _, kept = two_sweeps
    if is_old:
        kept.identity.unlink()
    copy = copied(kept, root / "backup")
    before = rows(root)
    name, *options = command
    done = ravel(root, name, copy.sweep, "--storage", "backup", *options)
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
    assert f"{copy.path}: a copy of {kept.path}, whose runs in MLflow it must not change" in done.stderr
    assert f"(SWEEP: {kept.sweep})" in done.stderr
    assert rows(root) == before
    assert copy.plan.exists()
    require_original(plan, kept)


def test_a_copy_is_read_as_any_sweep(two_sweeps):
    root, _, _, kept = two_sweeps
    copied(kept, root / "backup")
    assert ravel(root, "status", kept.sweep, "--storage", "backup").returncode == 0


def test_a_moved_folder_is_the_original_and_a_copy_of_it_is_not(two_sweeps):
    root, plan, _, kept = two_sweeps
    (root / "moved").mkdir()
    moved = SweepFolder(kept.path.rename(root / "moved" / kept.sweep))
    require_original(plan, moved)
    with pytest.raises(SweepCopied, match=f"a copy of {moved.path}"):
        require_original(plan, copied(moved, root / "backup"))


def test_a_folder_that_was_restored_to_its_place_is_the_original(two_sweeps):
    root, plan, _, kept = two_sweeps
    copy = copied(kept, root / "backup")
    shutil.rmtree(kept.path)
    shutil.copytree(copy.path, kept.path)
    require_original(plan, kept)


def test_a_folder_that_came_from_another_disk_needs_a_word(two_sweeps):
    root, plan, _, kept = two_sweeps
    moved = copied(kept, root / "other-disk")
    shutil.rmtree(kept.path)
    message = rf"copied or moved here from {kept.path}.*if the original is gone for good, delete folder.json in this"
    with pytest.raises(SweepCopied, match=message):
        require_original(plan, moved)
    moved.identity.unlink()
    require_original(plan, moved)


def test_another_sweep_in_the_place_of_the_original_is_no_original(two_sweeps):
    root, plan, gone, kept = two_sweeps
    kept.identity.unlink()
    copy = copied(kept, root / "backup")
    shutil.rmtree(kept.path)
    shutil.copytree(gone.path, kept.path)
    require_original(plan, copy)


def test_a_folder_that_is_seen_under_two_paths_is_one(two_sweeps):
    root, plan, _, kept = two_sweeps
    Path(root / "elsewhere").symlink_to(root / "results")
    for _ in range(2):
        require_original(plan, SweepFolder(root / "elsewhere" / kept.sweep))
        kept.identity.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"path": 1, "folder": "x", "plan": null}', b"\xff", b'{"path": "\\u0000"}']
)
def test_a_damaged_identity_counts_as_none(two_sweeps, content):
    root, plan, _, kept = two_sweeps
    kept.identity.write_bytes(content)
    require_original(plan, kept)
    with pytest.raises(SweepCopied):
        require_original(SweepPlan.load(kept), copied(kept, root / "backup"))


def test_a_copy_in_s3_is_refused_while_the_original_is_in_its_storage(two_sweeps, monkeypatch):
    _, plan, _, kept = two_sweeps
    spec = plan.spec.model_copy(update={"storage": plan.spec.storage.model_copy(update={"uri": "s3://team/ravel/"})})
    plan = plan.model_copy(update={"spec": spec})
    asked, content = [], {"sweep": plan.sweep, "created_at": plan.created_at}
    monkeypatch.setattr(
        "orchestrator.planning.changes.original._plan_at", lambda place, _: asked.append(place) or content
    )
    original, copy = (
        SweepFolder(kept.path, SimpleNamespace(location=Location.parse(f"s3://team/{prefix}/{plan.sweep}")))
        for prefix in ("ravel", "backup")
    )
    require_original(plan, original)
    assert asked == []
    with pytest.raises(SweepCopied, match=f"{copy.uri}: a copy of {original.uri}"):
        require_original(plan, copy)
    content["created_at"] = 7.0
    require_original(plan, copy)
