"""This machine: processors, memory, disks, open files, and its GPUs, without torch and without Ray."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.doctor.finding import Finding, fail, ok, skipped, warn
from orchestrator.execution.cores import cgroup_limits, slurm_limits, usable_cores
from orchestrator.execution.private_ray.folder import MAX_TEMPORARY_PATH
from orchestrator.execution.private_ray.process import OBJECT_STORE_BYTES
from orchestrator.formatting import shown_bytes
from orchestrator.storage.locations import cache_folder, expanded, is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LEAST_MEMORY = 2_000_000_000
"""Bytes: Ray takes about one gigabyte, a worker with torch half of one."""
NO_ROOM, LITTLE_ROOM = 100_000_000, 1_000_000_000
FEW_INODES = 10_000
FULL = 0.95
"""Share of a disk from which on Ray complains, and stops to spill objects."""
FEW_FILES = 4096
"""Open files below which Ray itself warns."""


def machine_findings(storage: str) -> Iterator[Finding]:
    """Yield the findings on this machine; ``storage`` is where sweeps are kept."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield core_finding(affinity, os.cpu_count() or 1, environ=os.environ, root=Path("/"))
    yield memory_finding(Path("/"))
    yield shared_memory_finding(Path("/dev/shm"))  # noqa: S108
    folders = {"cache": cache_folder(), "temporary": Path(tempfile.gettempdir())}
    if not is_remote(storage):
        folders = {"results": expanded(storage).absolute(), **folders}
    for name, folder in folders.items():
        yield disk_finding(name, folder)
    yield temporary_path_finding(tempfile.gettempdir())
    yield open_files_finding(*resource.getrlimit(resource.RLIMIT_NOFILE))


def core_finding(affinity: int, present: int, *, environ: Mapping[str, str], root: Path) -> Finding:
    """Return the finding on processors: those that sweeps may use, and the reason why they are not all.

    >>> print(core_finding(64, 64, environ={"SLURM_CPUS_PER_TASK": "8"}, root=Path("/nowhere")))
    ok cores: 8 granted of 64 present (Slurm's allocation)
    """
    granted = usable_cores(affinity, environ=environ, root=root)
    limits = {
        "Slurm's allocation": min(slurm_limits(environ), default=float(present)),
        "the cgroup": min(cgroup_limits(root), default=float(present)),
        "the affinity": float(affinity),
    }
    reason = min(limits, key=lambda name: limits[name])
    return ok("cores", f"{granted} granted of {present} present" + (f" ({reason})" if granted < present else ""))


def memory_finding(root: Path) -> Finding:
    """Return the finding on memory: what is available, within the limit of the cgroup."""
    lines = dict(line.split(":", 1) for line in _lines(root / "proc/meminfo") if ":" in line)
    if not {"MemTotal", "MemAvailable"} <= lines.keys():
        return skipped("memory", "this system does not report it in /proc/meminfo")
    total, available = (1024 * int(lines[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    limit = _cgroup_memory(root)
    if limit is not None and limit[0] < total:
        total, available = limit[0], min(available, limit[0] - limit[1])
    text = f"{shown_bytes(available)} available of {shown_bytes(total)}"
    if available < LEAST_MEMORY:
        return warn("memory", text, "end what else runs here, ask for more, or set resources.max_concurrent: 1")
    return ok("memory", text)


def _cgroup_memory(root: Path) -> tuple[int, int] | None:
    """Return the limit and the use of memory of this process's cgroup (version 2, else 1), or None without a limit."""
    mount, names = root / "sys/fs/cgroup", _lines(root / "proc/self/cgroup")
    own = next((line.split(":", 2)[2].strip("/") for line in names if line.startswith("0::")), "")
    places = [(mount / own, "memory.max", "memory.current"), (mount, "memory.max", "memory.current")]
    places.append((mount / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"))
    for folder, most, used in places:
        numbers = [text for name in (most, used) for text in _lines(folder / name)[:1]]
        if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
            return int(numbers[0]), int(numbers[1])
    return None


def shared_memory_finding(folder: Path) -> Finding:
    """Return the finding on /dev/shm, where Ray puts its objects."""
    if not folder.is_dir():
        return skipped(str(folder), "this system has none; Ray uses its temporary folder")
    free = shutil.disk_usage(folder).free
    if free < OBJECT_STORE_BYTES:
        needed = f"Ray's objects take {shown_bytes(OBJECT_STORE_BYTES)}, and go to a disk instead"
        return warn(str(folder), f"{shown_bytes(free)} free; {needed}", "start the container with --shm-size=1g")
    return ok(str(folder), f"{shown_bytes(free)} free")


def disk_finding(name: str, folder: Path) -> Finding:
    """Return the finding on the disk of a folder, which may be still to come: room, and room for more files."""
    place = nearest(folder)
    usage, system = shutil.disk_usage(place), os.statvfs(place)
    text = f"{folder}: {shown_bytes(usage.free)} free of {shown_bytes(usage.total)}"
    fix = "free some space, or choose another disk" + {
        "results": " (storage.uri)",
        "cache": " (RAVEL_CACHE)",
        "temporary": " (TMPDIR)",
    }.get(name, "")
    if usage.free < NO_ROOM:
        return fail(f"disk {name}", text, fix)
    if system.f_files and system.f_favail < FEW_INODES:  # some file systems count none
        return warn(f"disk {name}", f"{folder}: {system.f_favail} more files fit on its disk (inodes)", fix)
    if usage.free < LITTLE_ROOM or (name == "temporary" and 1 - usage.free / usage.total > FULL):
        return warn(f"disk {name}", text, fix)
    return ok(f"disk {name}", text)


def nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())


def temporary_path_finding(folder: str) -> Finding:
    """Return the finding on the length of the temporary folder's path: Ray's sockets are below it.

    >>> print(temporary_path_finding("/scratch/users/ada/jobs/4711/tmp"))
    ok temporary path: 32 characters; sockets of Ray allow 22, so a private Ray uses /tmp
    """
    if len(folder) <= MAX_TEMPORARY_PATH:
        return ok("temporary path", f"{len(folder)} characters; sockets of Ray allow {MAX_TEMPORARY_PATH}")
    text = f"{len(folder)} characters; sockets of Ray allow {MAX_TEMPORARY_PATH}, so a private Ray uses /tmp"
    if not os.access("/tmp", os.W_OK | os.X_OK):  # noqa: S108
        return fail("temporary path", f"{text}, which cannot be written", "set TMPDIR to a folder with a shorter path")
    return ok("temporary path", text)


def open_files_finding(soft: int, hard: int) -> Finding:
    """Return the finding on the limit of open files; Ray raises it to the hard one by itself.

    >>> print(open_files_finding(256, 1024))
    warn open files: at most 1024, and Ray asks for 4096; run `ulimit -n 8192`, or raise the limit in limits.conf
    """
    if hard != resource.RLIM_INFINITY and hard < FEW_FILES:
        fix = "run `ulimit -n 8192`, or raise the limit in limits.conf"
        return warn("open files", f"at most {hard}, and Ray asks for {FEW_FILES}", fix)
    shown = "without limit" if hard == resource.RLIM_INFINITY else f"{hard} at most"
    return ok("open files", f"{soft} now, {shown}")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
