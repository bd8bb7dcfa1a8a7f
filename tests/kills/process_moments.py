"""Kills of sweeps in worker processes: a kind of fault strikes at a moment; then as for those on a private Ray."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

from kill_moments import INTERRUPTED, interrupt_twice, stop_driver, stop_everything, struck, terminate_group
from launched import SPEC, Setting, signal_process
from moments import PLACES, Moment
from survival import KILLED, Fault

if TYPE_CHECKING:
    from launched import Launched
    from outcomes import Outcome

SETTING = Setting(SPEC, arguments=("--address", "processes"))
IN_SWEEP = tuple(place for place in PLACES if place != "Ray starts")


def kill_driver(sweep: Launched, _: Moment) -> None:
    """Kill the driver alone."""
    sweep.driver.kill()


def kill_server(sweep: Launched, _: Moment) -> None:
    """Kill the server that has started the workers."""
    for pid in children_of(sweep, sweep.driver.pid):
        signal_process(pid, signal.SIGKILL)


def kill_workers(sweep: Launched, _: Moment) -> None:
    """Kill all workers."""
    for pid in workers_of(sweep):
        signal_process(pid, signal.SIGKILL)


def end_workers(sweep: Launched, _: Moment) -> None:
    """Have all workers end with their epoch."""
    for pid in workers_of(sweep):
        signal_process(pid, signal.SIGTERM)


KINDS = {
    "driver killed": Fault(kill_driver, KILLED),
    "server killed": Fault(kill_server, 0),
    "workers killed": Fault(kill_workers, 0),
    "SIGTERM to workers": Fault(end_workers, 0),
    "SIGTERM to the group": Fault(terminate_group, INTERRUPTED),
    "SIGINT twice": Fault(interrupt_twice, INTERRUPTED),
    "driver stopped": Fault(stop_driver, 0),
    "all stopped": Fault(stop_everything, 0),
}
"""What happens at a moment, and the exit code of a sweep that does not complete because of it."""


def drawn(kind: str, seed: int) -> Moment:
    """Draw the moment of a kind."""
    return Moment.drawn(kind, seed, kinds=list(KINDS), places=IN_SWEEP)


def run(moment: Moment, folder: Path) -> Outcome:
    """Launch a sweep in processes, strike at a moment, resume, and return what happened and all faults."""
    return struck(moment, folder, KINDS[moment.kind], setting=SETTING, suite="processes")


def workers_of(sweep: Launched) -> list[int]:
    """Return the workers: the children of the driver's child."""
    return [pid for server in children_of(sweep, sweep.driver.pid) for pid in children_of(sweep, server)]


def children_of(sweep: Launched, parent: int) -> list[int]:
    """Return the processes of a sweep with this parent."""
    return [pid for pid in sweep.processes() if parent_of(pid) == parent]


def parent_of(pid: int) -> int | None:
    """Return the parent of a process; None if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None
