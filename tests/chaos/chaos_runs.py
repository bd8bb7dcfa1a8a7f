"""One run of chaos: a sweep on a cluster, a fault at a moment, the end, a resume to the end, and the invariants."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from chaos_clock import Clock
from chaos_cluster import WORKERS, ChaosCluster
from chaos_draws import FOLDER, S3, SERVER, SQLITE, Draw
from chaos_faults import CHOICES, DISK_MB, WORKER, fault_of
from chaos_servers import Servers
from launched import SPEC, Launched, Setting
from outcomes import Outcome, append
from survival import LEAVES_S, faults_of

if TYPE_CHECKING:
    from collections.abc import Iterator


class World:
    """Servers and a cluster that several runs share, one after the other; all is gone after ``close``."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.servers = folder, Servers(folder)
        self._cluster: ChaosCluster | None = None
        self._has_networks = False
        self.clock = Clock(folder / "clock")

    @property
    def cluster(self) -> ChaosCluster:
        """Cluster of the run."""
        assert self._cluster is not None
        return self._cluster

    def prepare(self, draw: Draw) -> None:
        """Start what a run needs, and what the last one has broken."""
        needs_networks = draw.moment.kind == "link cut"
        if self._cluster is not None and self._has_networks != needs_networks:
            self._cluster.close()
            self._cluster = None
        if self._cluster is None:
            self._cluster = ChaosCluster(self.servers.keys(), networks=needs_networks)
            self._has_networks = needs_networks
        self._cluster.repair()
        self.clock.step(0)

    def setting(self, draw: Draw, folder: Path) -> Setting:
        """Return where the sweep of a run is, and its spec."""
        storage = None if draw.storage == FOLDER else self.servers.storage().child(folder.name)
        sections = {} if storage is None else {"storage": storage.uri()}
        sections |= {} if (uri := self._tracking_uri(draw)) is None else {"tracking": uri}
        database = None if draw.tracking == SQLITE else self.servers.postgres.uri
        keys = self.servers.keys() if draw.storage == S3 else {}
        password = {} if draw.tracking == SQLITE else {"PGPASSWORD": self.servers.postgres.password}
        clock = self.clock.environment if draw.moment.kind == "clock step" else {}
        return Setting(
            spec=SPEC + "".join(f"{name}: {{uri: '{uri}'}}\n" for name, uri in sections.items()),
            arguments=("--address", self.cluster.nodes.address),
            environment={**self.cluster.token, **keys, **password, **clock},
            database=Path(folder, *DATABASES.get(draw.variant, ("mlflow.db",))) if database is None else database,
            storage=storage,
            prefix=self.cluster.prefix,
        )

    def _tracking_uri(self, draw: Draw) -> str | None:
        if draw.tracking == SERVER:
            return self.servers.mlflow.address
        if draw.tracking == SQLITE:
            return f"sqlite:///{'/'.join(DATABASES[draw.variant])}" if draw.variant in DATABASES else None
        return self.servers.postgres.bare

    def workers(self) -> list[int]:
        """Return the processes of the cluster that run trials."""
        return [each.pid for last in WORKERS for each in self.cluster.nodes.processes(last, WORKER)]

    def close(self) -> None:
        """Stop everything."""
        if self._cluster is not None:
            self._cluster.close()
        self.servers.close()


DATABASES = {"log and database": ("results", "mlflow.db")}


def run(draw: Draw, world: World, folder: Path, *, results: Path | None = None) -> Outcome:
    """Run a draw in an empty folder; return what happened and all faults, and append it to the results."""
    world.prepare(draw)
    temporary = Path(tempfile.mkdtemp(prefix="rk", dir="/tmp"))
    outcome = Outcome(draw.moment, suite="chaos", about=draw.about)
    with _disk(folder / "results", is_small=draw.moment.kind == "disk full"):
        sweep = Launched(folder, temporary, world.setting(draw, folder))
        try:
            outcome.faults.extend(faults_of(sweep, draw.moment, fault_of(draw, world), outcome))
            if not sweep.wait_until(lambda: not world.workers(), LEAVES_S):
                outcome.faults.append(f"workers {world.workers()} outlive the last driver")
        finally:
            outcome.output = sweep.output
            sweep.close()
    append(outcome, results)
    return outcome


@contextmanager
def _disk(folder: Path, *, is_small: bool) -> Iterator[None]:
    """Mount a small disk for the body."""
    if not is_small:
        yield
        return
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "ravel-chaos", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a client may still hold a file


def drawn(fault: str, seed: int) -> Draw:
    """Draw the run of a seed."""
    return Draw.of(fault, seed, CHOICES)


@contextmanager
def world_in(folder: Path) -> Iterator[World]:
    """Return a world for the body."""
    world = World(folder)
    try:
        yield world
    finally:
        world.close()
        shutil.rmtree(folder, ignore_errors=True)
