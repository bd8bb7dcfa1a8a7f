"""Machines on one Linux host: each has an address, a host name, processes and a /tmp of its own.

A machine is a set of Linux namespaces (network, host name, mounts, processes) around one sleeping process. When that
process is killed, the kernel kills all others of the machine and removes its network, as if its power had failed. All
machines hang on a bridge in a namespace of its own, so the host gets no new interface. Nothing is left of them when
the script that made them ends, by whatever signal.

Needs root, iproute2 and util-linux.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

TOOLS = ("ip", "unshare", "nsenter", "setpriv", "mount", "hostname")
NETWORK = "10.77.0"
SHARED, HOME = Path("/mnt/shared"), Path("/mnt/home")
"""Where each machine sees the disk that all share, and a folder that it alone has."""
START_S = 30.0
MACHINE = """
set -e
hostname "$1"
mount -t tmpfs none /mnt
mkdir /mnt/shared /mnt/home
mount --bind "$2/shared" /mnt/shared
mount --bind "$2/$1/home" /mnt/home
mount --bind "$2/hosts" /etc/hosts
mount --bind "$2/$1/tmp" /tmp
ip link set lo up
echo ready
trap '' CHLD
exec sleep infinity
"""


def missing_tools() -> str | None:
    """Return why machines cannot be made here, or None."""
    if os.geteuid() != 0:
        return "namespaces need root"
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if missing:
        return f"these commands are missing: {', '.join(missing)}"
    tried = subprocess.run([*_unshared(), "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip() or None


class Command:
    """Command that runs on a machine; ``output`` is the file of the host with what it printed."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self._process, self.output = process, output

    @property
    def text(self) -> str:
        """Everything that it has printed."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    @property
    def code(self) -> int | None:
        """Exit code; None while it runs."""
        return self._process.poll()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.kill(child_of(self._process.pid), signal.SIGINT)

    def wait(self, timeout_s: float) -> int:
        """Return the exit code when it has ended."""
        return self._process.wait(timeout_s)


class Machine:
    """One machine; ``address`` is its address on the bridge."""

    def __init__(self, name: str, address: str, process: subprocess.Popen[str]) -> None:
        self.name, self.address, self._process = name, address, process
        self.init = child_of(process.pid)
        self._commands: list[Command] = []

    def start(self, *words: str, output: Path, environment: Mapping[str, str], folder: Path = HOME) -> Command:
        """Start a command of this machine in a folder of it, with its output in a file of the host."""
        entered = [*self._entered(), "sh", "-c", 'cd "$0" && exec "$@"', str(folder), *words]
        with output.open("wb") as file:
            process = subprocess.Popen(entered, stdout=file, stderr=file, env=dict(environment), start_new_session=True)
        self._commands.append(Command(process, output))
        return self._commands[-1]

    def power_off(self) -> None:
        """Take the cable out, so that no connection is closed, and kill every process of the machine at once."""
        if self._process.returncode is None:
            down = [*self._entered(), "ip", "link", "set", "eth0", "down"]
            subprocess.run(down, stderr=subprocess.DEVNULL, check=False)  # the bridge has none
            os.kill(self.init, signal.SIGKILL)
            self._process.communicate(timeout=START_S)
        for command in self._commands:
            command.wait(START_S)

    def _entered(self) -> list[str]:
        return ["nsenter", f"--target={self.init}", "--net", "--uts", "--mount", "--pid"]


class Network:
    """Bridge with machines, and the folder of their disks.

    Args:
        folder: has ``shared``, the disk that all machines mount at ``/mnt/shared``, and a folder for each machine.
        names: all machines that there will be, so that each knows the others' addresses by name.
    """

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder, self._stack = folder, ExitStack()
        self._addresses = {name: f"{NETWORK}.{last}" for last, name in enumerate(names, 1)}

    def __enter__(self) -> Self:
        (self.folder / "shared").mkdir()
        known = "".join(f"{address} {name}\n" for name, address in self._addresses.items())
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n{known}", encoding="utf-8")
        self._bridge = self._boot("bridge", "0.0.0.0")  # noqa: S104  it has no address
        self._inside(self._bridge, "ip", "link", "add", "br0", "type", "bridge")
        self._inside(self._bridge, "ip", "link", "set", "br0", "up")
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def machine(self, name: str) -> Machine:
        """Switch a machine on, and plug it in."""
        machine, port = self._boot(name, self._addresses[name]), f"to-{name}"
        self._inside(self._bridge, *f"ip link add {port} type veth peer name eth0 netns {machine.init}".split())
        self._inside(self._bridge, *f"ip link set {port} master br0 up".split())
        for words in (
            f"ip address add {machine.address}/24 dev eth0",
            "ip link set eth0 up",
            "ip route add default dev eth0",
        ):
            self._inside(machine, *words.split())
        return machine

    def _boot(self, name: str, address: str) -> Machine:
        for part in ("home", "tmp"):
            (self.folder / name / part).mkdir(parents=True)
        command = [*_unshared(), "sh", "-c", MACHINE, "machine", name, str(self.folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{name}: this machine cannot be made: {process.communicate()[1].strip()}")
        machine = Machine(name, address, process)
        self._stack.callback(machine.power_off)
        return machine

    def _inside(self, machine: Machine, *words: str) -> None:
        """Run a command of the host in the network of a machine: numbers of processes are those of the host."""
        subprocess.run(["nsenter", f"--target={machine.init}", "--net", *words], check=True)


def child_of(pid: int) -> int:
    """Return the one child of a process, which may be about to start."""
    deadline = time.monotonic() + START_S
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not (numbers := children.read_text(encoding="ascii").split()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"process {pid} started no other within {START_S:.0f} s")
        time.sleep(0.01)
    return int(numbers[0])


def _unshared() -> list[str]:
    namespaces = ("--net", "--uts", "--mount", "--pid", "--mount-proc")
    return ["setpriv", "--pdeathsig", "KILL", "unshare", "--fork", "--kill-child", *namespaces]
