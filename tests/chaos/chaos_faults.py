"""Faults of machines, servers, links, disks and clocks under a sweep on a cluster, and two orders at once."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from chaos_cluster import HEAD, WORKERS
from chaos_draws import ALWAYS, FOLDER, POSTGRES, S3, SERVER, SQLITE, Choices, Draw
from survival import INTERRUPTED, KILLED, RAY_LOST, Blow, Fault

from orchestrator.state.events import AttemptFailed, OrderAccepted, OrderRefused, SweepEnded

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from chaos_runs import World
    from launched import Launched

WORKER = "ray::SweepTrainable"
WORKER_S, ANSWER_S = 240.0, 240.0
DISK_MB = 32
ORDERS = {
    "extend and extend": (("extend", "{name}", "--trials", "+1"), ("extend", "{name}", "--trials", "+2")),
    "extend and stop a trial": (("extend", "{name}", "--trials", "+1"), ("stop", "{name}", "{trial}")),
    "extend and stop": (("extend", "{name}", "--trials", "+1"), ("stop", "{name}")),
    "stop and stop": (("stop", "{name}"), ("stop", "{name}")),
}
STEPS = {"an hour ahead": 3600, "an hour back": -3600}
CHOICES = {
    "worker killed": Choices(),
    "raylet killed": Choices(),
    "raylet stopped": Choices(lasts_s=(1.0, 20.0)),
    "head killed": Choices(variants=("GCS", "GCS and raylet")),
    "driver killed": Choices(places=ALWAYS),
    "MLflow server killed": Choices(places=ALWAYS, trackings=(SERVER,), lasts_s=(1.0, 15.0)),
    "PostgreSQL killed": Choices(places=ALWAYS, trackings=(POSTGRES, SERVER), lasts_s=(0.5, 15.0)),
    "S3 killed": Choices(places=ALWAYS, storages=(S3,), lasts_s=(1.0, 20.0)),
    "disk full": Choices(
        storages=(FOLDER,), trackings=(SQLITE,), lasts_s=(1.0, 15.0), variants=("log", "log and database")
    ),
    "two orders": Choices(places=ALWAYS, variants=tuple(ORDERS)),
    "link cut": Choices(storages=(FOLDER,), trackings=(SQLITE,), lasts_s=(2.0, 30.0)),
    "clock step": Choices(lasts_s=(2.0, 20.0), variants=tuple(STEPS)),
}


def fault_of(draw: Draw, world: World) -> Fault:
    """Return what happens in a run."""
    return MAKERS[draw.moment.kind](draw, world)


def has_lost(sweep: Launched, num_before: int) -> bool:
    """Return True once the log has the loss of an attempt."""
    return any(isinstance(event, AttemptFailed) for event in sweep.events[num_before:])


def has_ended(sweep: Launched, num_before: int) -> bool:
    """Return True once the log has the end of the sweep."""
    return any(isinstance(event, SweepEnded) for event in sweep.events[num_before:])


def has_answered(sweep: Launched, num_before: int) -> bool:
    """Return True once the log has two answers."""
    return sum(isinstance(event, OrderAccepted | OrderRefused) for event in sweep.events[num_before:]) == 2


def says(text: str) -> Callable[[Launched, int], bool]:
    """Return a condition: the driver has printed a text."""
    return lambda sweep, _: text in sweep.output


def worker_killed(draw: Draw, world: World) -> Fault:
    """Kill a worker, on the drawn node if one is there."""

    def strike(_: Launched, __: object) -> None:
        order = sorted(WORKERS, key=lambda last: last != draw.victim)
        deadline = time.monotonic() + WORKER_S
        while not (found := [each for last in order for each in world.cluster.nodes.processes(last, WORKER)]):
            assert time.monotonic() < deadline, "no worker came up"
            time.sleep(0.1)
        found[0].kill()

    return Fault(strike, 0, has_lost)


def raylet_killed(draw: Draw, world: World) -> Fault:
    """Kill the raylet of a node that is not the head; the other node is enough for a next driver."""

    def strike(_: Launched, __: object) -> None:
        world.cluster.nodes.raylet(draw.victim).kill()

    return Fault(strike, 0, has_lost)


def raylet_stopped(draw: Draw, world: World) -> Fault:
    """Stop the raylet of a node for a while."""

    def strike(_: Launched, __: object) -> Blow:
        raylet = world.cluster.nodes.raylet(draw.victim)
        raylet.suspend()
        return Blow(raylet.resume, draw.lasts_s, ready=world.cluster.repair)

    return Fault(strike, 0, has_lost)


def link_cut(draw: Draw, world: World) -> Fault:
    """Cut the link of a node for a while."""

    def strike(_: Launched, __: object) -> Blow:
        world.cluster.cut(draw.victim)
        return Blow(lambda: world.cluster.join(draw.victim), draw.lasts_s, ready=world.cluster.repair)

    return Fault(strike, 0, has_lost)


def head_killed(draw: Draw, world: World) -> Fault:
    """Kill the GCS, or the whole head; the sweep is resumed on another cluster."""

    def strike(_: Launched, __: object) -> Blow:
        if draw.variant == "GCS":
            for process in world.cluster.nodes.processes(HEAD, "gcs_server"):
                process.kill()
        else:
            world.cluster.nodes.kill(HEAD)
        return Blow(ready=world.cluster.repair)

    return Fault(strike, RAY_LOST, has_ended)


def driver_killed(_: Draw, __: World) -> Fault:
    """Kill the driver."""
    return Fault(lambda sweep, _: sweep.driver.kill(), KILLED)


def mlflow_killed(draw: Draw, world: World) -> Fault:
    """Kill MLflow's server, and start it again after a while."""

    def strike(_: Launched, __: object) -> Blow:
        server = world.servers.mlflow
        server.kill()
        return Blow(server.start, draw.lasts_s, ready=server.wait)

    return Fault(strike, 0, says("MLflow lags"))


