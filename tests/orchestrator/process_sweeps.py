"""Sweeps in worker processes: the command, and the processes that a sweep of a folder has."""

import subprocess

from commands import RAVEL
from launched import name_of, with_variable
from waiting import until

PROCESSES = ("--address", "processes")


def mark_of(folder):
    """Return the variable that marks each process of a sweep of this folder."""
    return {"RAVEL_TEST_MARK": str(folder)}


def processes_of(folder):
    """Return the processes that a sweep of this folder has left or runs."""
    return [pid for name, value in mark_of(folder).items() for pid in with_variable(f"{name}={value}")]


def wait_for_the_end(folder):
    """Wait until none of these processes runs."""
    until(lambda: not processes_of(folder), said=lambda: [name_of(pid) for pid in processes_of(folder)])


def ravel(*arguments, cwd, environment, code=0):
    """Run the command, and return what it printed."""
    command = [str(RAVEL), *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=500, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr
