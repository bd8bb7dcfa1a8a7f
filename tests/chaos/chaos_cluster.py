"""A cluster of three nodes on one machine: a head without a place for trials, and two nodes with one place each."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ray_nodes import Nodes, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

HEAD, WORKERS = 2, (3, 4)
HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
"""With these the head gives a silent node up after about 9 s."""
PORT, HOST = 6379, "10.77.0.{last}"
"""Those of nodes with networks of their own."""


class ChaosCluster:
    """Nodes that ask for a token; what a fault has broken is started again by ``repair``.

    Args:
        environment: Variables of every node.
        networks: Give each node a network namespace of its own, which takes root; ``cut`` then cuts its link.
    """

    def __init__(self, environment: Mapping[str, str], *, networks: bool = False) -> None:
        self.token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._environment = {**environment, **self.token, **HEALTH}
        self._networks = Networks() if networks else None
        self._port = PORT if networks else free_port()
        self._nodes: Nodes | None = None
        self._folder: Path | None = None
        self.repair()

    @property
    def nodes(self) -> Nodes:
        """Nodes that run."""
        assert self._nodes is not None
        return self._nodes

    @property
    def prefix(self) -> tuple[str, ...]:
        """Start of a command that runs where the head does."""
        return () if self._networks is None else self._networks.inside(HEAD)

    def repair(self) -> None:
        """Start what is missing: a worker node that is gone; all of them after the loss of the head."""
        if self._nodes is not None and not (self._nodes.is_up(HEAD) and self._nodes.processes(HEAD, "gcs_server")):
            self._stop()
        if self._nodes is None:
            self._start()
            return
        for last in WORKERS:
            if not (self._nodes.is_up(last) and self._nodes.processes(last, "raylet")):
                self._nodes.kill(last)
                self._nodes.start(last, cpus=1)

    def cut(self, last: int) -> None:
        """Cut the link of a node."""
        assert self._networks is not None
        self._networks.cut(last)

    def join(self, last: int) -> None:
        """Join the link of a node again."""
        assert self._networks is not None
        self._networks.join(last)

    def close(self) -> None:
        """End all nodes and their networks."""
        self._stop()
        if self._networks is not None:
            self._networks.close()

    def _start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="rvc", dir="/tmp"))  # the path of a socket must be short
        networks = {} if self._networks is None else {"host": HOST, "inside": self._networks.inside}
        self._nodes = Nodes(self._folder, self._environment, port=self._port, **networks)
        self._nodes.start(HEAD, cpus=0)
        for last in WORKERS:
            self._nodes.start(last, cpus=1)

    def _stop(self) -> None:
        if self._nodes is not None:
            self._nodes.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._nodes = self._folder = None


class Networks:
    """A network namespace for each node, and one with the bridge that joins them: the machine gets no new interface."""

    def __init__(self) -> None:
        self._name = f"rvc{os.getpid()}-"
        bridge = self._named("b")
        _ip("netns", "add", bridge)
        _ip("-n", bridge, "link", "add", "br0", "type", "bridge")
        _ip("-n", bridge, "link", "set", "br0", "up")
        for last in (HEAD, *WORKERS):
            self._add(last, bridge)

    def _add(self, last: int, bridge: str) -> None:
        inside = self._named(last)
        _ip("netns", "add", inside)
        _ip("-n", inside, "link", "add", "eth0", "type", "veth", "peer", "name", f"p{last}", "netns", bridge)
        _ip("-n", bridge, "link", "set", f"p{last}", "master", "br0", "up")
        _ip("-n", inside, "addr", "add", f"{HOST.format(last=last)}/24", "dev", "eth0")
        for link in ("eth0", "lo"):
            _ip("-n", inside, "link", "set", link, "up")

    def inside(self, last: int) -> tuple[str, ...]:
        """Return the start of a command that runs on a node."""
        return "ip", "netns", "exec", self._named(last)

    def cut(self, last: int) -> None:
        """Let no packet pass to or from a node; it notices nothing of that."""
        _ip("-n", self._named("b"), "link", "set", f"p{last}", "nomaster")

    def join(self, last: int) -> None:
        """Let packets pass again."""
        _ip("-n", self._named("b"), "link", "set", f"p{last}", "master", "br0")

    def close(self) -> None:
        """Remove the namespaces."""
        for name in (*(HEAD, *WORKERS), "b"):
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", self._named(name))

    def _named(self, name: object) -> str:
        return f"{self._name}{name}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
