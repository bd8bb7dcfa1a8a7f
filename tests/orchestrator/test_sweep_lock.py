"""One driver for a sweep."""

import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from commands import raced
from waiting import until

from orchestrator.errors import StorageError, SweepLocked
from orchestrator.state import sweep_lock
from orchestrator.state.lock_records import UNKNOWN, BucketLockRecords
from orchestrator.state.sweep_folder import SweepFolder, reference

HOLD = """
import time
from pathlib import Path
from orchestrator import errors
from orchestrator.state import sweep_folder, sweep_lock
def acquire(): return sweep_lock.acquire(sweep_folder.SweepFolder(Path('{path}')))
"""
RACE = """
at_once()
try: acquire()
except errors.SweepLocked: print("refused", flush=True)
else: print("lock", flush=True)
"""


@pytest.fixture
def folder(tmp_path):
    return SweepFolder(tmp_path / "sweep")


def file_of(lock):
    return lock.records.folder / f"{lock.generation:06d}.json"


def test_a_second_driver_is_refused_with_the_process_that_runs_the_sweep(folder):
    sweep_lock.acquire(folder)
    message = rf"process {os.getpid()} on .* runs this sweep; .*`ravel status {reference(folder)}`"
    with pytest.raises(SweepLocked, match=message):
        sweep_lock.acquire(folder)


def test_a_released_lock_lets_the_next_generation_in(folder):
    first = sweep_lock.acquire(folder)
    first.release()
    assert not sweep_lock.is_held(folder)
    assert sweep_lock.acquire(folder).generation == first.generation + 1


def test_the_lock_of_a_killed_driver_ends_with_its_process(folder):
    code = f"{HOLD.format(path=folder.path)}\nacquire(); print('lock', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout.readline() == "lock\n"
        assert sweep_lock.is_held(folder)
        driver.kill()
        driver.wait()
    assert not sweep_lock.is_held(folder)
    assert sweep_lock.acquire(folder).generation == 2


def test_a_lock_of_another_host_ends_without_heartbeats(folder):
    lock = sweep_lock.acquire(folder)
    holder = json.loads(file_of(lock).read_text())
    file_of(lock).write_text(json.dumps({**holder, "host": "elsewhere"}))
    assert sweep_lock.is_held(folder)
    stale = time.time() - sweep_lock.STALE_S - 1
    os.utime(file_of(lock), (stale, stale))
    assert not sweep_lock.is_held(folder)


def test_of_two_drivers_at_once_one_gets_the_lock(folder, tmp_path):
    said = raced(f"{HOLD.format(path=folder.path)}\n{RACE}", folder=tmp_path)
    assert sorted(said) == ["lock", "refused", "refused", "refused"]


@pytest.fixture
def _often(monkeypatch):
    monkeypatch.setattr(sweep_lock, "HEARTBEAT_S", 0.02)


@pytest.mark.usefixtures("_often")
def test_heartbeats_are_written_during_the_work_and_no_longer(folder):
    lock = sweep_lock.acquire(folder)
    os.utime(file_of(lock), (1, 1))
    with lock.renewing(on_lost=pytest.fail):
        until(lambda: file_of(lock).stat().st_mtime > 1)
    os.utime(file_of(lock), (1, 1))
    time.sleep(0.1)
    assert file_of(lock).stat().st_mtime == 1
    assert "ravel-lock" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.usefixtures("_often")
def test_a_disk_that_refuses_warns_once_and_is_retried(folder, caplog):
    lock = sweep_lock.acquire(folder)
    away = folder.path / "away"
    with lock.renewing(on_lost=pytest.fail):
        folder.locks.rename(away)
        until(lambda: caplog.records)
        time.sleep(0.1)
        os.utime(away / file_of(lock).name, (1, 1))
        away.rename(folder.locks)
        until(lambda: file_of(lock).stat().st_mtime > 1)
    assert caplog.text.count("the heartbeat was not written (No such file or directory); retrying") == 1


