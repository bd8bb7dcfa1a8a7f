"""Ray nodes of one machine, as if of several: each has an address of its own on the loopback interface."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from waiting import until

pytest.importorskip("ray")

import psutil  # Ray's

BIN = Path(sys.executable).parent
SETTINGS = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


class Nodes:
    """Nodes of a cluster; the first one started is its head, and has no CPU for trials unless told.

    A node is 127.0.0.LAST, or ``host`` with its ``{last}``; ``inside(last)`` is the start of its command, such as
    ``ip netns exec NAME``.
    """

    def __init__(self, folder, environment, *, host="127.0.0.{last}", port=None, inside=lambda _: ()):
        self._folder, self._processes, self._temporary, self._starts = folder, {}, {}, 0
        self._host, self._inside = host, inside
        self.environment = {**os.environ, **SETTINGS, **environment}
        self.address = f"{host.format(last=2)}:{port or free_port()}"

    def start(self, last, *, cpus, tries=3, **variables):
        """Start the node LAST; 2 is the head. On a busy machine Ray gives a start up after 30 s."""
        port = self.address.rpartition(":")[2]
        part = (
            ("--head", f"--port={port}", "--include-dashboard=false") if last == 2 else (f"--address={self.address}",)
        )
        command = [
            *(*self._inside(last), str(BIN / "ray"), "start", "--block", *part),
            *(f"--node-ip-address={self._host.format(last=last)}", f"--num-cpus={cpus}"),
            "--object-store-memory=80000000",
        ]
        for _ in range(tries):
            self._starts += 1
            name = f"n{last}-{self._starts}"
            self._temporary[last] = self._folder / name
            self._processes[last] = process = self._started(command, name, variables)
            if process.poll() is None:
                return
        raise AssertionError((self._folder / f"{name}.txt").read_text())

    def _started(self, command, name, variables):
        """Return the process of a node that is up, or has given up."""
        output, environment = self._folder / f"{name}.txt", {**self.environment, **variables}
        with output.open("w") as file:
            process = subprocess.Popen(
                [*command, f"--temp-dir={self._folder}/{name}"], env=environment, stdout=file, stderr=file
            )
        until(lambda: "Ray runtime started" in output.read_text() or process.poll() is not None, said=output.read_text)
        return process

    def is_up(self, last):
        """Return True if a node runs."""
        return self._processes[last].poll() is None

    def processes(self, last, name=""):
        """Return the living processes of a node whose title begins with a name: ``raylet``, ``gcs_server``, ``ray::``.

        They write their logs below the node's own folder; titles and environments of Ray's processes change.
        """
        folder = f"{self._temporary[last]}/"
        found = []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):
                logs = Path(f"/proc/{process.pid}/fd/1").readlink()
                if str(logs).startswith(folder) and (process.name().startswith(name) or _title(process, name)):
                    found.append(process)
        return found

    def raylet(self, last):
        """Return the raylet of a node."""
        (raylet,) = self.processes(last, "raylet")
        return raylet

    def terminate(self, last):
        """Send SIGTERM to ``ray start --block``, as a machine that is taken away does."""
        self._processes[last].send_signal(signal.SIGTERM)

    def stop(self):
        """End all nodes, the head last, and whatever they have left."""
        for last in sorted(self._processes, reverse=True):
            self.kill(last)

    def kill(self, last):
        """End a node with all its processes, as the loss of its machine does."""
        self._processes[last].kill()
        for process in self.processes(last):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._processes[last].wait(60)


def _title(process, name):
    return " ".join(process.cmdline()).startswith(name)


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
