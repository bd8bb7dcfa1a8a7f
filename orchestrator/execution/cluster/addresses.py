"""Addresses: where a sweep may run, and why an address cannot be used.

local                a private Ray on this machine
processes            worker processes on this machine, without Ray
auto                 the running Ray of this machine
HOST:PORT            the GCS of a running cluster, of which this machine is a node
http://HOST:PORT     the dashboard of a running cluster, which runs the driver as a job
"""

from __future__ import annotations

import os
from typing import Literal, TypeAlias

from orchestrator.errors import SpecError, quoted
from search_spaces import Problem

AddressKind: TypeAlias = Literal["local", "processes", "auto", "gcs", "dashboard"]
HERE: frozenset[AddressKind] = frozenset({"local", "processes"})
"""Kinds of which all workers run on this machine, and are started for one sweep."""
VARIABLE = "RAY_ADDRESS"
OPTION = "--address"
FORM = "must be local, processes, auto, HOST:PORT of a Ray cluster's head, or http://HOST:PORT of its dashboard"


def chosen_address(option: str | None) -> str:
    """Return the address to use: the option's, else that of ``RAY_ADDRESS``, else ``local``.

    Raises:
        SpecError: it is no address that a sweep can use.
    """
    variable = os.environ.get(VARIABLE) or "local"
    address = option or variable
    if kind_of(address) == "auto" and variable not in {"auto", "local"}:  # as Ray itself reads it
        address = variable
    kind_of(address)
    return address


def kind_of(address: str) -> AddressKind:
    """Return the kind of an address.

    Raises:
        SpecError: it has none of the forms above; for Ray Client the message has the ways that work.

    >>> kind_of("auto"), kind_of("processes"), kind_of("10.0.0.5:6379"), kind_of("http://10.0.0.5:8265")
    ('auto', 'processes', 'gcs', 'dashboard')
    """
    if address in {"local", "processes", "auto"}:
        return address  # type: ignore[return-value]
    scheme, separator, rest = address.partition("://")
    if scheme == "ray" and separator:
        host = rest.rpartition(":")[0] or rest or "HEAD"
        raise SpecError([Problem(OPTION, line) for line in _instead_of_client(address, host)])
    if separator:
        if scheme in {"http", "https"} and rest.strip("/") and "@" not in rest:
            return "dashboard"
        raise SpecError([Problem(OPTION, f"{FORM}, got {quoted(address)}")])
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise SpecError([Problem(OPTION, f"{FORM}, got {quoted(address)}")])
    return "gcs"


def _instead_of_client(address: str, host: str) -> tuple[str, ...]:
    return (
        f"Ray Client ({quoted(address)}) cannot run a sweep, as the driver would end with the connection; instead:",
        f"from here, the cluster runs the driver: --address http://{host}:8265",
        "on the head or another node of the cluster: --address auto",
    )
