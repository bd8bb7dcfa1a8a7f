"""A command that is watched while it runs: CPU time and memory of its own process, by time."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SAMPLE_S = 0.05
TICKS = os.sysconf("SC_CLK_TCK")
OUTPUT = "output.txt"


@dataclass(frozen=True)
class Sample:
    """CPU seconds of a process until a time, and the most memory that it has had."""

    time: float
    cpu_s: float
    peak_mb: float


@dataclass(frozen=True)
class Run:
    """Measurements of one command."""

    began: float
    ended: float
    samples: tuple[Sample, ...]

    @property
    def seconds(self) -> float:
        """Seconds from start to exit."""
        return self.ended - self.began

    @property
    def cpu_s(self) -> float:
        """CPU seconds of its process, without those of others that it started."""
        return self.samples[-1].cpu_s

    @property
    def peak_mb(self) -> float:
        """Most memory that its process had."""
        return self.samples[-1].peak_mb

    def at(self, moment: float) -> Sample:
        """Return the last sample before a time, or else the first.

        >>> run = Run(0.0, 3.0, (Sample(1.0, 0.5, 10.0), Sample(2.0, 0.9, 12.0)))
        >>> run.at(1.9).cpu_s, run.at(0.1).cpu_s
        (0.5, 0.5)
        """
        before = [sample for sample in self.samples if sample.time <= moment]
        return before[-1] if before else self.samples[0]


def watch(
    command: Sequence[str],
    folder: Path,
    *,
    environ: Mapping[str, str],
    stop: Callable[[], bool] = lambda: False,
    signal_at_stop: int = 2,
) -> Run:
    """Run a command in a folder to its end, or until ``stop`` returns True; it then gets a signal.

    Raises:
        SystemExit: it failed; shows the end of what it printed.
    """
    samples, is_stopped, began = list[Sample](), False, time.time()
    with (folder / OUTPUT).open("ab") as output:
        process = subprocess.Popen(command, cwd=folder, env={**os.environ, **environ}, stdout=output, stderr=output)  # noqa: S603
        while process.poll() is None:
            with suppress(OSError, IndexError):
                samples.append(sample(process.pid))
            if not is_stopped and stop():
                process.send_signal(signal_at_stop)
                is_stopped = True
            time.sleep(SAMPLE_S)
    if process.returncode and not is_stopped:
        raise SystemExit(f"{' '.join(command)}: {(folder / OUTPUT).read_text(errors='replace')[-4000:]}")
    return Run(began, time.time(), tuple(samples))


def sample(pid: int) -> Sample:
    """Measure a process now.

    Raises:
        OSError: it has ended.
        IndexError: it is about to.
    """
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    peak_kb = int(status.partition("VmHWM:")[2].split()[0])
    return Sample(time.time(), (int(fields[11]) + int(fields[12])) / TICKS, peak_kb / 1024)