def postgres_killed(draw: Draw, world: World) -> Fault:
    """Kill PostgreSQL, and start it again after a while."""

    def strike(_: Launched, __: object) -> Blow:
        server = world.servers.postgres
        server.kill()
        return Blow(server.start, draw.lasts_s)

    return Fault(strike, 0, says("MLflow lags"))


def s3_killed(draw: Draw, world: World) -> Fault:
    """Kill S3, and start it again after a while."""

    def strike(_: Launched, __: object) -> Blow:
        server = world.servers.s3
        server.kill()
        return Blow(server.start, draw.lasts_s)

    return Fault(strike, 0, says("S3 lags"))


def disk_full(draw: Draw, _: World) -> Fault:
    """Fill the disk of the sweep, and free it after a while."""

    def strike(sweep: Launched, _: object) -> Blow:
        filler = sweep.folder / "results" / "filler"
        fill(filler)
        return Blow(filler.unlink, draw.lasts_s)

    return Fault(strike, 0, says("No space left on device"))


def fill(filler: Path) -> None:
    """Leave not a byte of a disk."""
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert shutil.disk_usage(filler.parent).free == 0


def two_orders(draw: Draw, _: World) -> Fault:
    """Give two orders at once."""

    def strike(sweep: Launched, _: object) -> Blow:
        trial = next(reversed([event.trial for event in sweep.events if getattr(event, "trial", None)]), "t000")
        commands = [
            sweep.start(*(part.format(name=sweep.name, trial=trial) for part in order))
            for order in ORDERS[draw.variant]
        ]
        return Blow(ready=lambda: _require_answers(commands))

    stops = ("stop", "{name}") in ORDERS[draw.variant]
    return Fault(strike, INTERRUPTED if stops else 0, has_answered)


def clock_step(draw: Draw, world: World) -> Fault:
    """Step the clock of the driver's machine, and set it right after a while."""

    def strike(_: Launched, __: object) -> Blow:
        world.clock.step(STEPS[draw.variant])
        return Blow(lambda: world.clock.step(0), draw.lasts_s)

    return Fault(strike, 0)


def _require_answers(commands: list[subprocess.Popen[str]]) -> None:
    """Wait for the commands; each was accepted, refused, written for the next driver, or not answered in time."""
    for command in commands:
        text = command.communicate(timeout=ANSWER_S)[0]
        assert "Traceback" not in text, text
        assert command.returncode in {0, 1, 2, 3}, text


MAKERS: dict[str, Callable[[Draw, World], Fault]] = {
    "worker killed": worker_killed,
    "raylet killed": raylet_killed,
    "raylet stopped": raylet_stopped,
    "head killed": head_killed,
    "driver killed": driver_killed,
    "MLflow server killed": mlflow_killed,
    "PostgreSQL killed": postgres_killed,
    "S3 killed": s3_killed,
    "disk full": disk_full,
    "two orders": two_orders,
    "link cut": link_cut,
    "clock step": clock_step,
}
