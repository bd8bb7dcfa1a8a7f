"""Ray: a private one that starts, or a running cluster and its nodes. It imports Ray, and joins the cluster."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from orchestrator.doctor.finding import Finding, fail, ok, skipped, split, warn
from orchestrator.doctor.folders import clock_finding, skew
from orchestrator.doctor.machine import LITTLE_ROOM, nearest
from orchestrator.errors import OrchestratorError, PreflightError
from orchestrator.execution.cluster.addresses import OPTION, kind_of
from orchestrator.execution.cluster.capacity import Capacity, Node
from orchestrator.formatting import shown_bytes
from orchestrator.storage.locations import expanded, is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.execution.cluster.node_facts import NodeFacts

NODES_S = 60.0
PORT_S = 3.0
SLOW_START_S = 60.0
MARKER = ".ravel-doctor-"


def probe(address: str, storage: str) -> Iterator[Finding]:
    """Yield the findings on Ray at an address; with ``local`` a private one is started, with ``processes`` none."""
    logging.disable(logging.WARNING)  # what differs between nodes is a finding
    kind = kind_of(address)
    try:
        if kind == "local":
            yield from _private()
        elif kind == "processes":
            yield from _processes()
        elif kind == "dashboard":
            yield from _dashboard(address)
        else:
            yield from _joined(address, storage)
    except PreflightError as error:
        yield from (fail("ray", *split(str(problem))) for problem in error.problems)
    except OrchestratorError as error:
        yield fail("ray", *split(str(error)))
    except ModuleNotFoundError as error:
        yield fail("ray", str(error), "pip install 'ravel-sweeps[tune]'")


def _private() -> Iterator[Finding]:
    from orchestrator.execution import ray_cluster  # noqa: PLC0415  imports Ray

    started_s = time.monotonic()
    with ray_cluster.connect("local") as capacity:
        seconds = time.monotonic() - started_s
        text = f"a private one starts in {seconds:.0f} s: {capacity}"
        fix = "free processors, or install Ravel on a local disk: Ray's processes import its files"
        yield warn("ray", text, fix) if seconds > SLOW_START_S else ok("ray", text)
    yield ok("ray", "it stops, and its folder is removed")


def _processes() -> Iterator[Finding]:
    from orchestrator.execution.processes.pool import WorkerPool  # noqa: PLC0415  no other check starts workers

    started_s = time.monotonic()
    with WorkerPool(cpus=1, environ=os.environ) as pool:
        pool.wait_ready()
        seconds = time.monotonic() - started_s
        text = f"workers can be started after {seconds:.0f} s, without Ray"
        fix = "free processors, or install Ravel on a local disk: workers import its files"
        yield warn("processes", text, fix) if seconds > SLOW_START_S else ok("processes", text)


def _dashboard(address: str) -> Iterator[Finding]:
    from orchestrator.execution.cluster import jobs  # noqa: PLC0415  imports Ray

    started_s = time.monotonic()
    jobs.check(address)
    yield ok("dashboard", f"{address} answers after {time.monotonic() - started_s:.1f} s, with this Ray and this token")
    for node in jobs.nodes_of(address):
        total, available = (node.get("mem") or [0, 0])[:2]
        text = f"{node.get('ip', '?')}, {(node.get('cpus') or [0])[0]} cores, {shown_bytes(available)} memory available"
        fix = "end what else runs on it"
        name = f"node {node.get('hostname', '?')}"
        yield warn(name, text, fix) if total and available < LITTLE_ROOM else ok(name, text)
    yield skipped("nodes", f"to ask each for its versions, run `ravel doctor {OPTION} auto` on the head")


def _joined(address: str, storage: str) -> Iterator[Finding]:
    from orchestrator.execution import ray_cluster  # noqa: PLC0415  imports Ray
    from orchestrator.execution.cluster import gcs, node_facts  # noqa: PLC0415
    from orchestrator.execution.cluster.node_checks import REQUIRED, report_of  # noqa: PLC0415

    cluster = gcs.probe(gcs.resolved(address))
    yield ok("gcs", f"{cluster}, with this Ray and this token")
    if cluster.node_ip is None:
        yield fail("here", "this machine is no node of the cluster, so no driver can join from it", ray_cluster.NO_NODE)
        return
    with ray_cluster.connect(address) as capacity, _marker(storage) as marker:
        yield ok("capacity", str(capacity))
        yield port_finding("dashboard", node_facts.dashboard_here())
        facts, silent = node_facts.facts_of(marker, limit_s=NODES_S)
        here = report_of()([], REQUIRED)
        for name, reason in silent.items():
            yield fail(f"node {name}", reason, "see raylet.out on it, and restart its Ray")
        for node in facts.values():
            yield from node_findings(node, here, storage=storage if marker else None)


@contextmanager
def _marker(storage: str) -> Iterator[str | None]:
    """Write a file into the storage folder, for the nodes to look for, and remove it; None if there is no folder."""
    if is_remote(storage):
        yield None
        return
    path = nearest(expanded(storage).absolute()) / f"{MARKER}{secrets.token_hex(8)}"
    try:
        path.touch()
    except OSError:  # the group on the storage says so
        yield None
        return
    try:
        yield str(path)
    finally:
        with suppress(OSError):
            path.unlink()


def port_finding(name: str, address: str | None) -> Finding:
    """Return the finding on a port that a browser or ``ravel launch --address http://...`` needs."""
    if address is None:
        fix = "start the head with --include-dashboard=true, and with ray[default] installed"
        return warn(name, "the head has none, so no machine outside the cluster can submit a sweep", fix)
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PORT_S).close()
    except (OSError, ValueError) as error:
        fix = "open the port in the firewall, or start the head with --dashboard-host=0.0.0.0"
        return warn(name, f"{address} cannot be reached ({error})", fix)
    return ok(name, f"http://{address}")


