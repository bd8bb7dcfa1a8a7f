"""Cores that this process may use: those of its affinity, its cgroup and its Slurm allocation, not the machine's.

Each function takes the file system and the environment as arguments.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
"""The first that is set is the allocation."""
CONTROLLERS = ("cpu", "cpu,cpuacct", "cpuacct,cpu")


def cores_here() -> int:
    """Return the cores that this process may use, at least one."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return usable_cores(affinity, environ=os.environ, root=Path("/"))


def usable_cores(affinity: int, *, environ: Mapping[str, str], root: Path) -> int:
    """Return the least of the affinity, the limits of all cgroups and the allocation, as whole cores, at least one.

    >>> usable_cores(64, environ={"SLURM_CPUS_PER_TASK": "8"}, root=Path("/nowhere"))
    8
    """
    limits = (*cgroup_limits(root), *slurm_limits(environ))
    return max(1, math.floor(min([float(affinity), *limits])))


def slurm_limits(environ: Mapping[str, str]) -> Iterator[float]:
    """Yield the cores of one task of the Slurm job, or those of the job on this node.

    >>> list(slurm_limits({"SLURM_CPUS_ON_NODE": "16"})), list(slurm_limits({"SLURM_CPUS_PER_TASK": "many"}))
    ([16.0], [])
    """
    for name in SLURM:
        if environ.get(name, "").isdecimal() and int(environ[name]) > 0:
            yield float(environ[name])
            return


def cgroup_limits(root: Path) -> Iterator[float]:
    """Yield the limit of each cgroup (version 1 or 2) that this process is in, in cores."""
    mount = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield from _version_2(mount, path)
        elif "cpu" in controllers.split(","):
            for name in CONTROLLERS:
                yield from _version_1(mount / name, path)


def _version_2(mount: Path, path: str) -> Iterator[float]:
    for folder in _ancestors(mount, path):
        words = " ".join(_lines(folder / "cpu.max")).split()
        if len(words) == 2:
            yield from _ratio(*words)


def _version_1(mount: Path, path: str) -> Iterator[float]:
    for folder in _ancestors(mount, path):
        quota, period = (" ".join(_lines(folder / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
        yield from _ratio(quota, period)


def _ancestors(mount: Path, path: str) -> list[Path]:
    """Return the folder of a cgroup and those above it; in a container, the mount itself may be the cgroup."""
    parts = [part for part in path.split("/") if part not in {"", ".."}]
    return [mount.joinpath(*parts[:length]) for length in range(len(parts), -1, -1)]


def _ratio(quota: str, period: str) -> Iterator[float]:
    """Yield a quota in cores; none where it is ``max`` or negative, which are no limit."""
    if quota.isdecimal() and period.isdecimal() and int(quota) > 0 and int(period) > 0:
        yield int(quota) / int(period)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
