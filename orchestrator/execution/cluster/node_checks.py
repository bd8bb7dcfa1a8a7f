"""Check of a running cluster: every node that can run a trial has what the driver has, and can import users' modules.

A task on each node reports; it is sent by value, so that it runs where Ravel is not installed.
"""

from __future__ import annotations

import logging
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from orchestrator.errors import PreflightError
from orchestrator.execution.cluster.capacity import host_of
from orchestrator.execution.private_ray.failure import in_one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Report: TypeAlias = "dict[str, Any]"
"""What a node has: ``python``, ``executable``, ``versions`` of distributions, ``source``, ``imports`` that failed."""
logger = logging.getLogger(__name__)
ANSWER_S = 120.0
RAVEL = "ravel-sweeps"
REQUIRED = {RAVEL: "orchestrator", "torch": "torch", "ray": "ray"}
"""Distributions that a worker needs, and the module of each."""


@dataclass(frozen=True)
class ClusterNode:
    """A living node: its id, and its name for people."""

    id: str
    name: str


def check_nodes(modules: Sequence[str], *, cpus: float, gpus: float) -> None:
    """Ask every node that is large enough for a trial, at once, for its versions, and to import users' modules.

    Args:
        modules: modules that the trials import.
        cpus: CPUs of a trial.
        gpus: GPUs of a trial.

    Raises:
        PreflightError: lists every problem of every node.
    """
    nodes = living_nodes(cpus=cpus, gpus=gpus)
    if not nodes:  # which the capacity of the cluster refuses
        return
    here = report_of()(list(modules), REQUIRED)
    problems = []
    for node, answer in answers(nodes, report_of(), list(modules), REQUIRED).items():
        problems += (
            [f"{node.name}: {answer}"]
            if isinstance(answer, str)
            else [f"{node.name}: {problem}" for problem in node_problems(answer, here)]
        )
        for line in [] if isinstance(answer, str) else differences(answer, here):
            logger.warning("%s: %s", node.name, line)
    if problems:
        raise PreflightError(problems)


def node_problems(node: Report, here: Report) -> Iterator[str]:
    """Yield why trials of this driver cannot run on a node.

    >>> here = {"python": "3.11.7", "executable": "python", "versions": {"ravel-sweeps": "0.2.0"}, "imports": {}}
    >>> node = {**here, "versions": {"ravel-sweeps": "0.1.0"}, "imports": {"nets": "no module 'einops'"}}
    >>> for problem in node_problems(node, here):
    ...     print(problem)
    ravel-sweeps must be 0.2.0 as on the driver, got 0.1.0; install the same version on every node
    importing nets fails (no module 'einops'); install what it imports on every node
    """
    if _minor(node["python"]) != _minor(here["python"]):
        remedy = "use the same minor version on every node"
        yield f"Python must be {_minor(here['python'])} as on the driver, got {node['python']}; {remedy}"
    missing = [name for name in here["versions"] if name not in node["versions"]]
    for name in missing:
        number = here["versions"][name]
        yield f"{name} is not installed for {node['executable']}; install {name}=={number} there"
    versions = here["versions"].get(RAVEL), node["versions"].get(RAVEL)
    if RAVEL not in missing and versions[0] != versions[1]:
        remedy = "install the same version on every node"
        yield f"{RAVEL} must be {versions[0]} as on the driver, got {versions[1]}; {remedy}"
    for module, reason in node["imports"].items():
        yield f"importing {module} fails ({reason}); install what it imports on every node"


def differences(node: Report, here: Report) -> Iterator[str]:
    """Yield what differs between a node and the driver, and hinders no trial: results may differ between nodes."""
    both = here["versions"].keys() & node["versions"].keys() - {RAVEL}
    for name in sorted(both):
        if _release(here["versions"][name]) != _release(node["versions"][name]):
            yield f"{name} is {node['versions'][name]}, the driver has {here['versions'][name]}"
    same = here["versions"].get(RAVEL) == node["versions"].get(RAVEL)
    if same and here["source"] != node["source"]:
        yield f"{RAVEL} has other source files than the driver's, of the same version"


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _release(version: str) -> str:
    """Return a version without its build: ``2.13.0+cu128`` trains as ``2.13.0+cpu`` does."""
    return version.partition("+")[0]


def report_of() -> Callable[[list[str], Mapping[str, str]], Report]:
    """Return the function that reports on the machine on which it runs; nested, so that it is sent by value."""

    def report(modules: list[str], required: Mapping[str, str]) -> Report:
        import hashlib  # noqa: PLC0415  a function that is sent by value brings no globals
        import importlib  # noqa: PLC0415
        import importlib.metadata  # noqa: PLC0415
        import importlib.util  # noqa: PLC0415
        import pathlib  # noqa: PLC0415
        import sys  # noqa: PLC0415

        versions, source = {}, hashlib.sha256()
        for distribution, module in required.items():
            if importlib.util.find_spec(module) is not None:
                try:
                    versions[distribution] = importlib.metadata.version(distribution)
                except importlib.metadata.PackageNotFoundError:
                    versions[distribution] = "unknown"
        for package in ("orchestrator", "search_spaces", "trainables"):
            spec = importlib.util.find_spec(package)
            for folder in [] if spec is None else spec.submodule_search_locations or []:
                for file in sorted(pathlib.Path(folder).rglob("*.py")):
                    source.update(file.read_bytes())
        failed = {}
        for module in modules:
            try:
                importlib.import_module(module)
            except (Exception, SystemExit) as error:  # noqa: BLE001  a user's module raises anything
                failed[module] = f"{type(error).__name__}: {error}"
        return {
            "python": platform.python_version(),
            "executable": sys.executable,
            "versions": versions,
            "source": source.hexdigest(),
            "imports": failed,
        }

    return report


def living_nodes(*, cpus: float = 0.0, gpus: float = 0.0) -> list[ClusterNode]:
    """Return the living nodes of the connected cluster that have so many CPUs and GPUs, free or not."""
    import ray  # noqa: PLC0415

    return [
        ClusterNode(node["NodeID"], host_of(node))
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0.0) >= cpus and node["Resources"].get("GPU", 0.0) >= gpus
    ]


def answers(
    nodes: Sequence[ClusterNode], question: Callable[..., Report], *arguments: Any, limit_s: float = ANSWER_S
) -> dict[ClusterNode, Report | str]:
    """Run a function on all nodes at once, and return what each returned, or the reason why there is nothing."""
    import ray  # noqa: PLC0415
    from ray.exceptions import RayError  # noqa: PLC0415
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

    task = ray.remote(num_cpus=0, max_retries=0)(question)
    sent = {
        node: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(*arguments)
        for node in nodes
    }
    done, _ = ray.wait(list(sent.values()), num_returns=len(sent), timeout=limit_s)
    returned: dict[ClusterNode, Report | str] = {}
    for node, reference in sent.items():
        try:
            returned[node] = ray.get(reference) if reference in done else f"it ran no task within {limit_s:.0f} s"
        except RayError as error:
            returned[node] = f"it cannot run a task ({in_one_line(str(getattr(error, 'cause', None) or error))})"
    return returned
