"""Host check of a server: its address, the Host headers it accepts, and the pages that may write."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from orchestrator.errors import PreflightError

if TYPE_CHECKING:
    from collections.abc import Iterable

# MLflow's default also accepts 10.* and 192.168.*, which are patterns of names: a page of 10.evil.example would pass.
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def allowed_names(hosts: Iterable[str]) -> list[str]:
    """Return the Host headers that a server accepts: those of its own machine, and these, with and without a port.

    >>> allowed_names(["ml.example"])[-2:], "[[]::1]:*" in allowed_names([])
    (['ml.example', 'ml.example:*'], True)
    """
    names = [name for host in (*LOOPBACK, *hosts) for name in _with_ports(host)]
    return [name.replace("[", "[[]") if "*" in name else name for name in names]  # with a star, [ opens a pattern


def allowed_origins(hosts: Iterable[str]) -> list[str]:
    """Return the pages that may write: the server's own, which MLflow knows by itself on loopback only.

    >>> allowed_origins(["ml.example:8443"])
    ['http://ml.example:8443', 'https://ml.example:8443']
    """
    return [f"{scheme}://{name}" for host in hosts for name in _with_ports(host) for scheme in ("http", "https")]


def http_address(name: str, *, port: int) -> str:
    """Return the address of a server for its clients; a port in its name replaces ``port``.

    >>> http_address("::1", port=5000), http_address("ml.example:80", port=5000)
    ('http://[::1]:5000', 'http://ml.example:80')
    """
    return f"http://{name}" if _has_port(name) else f"http://{_bracketed(name)}:{port}"


def is_loopback(host: str) -> bool:
    """Return True if only this machine can connect.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.2", "::1", "0.0.0.0", "ml.example")]
    [True, True, True, False, False]
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_port(host: str, port: int) -> None:
    """Return if a port can be listened on. MLflow would fail seconds later, with the exit code of success.

    Raises:
        PreflightError: the port is in use, or this user may not listen on it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host.strip("[]"), port), family=family).close()
    except OSError as error:
        raise PreflightError([f"--port: {host}:{port} cannot be listened on ({error}); choose another"]) from error


def _with_ports(host: str) -> list[str]:
    return [host] if _has_port(host) else [_bracketed(host), f"{_bracketed(host)}:*"]


def _has_port(host: str) -> bool:
    return host.rpartition("]")[2].count(":") == 1


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
