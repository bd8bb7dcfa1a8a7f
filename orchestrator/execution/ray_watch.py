"""Watch over the two servers of Ray that a driver cannot do without: the GCS of the cluster and the raylet of its node.

The kernel tells dead processes from slow ones. It refuses a connection to a port without a listener, and
accepts one for a process that is stopped, swapped out or busy. So a refusal is evidence at once, and a slow answer
never is. Silence, of a machine that lost its power or its network, is evidence only after it has lasted.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Answer: TypeAlias = Literal["accepts", "refuses", "silent"]

SETTINGS = {
    # Ray aborts its process when the GCS was away for so long (60 s), whatever the process is doing.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "300",
    # Tune asks the GCS for the cluster's size, which it only prints; the call does not return if the GCS is dead.
    "TUNE_STATE_REFRESH_PERIOD": "1000000",
}
INTERVAL_S = 1.0
CONNECT_S = 3.0
REFUSALS = 3
REFUSALS_OF_SHARED_GCS = 20  # a cluster with a fault-tolerant GCS restarts it
SILENCES = 25  # a hundred seconds
UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})


@dataclass(frozen=True)
class Server:
    """A server of Ray; it counts as lost after ``refusals`` in a row, one a second."""

    name: str
    host: str
    port: int
    refusals: int = REFUSALS

    @property
    def address(self) -> str:
        """``HOST:PORT``."""
        return f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.name} at {self.address}"


@dataclass(frozen=True)
class Evidence:
    """Answers of a server that were all the same, and their number since the last other one."""

    answer: Answer = "accepts"
    count: int = 0

    def after(self, answer: Answer) -> Evidence:
        """Return the evidence with one more answer.

        >>> Evidence("refuses", 2).after("refuses"), Evidence("refuses", 2).after("accepts").count
        (Evidence(answer='refuses', count=3), 1)
        """
        return Evidence(answer, self.count + 1 if answer == self.answer else 1)

    def proves_loss(self, server: Server) -> bool:
        """Return True if the server is lost, rather than slow.

        >>> gcs = Server("Ray's GCS", "127.0.0.1", 6379, refusals=3)
        >>> [Evidence(answer, 3).proves_loss(gcs) for answer in ("accepts", "refuses", "silent")]
        [False, True, False]
        """
        limits = {"refuses": server.refusals, "silent": SILENCES}
        return self.answer in limits and self.count >= limits[self.answer]


@contextmanager
def settings() -> Iterator[None]:
    """Set what Ray and Tune read when they start, so that the loss is noticed before Ray aborts; the user's own wins.

    The environment is put back at the end.
    """
    added = {name: value for name, value in SETTINGS.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def servers(*, private: bool) -> tuple[Server, ...]:
    """Return the servers that this driver is connected to; ``private`` if it has started them."""
    import ray  # noqa: PLC0415

    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    gcs = Server("Ray's GCS", host.strip("[]"), int(port), REFUSALS if private else REFUSALS_OF_SHARED_GCS)
    here = (node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    raylets = (Server("Ray's raylet", node["NodeManagerAddress"], node["NodeManagerPort"]) for node in here)
    return gcs, *raylets


def probe(server: Server) -> Answer:
    """Connect to a server, and return what that says about it; an error of this process itself says nothing."""
    try:
        with socket.create_connection((server.host, server.port), timeout=CONNECT_S) as connection:
            # A connection to a free port of this machine may be given that very port as its own.
            return "refuses" if connection.getsockname() == connection.getpeername() else "accepts"
    except ConnectionRefusedError:
        return "refuses"
    except TimeoutError:
        return "silent"
    except OSError as error:
        return "silent" if error.errno in UNREACHABLE else "accepts"


def lost_server(watched: tuple[Server, ...], ended: threading.Event) -> Server | None:
    """Probe the servers once a second until one is lost, and return it; None if the work ``ended`` before."""
    evidence = dict.fromkeys(watched, Evidence())
    while not ended.is_set():
        for server in watched:
            evidence[server] = evidence[server].after(probe(server))
            if evidence[server].proves_loss(server):
                return server
        ended.wait(INTERVAL_S)
    return None


def refusing(watched: tuple[Server, ...]) -> str | None:
    """Return the reason if a server refuses connections now: enough after an error of Ray, which it explains."""
    return next((reason(server) for server in watched if probe(server) == "refuses"), None)


@contextmanager
def watching(watched: tuple[Server, ...], *, on_lost: Callable[[str], None]) -> Iterator[None]:
    """Watch the servers during the work, in a thread that does nothing else.

    Args:
        watched: Servers to watch.
        on_lost: Called once, from that thread, with the reason.
    """
    ended = threading.Event()

    def watch() -> None:
        server = lost_server(watched, ended)
        if server is not None and not ended.is_set():
            on_lost(reason(server))

    threading.Thread(target=watch, name="ravel-ray-watch", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def reason(server: Server) -> str:
    """Return the reason of a sweep's end for the log.

    >>> reason(Server("Ray's GCS", "127.0.0.1", 6379))
    "Ray's GCS at 127.0.0.1:6379 no longer answers"
    """
    return f"{server} no longer answers"