def node_findings(node: NodeFacts, here: Mapping[str, Any], *, storage: str | None) -> Iterator[Finding]:
    """Yield the findings on one node: versions, GPUs, clock, and the storage folder as it sees it.

    Args:
        node: what it reported.
        here: the report of this machine.
        storage: the folder that it should see; None: it was not asked.
    """
    from orchestrator.execution.cluster.node_checks import differences, node_problems  # noqa: PLC0415

    name, report = f"node {node.name}", node.report
    versions = ", ".join(f"{library} {version}" for library, version in report["versions"].items())
    capacity = Capacity((Node.of(node.resources),))
    yield ok(name, f"Python {report['python']}, {versions}; {str(capacity).removeprefix('1 node, ')}")
    yield from (fail(name, *split(problem)) for problem in node_problems(dict(report), dict(here)))
    fix = "install the same on every node, or expect results to differ"
    yield from (warn(name, line, fix) for line in differences(dict(report), dict(here)))
    yield from (ok(name, f"GPU: {line}") for line in report["gpus"])
    if node.resources.get("CPU", 0) > report["cores"]:
        text = f"Ray counts {node.resources['CPU']:g} CPUs, its processes get {report['cores']} cores"
        yield warn(name, text, f"start its Ray with --num-cpus={report['cores']}")
    if node.clock is not None:
        yield clock_finding(f"{name} clock", skew(*node.clock))
    if storage is not None:
        yield storage_finding(name, storage, report["sees"], free=report["free"])


def storage_finding(name: str, storage: str, sees: bool | str, *, free: int | None) -> Finding:  # noqa: FBT001
    """Return the finding on the storage folder as a node sees it.

    >>> print(storage_finding("node b", "/mnt/results", "No such file or directory", free=None))
    FAIL node b storage: it does not see what is written to /mnt/results here (No such file or directory); \
mount that folder on every node, or keep sweeps in S3 (storage.uri)
    """
    if sees is True:
        room = "" if free is None else f", with {shown_bytes(free)} free"
        return ok(f"{name} storage", f"it sees {storage}{room}")
    text = f"it does not see what is written to {storage} here ({sees})"
    return fail(f"{name} storage", text, "mount that folder on every node, or keep sweeps in S3 (storage.uri)")
