"""One driver for a sweep."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from orchestrator.errors import SweepLocked
from orchestrator.state import sweep_lock
from orchestrator.state.sweep_folder import SweepFolder, reference

HOLD = """
import time
from pathlib import Path
from orchestrator import errors
from orchestrator.state import sweep_folder, sweep_lock
def acquire(): return sweep_lock.acquire(sweep_folder.SweepFolder(Path('{path}')))
"""
RACE = """
while time.time() < START: pass
try: acquire()
except errors.SweepLocked: print("refused")
else: print("held", flush=True); time.sleep(3)
"""


@pytest.fixture
def folder(tmp_path):
    return SweepFolder(tmp_path / "sweep")


def file_of(held):
    return held.records.folder / f"{held.generation:06d}.json"


def test_a_second_driver_is_refused_and_told_who_runs_the_sweep(folder):
    sweep_lock.acquire(folder)
    told = rf"process {os.getpid()} on .* runs this sweep; .*`ravel status {reference(folder)}`"
    with pytest.raises(SweepLocked, match=told):
        sweep_lock.acquire(folder)


def test_a_released_lease_lets_the_next_generation_in(folder):
    first = sweep_lock.acquire(folder)
    first.release()
    assert not sweep_lock.is_held(folder)
    assert sweep_lock.acquire(folder).generation == first.generation + 1


def test_the_lease_of_a_killed_driver_ends_with_its_process(folder):
    code = f"{HOLD.format(path=folder.path)}\nacquire(); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout.readline() == "held\n"
        assert sweep_lock.is_held(folder)
        driver.kill()
        driver.wait()
    assert not sweep_lock.is_held(folder)
    assert sweep_lock.acquire(folder).generation == 2


def test_a_lease_from_another_host_ends_when_it_is_not_renewed(folder):
    held = sweep_lock.acquire(folder)
    holder = json.loads(file_of(held).read_text())
    file_of(held).write_text(json.dumps({**holder, "host": "elsewhere"}))
    assert sweep_lock.is_held(folder)
    stale = time.time() - sweep_lock.STALE_S - 1
    os.utime(file_of(held), (stale, stale))
    assert not sweep_lock.is_held(folder)


def test_of_two_drivers_at_once_one_gets_the_lease(folder):
    code = f"{HOLD.format(path=folder.path)}\n{RACE}"
    start = time.time() + 2
    racers = [
        subprocess.Popen([sys.executable, "-c", code.replace("START", str(start))], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = sorted(racer.communicate()[0].strip() for racer in racers)
    assert said == ["held", "refused", "refused", "refused"]


@pytest.fixture
def _often(monkeypatch):
    monkeypatch.setattr(sweep_lock, "RENEW_S", 0.02)


def wait_for(said):
    deadline = time.monotonic() + 10
    while not said():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("_often")
def test_a_lease_is_renewed_beside_the_work_and_no_longer(folder):
    held = sweep_lock.acquire(folder)
    os.utime(file_of(held), (1, 1))
    with held.renewing(on_lost=pytest.fail):
        wait_for(lambda: file_of(held).stat().st_mtime > 1)
    os.utime(file_of(held), (1, 1))
    time.sleep(0.1)
    assert file_of(held).stat().st_mtime == 1
    assert "ravel-lock" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.usefixtures("_often")
def test_a_disk_that_refuses_is_told_once_and_tried_again(folder, caplog):
    held = sweep_lock.acquire(folder)
    away = folder.path / "away"
    with held.renewing(on_lost=pytest.fail):
        folder.locks.rename(away)
        wait_for(lambda: caplog.records)
        time.sleep(0.1)
        os.utime(away / file_of(held).name, (1, 1))
        away.rename(folder.locks)
        wait_for(lambda: file_of(held).stat().st_mtime > 1)
    assert caplog.text.count("the lease was not renewed (No such file or directory); trying again") == 1


@pytest.mark.usefixtures("_often")
def test_a_driver_whose_sweep_was_taken_is_told_once(folder):
    held = sweep_lock.acquire(folder)
    told = []
    with held.renewing(on_lost=lambda: told.append("lost")):
        file_of(held).with_name("000002.json").write_text("{}")
        wait_for(lambda: told)
        os.utime(file_of(held), (1, 1))
        time.sleep(0.1)
    assert told == ["lost"]
    assert file_of(held).stat().st_mtime == 1


def altered(held, **fields):
    holder = json.loads(file_of(held).read_text())
    file_of(held).write_text(json.dumps({**holder, **fields}))


def silent_for(held, seconds):
    then = time.time() - seconds
    os.utime(file_of(held), (then, then))


@pytest.mark.parametrize("pid", [os.getpid(), 2**22 + 1], ids=["alive", "gone"])
def test_a_lease_of_a_namesake_of_this_host_goes_by_its_age(folder, pid):
    held = sweep_lock.acquire(folder)
    altered(held, machine="another boot pid:[1]", pid=pid)
    with pytest.raises(SweepLocked, match="if it is gone, its lease runs out within 60 s"):
        sweep_lock.acquire(folder)
    silent_for(held, sweep_lock.STALE_S + 1)
    assert not sweep_lock.is_held(folder)


@pytest.mark.parametrize(("pid", "is_held"), [(os.getpid(), True), (2**22 + 1, False)], ids=["alive", "gone"])
def test_a_lease_of_before_machines_were_noted_goes_by_its_process(folder, pid, is_held):
    held = sweep_lock.acquire(folder)
    holder = json.loads(file_of(held).read_text())
    assert holder.pop("machine")
    file_of(held).write_text(json.dumps({**holder, "pid": pid}))
    silent_for(held, sweep_lock.STALE_S + 1)
    assert sweep_lock.is_held(folder) is is_held


def test_a_clock_that_is_ahead_takes_no_living_sweep(folder, monkeypatch):
    held = sweep_lock.acquire(folder)
    altered(held, host="elsewhere")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1000)
    assert sweep_lock.is_held(folder)
    assert list(folder.locks.iterdir()) == [file_of(held)]


def test_a_folder_that_cannot_be_written_goes_by_the_clock_of_this_machine(folder, monkeypatch):
    held = sweep_lock.acquire(folder)
    altered(held, host="elsewhere")

    def refuse(**_):
        raise PermissionError("read-only")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    assert sweep_lock.is_held(folder)
    silent_for(held, sweep_lock.STALE_S + 1)
    assert not sweep_lock.is_held(folder)


def test_a_lease_that_cannot_be_released_is_told_and_masks_nothing(folder, caplog):
    held = sweep_lock.acquire(folder)
    folder.locks.rename(folder.path / "away")
    held.release()
    assert "the lease was not released ([Errno 2] No such file or directory" in caplog.text
    assert "a driver on another machine must wait up to 60 s" in caplog.text


def test_a_book_that_hangs_does_not_hold_back_who_leaves(folder, caplog, monkeypatch):
    monkeypatch.setattr(sweep_lock, "RELEASE_S", 0.1)
    held, answered = sweep_lock.acquire(folder), threading.Event()
    monkeypatch.setattr(type(held.records), "write", lambda *_: answered.wait(60))
    began = time.monotonic()
    held.release()
    answered.set()
    assert time.monotonic() - began < 30
    assert "the lease was not released (no answer within 0 s)" in caplog.text
