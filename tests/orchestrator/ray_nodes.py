"""Ray nodes of one machine, as if of several: each has an address of its own on the loopback interface."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("ray")

import psutil  # Ray's

BIN = Path(sys.executable).parent
SETTINGS = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


class Nodes:
    """Nodes of a cluster; the first one started is its head, and has no CPU for trials unless told."""

    def __init__(self, folder, environment):
        self._folder, self._processes = folder, {}
        self.environment = {**os.environ, **SETTINGS, **environment}
        self.address = f"127.0.0.2:{free_port()}"

    def start(self, last, *, cpus, tries=3, **variables):
        """Start the node 127.0.0.LAST; 2 is the head. On a busy machine Ray gives a start up after 30 s."""
        port = self.address.rpartition(":")[2]
        part = (
            ("--head", f"--port={port}", "--include-dashboard=false") if last == 2 else (f"--address={self.address}",)
        )
        command = [
            *(str(BIN / "ray"), "start", "--block", *part, f"--node-ip-address=127.0.0.{last}", f"--num-cpus={cpus}"),
            "--object-store-memory=80000000",
        ]
        for attempt in range(tries):
            self._processes[last] = process = self._started(command, f"n{last}-{attempt}", variables)
            if process.poll() is None:
                return
        raise AssertionError((self._folder / f"n{last}-{attempt}.txt").read_text())

    def _started(self, command, name, variables):
        """Return the process of a node that is up, or has given up."""
        output, environment = self._folder / f"{name}.txt", {**self.environment, **variables}
        with output.open("w") as file:
            process = subprocess.Popen(
                [*command, f"--temp-dir={self._folder}/{name}"], env=environment, stdout=file, stderr=file
            )
        until(lambda: "Ray runtime started" in output.read_text() or process.poll() is not None, said=output.read_text)
        return process

    def raylet(self, last):
        """Return the raylet of a node."""
        (raylet,) = [
            child
            for child in psutil.Process(self._processes[last].pid).children(recursive=True)
            if child.name() == "raylet"
        ]
        return raylet

    def terminate(self, last):
        """Send SIGTERM to ``ray start --block``, as a machine that is taken away does."""
        self._processes[last].send_signal(signal.SIGTERM)

    def stop(self):
        """End all nodes, the head last, and whatever they have left."""
        for _, process in sorted(self._processes.items(), reverse=True):
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            for child in children:
                child.kill()
            process.kill()
            process.wait(60)


@contextmanager
def nodes(folder, **environment):
    """Start nodes in the body; all end with it."""
    started = Nodes(folder, environment)
    try:
        yield started
    finally:
        started.stop()


def free_port():
    """Return a port of the head that nothing listens on."""
    with socket.create_server(("127.0.0.2", 0)) as probe:
        return probe.getsockname()[1]


def until(is_so, *, timeout_s=120, said=lambda: ""):
    """Wait until something is so."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, said()
        time.sleep(0.1)
