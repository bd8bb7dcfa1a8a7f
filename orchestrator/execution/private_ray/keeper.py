"""Keeper of a private Ray: starts Ray's head, and stops it when the driver closes the pipe, or dies.

It is a process in a session of its own. So a signal to the driver's process group (Ctrl-C, ``timeout``, Slurm) reaches
neither the keeper nor Ray, and the driver can record the end of its sweep.

The driver runs this file by its path. It imports the standard library and Ray, nothing of this package.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from ray._private import ray_constants
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray._raylet import DASHBOARD_AGENT_LISTEN_PORT_NAME, persist_port  # type: ignore[attr-defined]

ADDRESS_FILE = "address"
AGENT_PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
NO_DASHBOARD = b"127.0.0.1:9"
PORTS = range(20_000, 32_768)
"""Below the ports that Linux and macOS give to connections, above those of Ray's workers (10,002 to 19,999)."""
PORT_TRIES = 50
STOP_S = 6.0


class Head(Node):  # type: ignore[misc]
    """Ray's head that waits for nothing that a sweep does not use.

    It has no dashboard server. Its agents get their ports: the raylet would wait for those that they choose, and abort
    after 15 seconds, which on a busy machine do not suffice to import the agents' modules.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        # The autoscaler's monitor has no cluster to scale, and the log monitor no driver that prints workers' output.
        lean = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
        # With `spawn_reaper`, Ray's processes die with this one, even if it is killed.
        parameters = RayParams(**settings, **lean, **_free_ports())
        super().__init__(parameters, head=True, shutdown_at_exit=False, spawn_reaper=True)

    def start_api_server(self, **_: Any) -> None:
        """Start none; its agents would ask for its address each second, and get one where nothing listens."""
        key, space = ray_constants.DASHBOARD_ADDRESS.encode(), ray_constants.KV_NAMESPACE_DASHBOARD
        self.get_gcs_client().internal_kv_put(key, NO_DASHBOARD, True, space)

    def start_raylet(self, *arguments: Any, **settings: Any) -> None:
        """Publish the one port that the raylet reads from a file in any case, then start it."""
        port = self.dashboard_agent_listen_port
        persist_port(self.get_session_dir_path(), self.node_id, DASHBOARD_AGENT_LISTEN_PORT_NAME, port)
        super().start_raylet(*arguments, **settings)


def keep(folder: Path, settings: dict[str, Any], *, driver: int) -> None:
    """Start Ray in ``folder``, publish its address there, and stop it after the driver, or when its GCS dies.

    A driver that connects while the GCS is dead would wait for minutes inside Ray, deaf to signals; without the raylet
    it ends at once.
    """
    signal.signal(signal.SIGTERM, lambda *_: None)  # one to every process of a service: the driver decides when
    signal.signal(signal.SIGUSR1, lambda *_: sys.exit())
    threading.Thread(target=_stop_after, args=(driver,), daemon=True).start()
    watchdog = _start_watchdog()
    head = Head(settings)
    try:
        partial = folder / f"{ADDRESS_FILE}.partial"
        partial.write_text(head.gcs_address, encoding="utf-8")
        partial.rename(folder / ADDRESS_FILE)
        head.all_processes[ray_constants.PROCESS_TYPE_GCS_SERVER][0].process.wait()
    finally:
        head.kill_all_processes(check_alive=False, allow_graceful=True)
        watchdog.kill()
        os.killpg(os.getpgrp(), signal.SIGKILL)  # this process and, if the raylet had died before, its agents


def _start_watchdog() -> subprocess.Popen[bytes]:
    """Start a shell that kills this process group when this process is dead, and so has closed the pipe.

    A killed keeper takes Ray's servers with it, but their agents would try to reach them for another minute.
    """
    script = 'read line; kill -s KILL -- "-$0"'
    command = ["/bin/sh", "-c", script, str(os.getpgrp())]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)  # noqa: S603


def _free_ports() -> dict[str, int]:
    """Choose a free port for each of Ray's agents.

    An agent listens seconds later, and the raylet ends with one that finds its port taken. So the ports lie where the
    system takes none for a connection, or for a server that asks for any port, and are chosen at random.
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(_server()) for _ in AGENT_PORTS]
        return {name: held.getsockname()[1] for name, held in zip(AGENT_PORTS, sockets, strict=True)}


def _server() -> socket.socket:
    """Listen at a random port of our own range; at any, if that has none."""
    for port in random.SystemRandom().sample(PORTS, PORT_TRIES):
        with suppress(OSError):
            return socket.create_server(("", port))
    return socket.create_server(("", 0))


def _stop_after(driver: int) -> None:
    """Wait until the driver has closed the pipe or is dead; a process forked from it may hold the pipe open."""
    while os.getppid() == driver and not select.select([sys.stdin], [], [], 1.0)[0]:
        pass
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(STOP_S)
    os._exit(1)  # the watchdog ends what is left


if __name__ == "__main__":
    keep(Path(sys.argv[1]), json.loads(sys.argv[2]), driver=int(sys.argv[3]))
