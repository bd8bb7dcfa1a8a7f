"""Kills of a running sweep at seeded moments, and what must hold afterwards.

A sweep is launched by the real command, in a process group and with a folder of temporary files of its own. Something
is killed or stopped at a moment that a seed chooses; the driver must end by itself, and say how to continue; the sweep
is resumed to its end. The invariants are checked after each of the two.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from launched import Launched, signal_process, temporary_folder
from moments import Moment
from outcomes import Outcome, append
from survival import INTERRUPTED, RAY_LOST, Fault, faults_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from launched import Setting

NUM_SEEDS = 15
STOPPED_S = 20.0


def kill(name: str) -> Callable[[Launched, Moment], None]:
    """Return a kind that kills a process of Ray."""

    def strike(sweep: Launched, _: Moment) -> None:
        for pid in sweep.processes(name):
            signal_process(pid, signal.SIGKILL)

    return strike


def terminate_group(sweep: Launched, _: Moment) -> None:
    """Signal the group as coreutils' timeout, Slurm and Kubernetes do."""
    os.killpg(sweep.driver.pid, signal.SIGTERM)


def interrupt_twice(sweep: Launched, moment: Moment) -> None:
    """Signal the group as a terminal does for a user who presses Ctrl-C twice."""
    os.killpg(sweep.driver.pid, signal.SIGINT)
    time.sleep(moment.pause_s)
    if sweep.driver.poll() is None:
        os.killpg(sweep.driver.pid, signal.SIGINT)


def stop_driver(sweep: Launched, _: Moment) -> None:
    """Stop the driver alone for a while."""
    sweep.driver.send_signal(signal.SIGSTOP)
    time.sleep(STOPPED_S)
    sweep.driver.send_signal(signal.SIGCONT)


def stop_everything(sweep: Launched, _: Moment) -> None:
    """Stop the driver and all processes of Ray for a while, as a frozen container does."""
    pids = sweep.processes()
    for pid in pids:
        signal_process(pid, signal.SIGSTOP)
    time.sleep(STOPPED_S)
    for pid in pids:
        signal_process(pid, signal.SIGCONT)


KINDS = {
    "raylet killed": Fault(kill("raylet"), RAY_LOST, reason="Ray's raylet at .* no longer answers"),
    "GCS killed": Fault(kill("gcs_server"), RAY_LOST, reason="Ray's GCS at .* no longer answers"),
    "SIGTERM to the group": Fault(terminate_group, INTERRUPTED),
    "SIGINT twice": Fault(interrupt_twice, INTERRUPTED),
    "driver stopped": Fault(stop_driver, 0),
    "all stopped": Fault(stop_everything, 0),
}
"""What happens at a moment, and the exit code of a sweep that does not complete because of it."""


def drawn(kind: str, seed: int) -> Moment:
    """Draw the moment of a kind."""
    return Moment.drawn(kind, seed, kinds=list(KINDS))


def run(moment: Moment, folder: Path) -> Outcome:
    """Launch a sweep in an empty folder, strike at a moment, resume, and return what happened and all faults."""
    return struck(moment, folder, KINDS[moment.kind])


def struck(
    moment: Moment, folder: Path, fault: Fault, *, setting: Setting | None = None, suite: str = "kills"
) -> Outcome:
    """Do the same with any fault, to a sweep of any setting."""
    sweep, outcome = Launched(folder, temporary_folder(), setting), Outcome(moment, suite)
    try:
        outcome.faults.extend(faults_of(sweep, moment, fault, outcome))
    finally:
        outcome.output = sweep.output
        sweep.close()
    append(outcome)
    return outcome
