"""CPU time and memory of a command and of all that it started, sampled from /proc.

The command has a mark in its environment, which every process inherits, also one in a session of its own. A process
counts with the CPU time of its last sample, so each loses less than the time between two.
"""

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import final

SAMPLE_S = 0.25
SAMPLES_OF_MEMORY = 4
"""Memory is read once in so many samples, as the kernel walks all pages of a process to count them."""
MARK = "RAVEL_BENCHMARK"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """Time and memory of a command with its descendants.

    `pss_mb` is the most that they had together where what processes share is counted once, `rss_mb` where each counts
    it. `others_cpu_s` is what the rest of the machine computed meanwhile, the sampling included.
    """

    began: float
    wall_s: float
    cpu_s: float
    others_cpu_s: float
    pss_mb: float
    rss_mb: float


def measured(command: Sequence[str], *, environment: Mapping[str, str], folder: Path, cores: int) -> Usage:
    """Run a command in a folder on so many cores, and end all that it leaves; its output goes to `output.txt`.

    Raises:
        SystemExit: it fails; with the end of its output.
    """
    output, tree = folder / "output.txt", Tree(folder)
    before, began, started = busy_s(), time.time(), time.perf_counter()
    used, pss_mb, rss_mb = dict[int, float](), 0.0, 0.0
    driver = _started(command, environment={**environment, MARK: str(folder)}, folder=folder, cores=cores)
    try:
        for sample in itertools.count():
            if driver.poll() is not None:
                break
            processes = tree.processes()
            used |= {pid: max(cpu_s(pid), used.get(pid, 0.0)) for pid in processes}
            if sample % SAMPLES_OF_MEMORY == 0:
                memories = [memory_mb(pid) for pid in processes]
                pss_mb = max(pss_mb, sum(memory["Pss"] for memory in memories))
                rss_mb = max(rss_mb, sum(memory["Rss"] for memory in memories))
            time.sleep(SAMPLE_S)
        wall_s = time.perf_counter() - started
    finally:
        end(folder)
    if driver.returncode:
        text = output.read_text(encoding="utf-8", errors="replace")[-4000:]
        raise SystemExit(f"{' '.join(command)} ended with {driver.returncode}:\n{text}")
    total_s = sum(used.values())
    return Usage(began, wall_s, total_s, max(0.0, busy_s() - before - total_s), pss_mb, rss_mb)


def _started(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, cores: int
) -> "subprocess.Popen[bytes]":
    """Start a command on the first of the cores that this process may use."""
    allowed = os.sched_getaffinity(0)
    if len(allowed) < cores:
        raise SystemExit(f"cores: must be at least {cores}, as so many trials run at a time, got {len(allowed)}")
    os.sched_setaffinity(0, sorted(allowed)[:cores])
    try:
        with (folder / "output.txt").open("wb") as output:
            return subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)  # noqa: S603
    finally:
        os.sched_setaffinity(0, allowed)


@final
class Tree:
    """Processes of a command. Those of others are looked at once, as a process inherits its mark or never has it."""

    def __init__(self, mark: str | Path) -> None:
        self._mark = f"{MARK}={mark}".encode()
        self._others: set[int] = set()

    def processes(self) -> list[int]:
        """Return the living ones."""
        present = {int(path.name) for path in Path("/proc").glob("[0-9]*")}
        variables = {pid: _variables(pid) for pid in present - self._others}
        own = [pid for pid, found in variables.items() if self._mark in found]
        # None are those of the kernel, and of a process that is about to become another program.
        self._others = (self._others & present) | {pid for pid in variables.keys() - set(own) if any(variables[pid])}
        return own


def _variables(pid: int) -> list[bytes]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return []


def end(mark: Path) -> None:
    """Kill what is left of a command."""
    while processes := marked(mark):
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(SAMPLE_S)


def marked(mark: str | Path) -> list[int]:
    """Return the living processes with a mark."""
    return Tree(mark).processes()


def memory_mb(pid: int) -> dict[str, float]:
    """Return the memory of a process: its part of what it shares (Pss), and with all that it shares (Rss)."""
    sizes = {"Pss": 0.0, "Rss": 0.0}
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            name = line.partition(":")[0]
            if name in sizes:
                sizes[name] = int(line.split()[1]) / 1024
    return sizes


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process so far, in user and system mode."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return 0.0


def busy_s() -> float:
    """Return the seconds that all cores together have computed since the machine started."""
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    user, nice, system, _, _, irq, softirq, *_ = map(int, fields)
    return (user + nice + system + irq + softirq) / TICKS_PER_S
