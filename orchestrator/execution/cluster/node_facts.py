"""Facts about every node of a connected cluster: its GPUs, its clock, and the storage folder as it sees it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.execution.cluster.node_checks import REQUIRED, answers, living_nodes, report_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.execution.cluster.node_checks import ClusterNode, Report

CLOCK_S = 20.0


@dataclass(frozen=True)
class NodeFacts:
    """Versions, devices, clock and storage of a node.

    Args:
        name: for people.
        report: that of ``node_checks``, with ``gpus`` (lines of nvidia-smi), ``sees`` (of the storage folder: True,
            False, or the error), ``free`` (bytes of its disk) and ``cores``.
        resources: as Ray counts them.
        clock: time of its clock, and the times of this machine between which it was read.
    """

    name: str
    report: Report
    resources: Mapping[str, float]
    clock: tuple[float, float, float] | None


def facts_of(marker: str | None, *, limit_s: float) -> tuple[dict[str, NodeFacts], dict[str, str]]:
    """Ask all living nodes, and return the facts of those that answer, and the reason for each that does not, by name.

    Args:
        marker: a file in the storage folder that every node should see; None: not asked.
        limit_s: seconds for all nodes together.
    """
    import ray  # noqa: PLC0415

    nodes = living_nodes()
    resources = {node["NodeID"]: node["Resources"] for node in ray.nodes()}
    reports = answers(nodes, _question(), REQUIRED, marker, limit_s=limit_s)
    answering = [node for node in nodes if not isinstance(reports[node], str)]
    clocks = _clocks(answering)
    facts = {
        node.name: NodeFacts(node.name, report, resources[node.id], clocks.get(node))
        for node, report in reports.items()
        if not isinstance(report, str)
    }
    return facts, {node.name: report for node, report in reports.items() if isinstance(report, str)}


def dashboard_here() -> str | None:
    """Return ``HOST:PORT`` of the dashboard of the connected cluster, or None if it has none."""
    from ray._private.worker import get_dashboard_url  # noqa: PLC0415

    return get_dashboard_url() or None


def _clocks(nodes: list[ClusterNode]) -> dict[ClusterNode, tuple[float, float, float]]:
    """Return each node's time between two of this machine: one node after the other, whose workers run already."""
    clocks = {}
    for node in nodes:
        before_s = time.time()
        answer = answers([node], _clock(), limit_s=CLOCK_S)[node]
        if not isinstance(answer, str):
            clocks[node] = (answer["time"], before_s, time.time())
    return clocks


def _clock() -> Callable[[], Report]:
    def clock() -> Report:
        import time  # noqa: PLC0415  a function that is sent by value brings no globals

        return {"time": time.time()}

    return clock


def _question() -> Callable[..., Report]:
    """Return the function that reports on the machine on which it runs; nested, so that it is sent by value."""
    versions = report_of()

    def question(required: Mapping[str, str], marker: str | None) -> dict[str, Any]:
        import os  # noqa: PLC0415  a function that is sent by value brings no globals
        import shutil  # noqa: PLC0415
        import subprocess  # noqa: PLC0415

        report = versions([], required)
        report["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        report["sees"], report["free"] = None, None
        if marker is not None:
            try:
                os.stat(marker)  # noqa: PTH116  no other import
                report["sees"], report["free"] = True, shutil.disk_usage(os.path.dirname(marker)).free  # noqa: PTH120
            except OSError as error:
                report["sees"] = error.strerror or str(error)
        command = shutil.which("nvidia-smi")
        report["gpus"] = []
        if command is not None:
            query = [command, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
            try:
                asked = subprocess.run(query, capture_output=True, text=True, timeout=8, check=True)  # noqa: S603
                report["gpus"] = asked.stdout.strip().splitlines()
            except (OSError, subprocess.SubprocessError) as error:
                report["gpus"] = [f"nvidia-smi fails ({type(error).__name__})"]
        return report

    return question