@pytest.mark.usefixtures("_often")
def test_a_driver_whose_sweep_was_taken_is_notified_once(folder):
    lock = sweep_lock.acquire(folder)
    calls = []
    with lock.renewing(on_lost=lambda: calls.append("lost")):
        file_of(lock).with_name("000002.json").write_text("{}")
        until(lambda: calls)
        os.utime(file_of(lock), (1, 1))
        time.sleep(0.1)
    assert calls == ["lost"]
    assert file_of(lock).stat().st_mtime == 1


def altered(lock, **fields):
    holder = json.loads(file_of(lock).read_text())
    file_of(lock).write_text(json.dumps({**holder, **fields}))


def silent_for(lock, seconds):
    then = time.time() - seconds
    os.utime(file_of(lock), (then, then))


@pytest.mark.parametrize("pid", [os.getpid(), 2**22 + 1], ids=["alive", "gone"])
def test_a_lock_of_a_host_with_the_same_name_goes_by_its_age(folder, pid):
    lock = sweep_lock.acquire(folder)
    altered(lock, machine="another boot pid:[1]", pid=pid)
    with pytest.raises(SweepLocked, match="if it is gone, its lock expires within 60 s"):
        sweep_lock.acquire(folder)
    silent_for(lock, sweep_lock.STALE_S + 1)
    assert not sweep_lock.is_held(folder)


@pytest.mark.parametrize(("pid", "is_held"), [(os.getpid(), True), (2**22 + 1, False)], ids=["alive", "gone"])
def test_a_lock_without_a_machine_goes_by_its_process(folder, pid, is_held):
    lock = sweep_lock.acquire(folder)
    holder = json.loads(file_of(lock).read_text())
    assert holder.pop("machine")
    file_of(lock).write_text(json.dumps({**holder, "pid": pid}))
    silent_for(lock, sweep_lock.STALE_S + 1)
    assert sweep_lock.is_held(folder) is is_held


def test_a_clock_that_is_ahead_takes_no_living_sweep(folder, monkeypatch):
    lock = sweep_lock.acquire(folder)
    altered(lock, host="elsewhere")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1000)
    assert sweep_lock.is_held(folder)
    assert list(folder.locks.iterdir()) == [file_of(lock)]


def test_a_folder_that_cannot_be_written_goes_by_the_clock_of_this_machine(folder, monkeypatch):
    lock = sweep_lock.acquire(folder)
    altered(lock, host="elsewhere")

    def refuse(**_):
        raise PermissionError("read-only")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    assert sweep_lock.is_held(folder)
    silent_for(lock, sweep_lock.STALE_S + 1)
    assert not sweep_lock.is_held(folder)


def test_a_lock_that_cannot_be_released_warns_and_hides_nothing(folder, caplog):
    lock = sweep_lock.acquire(folder)
    folder.locks.rename(folder.path / "away")
    lock.release()
    assert "the lock was not released ([Errno 2] No such file or directory" in caplog.text
    assert "a driver on another machine must wait up to 60 s" in caplog.text


def test_a_disk_that_hangs_does_not_delay_the_end_of_a_driver(folder, caplog, monkeypatch):
    monkeypatch.setattr(sweep_lock, "RELEASE_S", 0.1)
    lock, answered = sweep_lock.acquire(folder), threading.Event()
    monkeypatch.setattr(type(lock.records), "write", lambda *_: answered.wait(60))
    began = time.monotonic()
    lock.release()
    answered.set()
    assert time.monotonic() - began < 30
    assert "the lock was not released (no answer within 0 s)" in caplog.text


@pytest.fixture(params=[errno.EPERM, errno.ENOTSUP, errno.ENOSYS], ids=errno.errorcode.get)
def _no_links(monkeypatch, request):
    def refuse(*_):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("_no_links")
