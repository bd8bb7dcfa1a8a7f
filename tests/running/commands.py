"""The command ``ravel`` in a process of its own, as a user runs it; what a test starts ends with the test."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

RAVEL = Path(sys.executable).with_name("ravel")
AT_ONCE = """
import os, pathlib, sys, time
here = pathlib.Path(sys.argv.pop(1))
def at_once():
    (here / f"ready-{os.getpid()}").touch()
    while not (here / "go").exists():
        time.sleep(0.001)
"""


def ravel(*arguments, cwd, code=0, timeout_s=400, **variables):
    """Run a command to its end, require its exit code, and return what it printed."""
    done = subprocess.run(
        [RAVEL, *arguments],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@contextmanager
def running(command, *, output=None, **options):
    """Run a command in a process group of its own; after the body kill the group if it still runs, and close its pipes.

    ``output`` is a file for all that it prints.
    """
    if output is not None:
        with output.open("w") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True, **options)
    else:
        process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        yield process
    finally:
        if process.poll() is None:  # else the number may be another process's by now
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def raced(code, *arguments, folder, number=4):
    """Run code in several processes, and return the first line of each; all live until each has printed one.

    What follows its call of ``at_once()`` is done when every process has come there.
    """
    command = [sys.executable, "-c", f"{AT_ONCE}{code}\nsys.stdin.read()", str(folder), *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with ExitStack() as stack:
        racers = [stack.enter_context(running(command, **pipes)) for _ in range(number)]
        while len(list(folder.glob("ready-*"))) < number:
            assert all(racer.poll() is None for racer in racers), "one has ended before the race"
            time.sleep(0.01)
        (folder / "go").touch()
        return [racer.stdout.readline().strip() for racer in racers]
