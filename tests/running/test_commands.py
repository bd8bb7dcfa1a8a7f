"""The helpers of tests that start processes: nothing of a failing test is left."""

import fcntl
import subprocess
import sys

import pytest
from commands import raced, running

CHILD = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("the child lives", flush=True)
time.sleep(600)
"""
PARENT = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {CHILD!r}, sys.argv[1]])
time.sleep(600)
"""


def test_a_test_that_fails_leaves_no_process_of_a_command_and_no_open_pipe(tmp_path):
    path, started = tmp_path / "held", []

    def fail():
        with running([sys.executable, "-c", PARENT, path], stdout=subprocess.PIPE, text=True) as process:
            started.append(process)
            assert process.stdout.readline() == "the child lives\n"
            raise AssertionError("the test fails")

    with pytest.raises(AssertionError, match="the test fails"):
        fail()
    assert started[0].returncode < 0
    assert started[0].stdout.closed
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # which the child has until it is dead


def test_a_command_that_has_ended_is_left_alone(tmp_path):
    with running([sys.executable, "-c", "print(1)"], output=tmp_path / "output.txt") as process:
        process.wait()
    assert (process.returncode, (tmp_path / "output.txt").read_text()) == (0, "1\n")


def test_of_racers_none_begins_before_all_are_there_and_none_ends_before_all_have_printed(tmp_path):
    code = "at_once()\nprint(len(list(here.glob('ready-*'))), flush=True)"
    assert raced(code, folder=tmp_path, number=3) == ["3", "3", "3"]


def test_a_racer_that_ends_too_early_is_named(tmp_path):
    with pytest.raises(AssertionError, match="one has ended before the race"):
        raced("raise SystemExit(3)", folder=tmp_path, number=2)
