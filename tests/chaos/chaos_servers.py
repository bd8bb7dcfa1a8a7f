"""Servers of a team, which chaos kills and starts again: S3 (OpenStack Swift), PostgreSQL, MLflow on PostgreSQL."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from postgres_cluster import PostgresCluster
from swift_server import ACCESS, SwiftServer

from orchestrator.storage.s3 import Bucket, Location, Settings

if TYPE_CHECKING:
    from pathlib import Path

HEALTHY_S = 180
BUCKET = "ravel-chaos"


def unused_port() -> int:
    """Return a port of loopback where nothing listens, outside the ranges of Ray's workers and of connections."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class MlflowServer:
    """MLflow's own server on a PostgreSQL, in a process group of its own."""

    def __init__(self, folder: Path, database: str) -> None:
        port = unused_port()
        self.address, self._folder = f"http://127.0.0.1:{port}", folder
        self._command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
        self._command += ["--artifacts-destination", str(folder / "artifacts")]
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
            "MLFLOW_BACKEND_STORE_URI": database.replace("postgresql://", "postgresql+psycopg://"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        self.start()
        self.wait()

    def start(self) -> None:
        """Start it, without a wait."""
        with (self._folder / "mlflow-server.txt").open("a") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + HEALTHY_S
        while True:
            with suppress(OSError), urllib.request.urlopen(f"{self.address}/health", timeout=5):  # noqa: S310  http
                return
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError((self._folder / "mlflow-server.txt").read_text()[-2000:])
            time.sleep(0.3)

    def kill(self) -> None:
        """Kill all its processes at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Servers:
    """Servers in a folder, each started when it is first needed; all are gone after ``close``."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._environment = folder, dict(os.environ)
        self._s3_ports, self._s3_secret = [unused_port() for _ in range(4)], secrets.token_hex()

    @cached_property
    def s3(self) -> SwiftServer:
        """OpenStack Swift, with a bucket."""
        server = SwiftServer(self._s3_ports, self._s3_secret)
        os.environ.update(self.keys())
        self.storage(server)._client.create_bucket(Bucket=BUCKET)
        return server

    def storage(self, server: SwiftServer | None = None) -> Bucket:
        """Return a bucket of S3."""
        server = server or self.s3
        return Bucket(Location(BUCKET), Settings(endpoint=server.settings["endpoint"], region="us-east-1"))

    def keys(self) -> dict[str, str]:
        """Return the environment of a client of S3, which need not run yet."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": self._s3_secret,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._s3_ports[-1]}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @cached_property
    def postgres(self) -> PostgresCluster:
        """PostgreSQL, empty."""
        return PostgresCluster(unused_port())

    @cached_property
    def mlflow(self) -> MlflowServer:
        """MLflow on that PostgreSQL."""
        return MlflowServer(self._folder, self.postgres.uri)

    def close(self) -> None:
        """Stop those that were started."""
        started = vars(self)
        if "mlflow" in started:
            self.mlflow.kill()
        if "postgres" in started:
            self.postgres.remove()
        if "s3" in started:
            self.s3.remove()
            for name in self.keys():
                os.environ.pop(name, None)
                os.environ.update({name: self._environment[name]} if name in self._environment else {})


def missing() -> str | None:
    """Return why the servers cannot be started here; None if they can."""
    if not sys.platform.startswith("linux"):
        return "the suite reads /proc"
    absent = [name for name in ("initdb", "postgres", "mount", "ip") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else None