def test_a_file_system_without_hard_links_gives_one_driver_the_lock(folder):
    first = sweep_lock.acquire(folder)
    assert sweep_lock.is_held(folder)
    assert not first.records.create(first.generation, first.holder)
    first.release()
    assert sweep_lock.acquire(folder).generation == 2
    assert sorted(path.name for path in folder.locks.iterdir()) == ["000001.json", "000002.json"]


@pytest.mark.usefixtures("_no_links")
def test_a_record_that_could_not_be_filled_does_not_stay(folder, monkeypatch):
    fsync, calls = os.fsync, []

    def full_disk(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:  # the first is the draft's
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StorageError, match=r"must be a folder that this process can write.*No space left"):
        sweep_lock.acquire(folder)
    assert list(folder.locks.iterdir()) == []


def test_a_record_is_on_disk_before_anything_acts_on_it(folder, monkeypatch):
    fsync, calls = os.fsync, []
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(descriptor) or fsync(descriptor))
    sweep_lock.acquire(folder)
    assert len(calls) == 2  # the record and its folder


def test_a_file_system_without_times_gets_heartbeats_as_whole_records(folder, monkeypatch):
    lock = sweep_lock.acquire(folder)
    silent_for(lock, 1000)

    def refuse(*_):
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    lock.renew()
    assert time.time() - file_of(lock).stat().st_mtime < 500


@pytest.mark.parametrize("name", ["._000001.json", "000001 (conflicted copy).json", "000007 (1).json", "desktop.json"])
def test_a_stray_file_next_to_the_records_is_named_and_left_out(folder, caplog, name):
    lock = sweep_lock.acquire(folder)
    (folder.locks / name).write_bytes(b"\0\5\x16\7")
    assert sweep_lock.is_held(folder)
    assert not lock.is_lost()
    lock.release()
    assert sweep_lock.acquire(folder).generation == 2
    assert caplog.text.count(f"{folder.locks / name}: left out (no lock record has such a name)") == 1


@pytest.mark.parametrize("content", [b"", b'{"host"', b"[]", b"\xff\xfe", b'{"host": 1, "pid": "x", "started": null}'])
def test_a_record_without_a_holder_is_held_until_it_is_old(folder, content, caplog):
    lock = sweep_lock.acquire(folder)
    file_of(lock).write_bytes(content)
    assert sweep_lock.is_held(folder)
    with pytest.raises(SweepLocked, match=r"an unknown process runs this sweep.*expires within 60 s"):
        sweep_lock.acquire(folder)
    assert "a lock record without a holder: empty or damaged" in caplog.text
    silent_for(lock, sweep_lock.STALE_S + 1)
    assert not sweep_lock.is_held(folder)
    assert sweep_lock.acquire(folder).generation == 2


def test_a_folder_in_the_place_of_a_record_is_no_holder(folder):
    lock = sweep_lock.acquire(folder)
    lock.release()
    later = folder.locks / "000002.json"
    later.mkdir()
    os.utime(later, (1, 1))
    assert not sweep_lock.is_held(folder)
    assert sweep_lock.acquire(folder).generation == 3


def test_a_file_in_the_place_of_the_records_is_named(folder):
    folder.path.mkdir()
    folder.locks.write_text("a file")
    with pytest.raises(StorageError, match=r"leases: must be a folder that this process can write"):
        sweep_lock.acquire(folder)


def test_a_bucket_with_stray_objects_next_to_its_lock_records_keeps_its_lock(caplog):
    written = SimpleNamespace(key="000002.json", modified=datetime.now(UTC))
    keys = ["._000002.json", "000002 (1).json", "notes"]
    bucket = SimpleNamespace(
        list=lambda: [*(SimpleNamespace(key=key) for key in keys), written],
        uri=lambda key="": f"s3://team/leases/{key}",
        server_time=lambda: datetime.now(UTC),
        read=lambda _: b"",
    )
    records = BucketLockRecords(bucket)
    assert records.last() == 2
    assert (records.newest().generation, records.newest().holder) == (2, UNKNOWN)
    assert all(f"{key}: left out" in caplog.text for key in keys)
