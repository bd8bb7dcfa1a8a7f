"""Real servers on loopback for the tests of this folder."""

import logging
import os
import runpy
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from orchestrator.storage.s3 import Bucket, Location

HERE = Path(__file__).parent
SwiftServer = runpy.run_path(str(HERE / "swift_server.py"))["SwiftServer"]
FaultyProxy = runpy.run_path(str(HERE / "faulty_proxy.py"))["FaultyProxy"]
POSTGRES = runpy.run_path(str(HERE / "postgres_cluster.py"))


@dataclass(frozen=True)
class S3:
    """A server, its keys, and a bucket in it; `location` is a place of this test alone."""

    name: str
    endpoint: str
    access: str
    secret: str
    location: Location

    @property
    def bucket(self):
        return self.location.bucket

    def client(self):
        """Plain boto3, as a second opinion."""
        import boto3

        keys = {"aws_access_key_id": self.access, "aws_secret_access_key": self.secret}
        return boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", **keys)


@pytest.fixture(scope="session")
def moto_server():
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {"endpoint": f"http://{host}:{port}", "access": "moto-access-key", "secret": secrets.token_hex()}
    server.stop()


@pytest.fixture(scope="session")
def swift_server(unused_port):
    if not sys.platform.startswith("linux") or not Path(sys.executable).with_name("swift-proxy-server").exists():
        pytest.skip("OpenStack Swift runs on Linux, from the development group")
    try:
        server = SwiftServer([unused_port() for _ in range(4)], secrets.token_hex())
    except RuntimeError as error:
        pytest.skip(f"Swift runs on file systems with extended attributes alone: {error}")
    yield server.settings
    server.remove()


@pytest.fixture(scope="module", params=["moto", "swift"])
def s3_server(request):
    """Each server in promotion, with a bucket for one file of tests."""
    server = S3(request.param, **request.getfixturevalue(f"{request.param}_server"), location=Location("ravel-tests"))
    bucket = f"ravel-{secrets.token_hex(4)}"
    client = server.client()
    client.create_bucket(Bucket=bucket)
    client.close()
    return S3(server.name, server.endpoint, server.access, server.secret, Location(bucket))


@pytest.fixture
def aws(monkeypatch, tmp_path):
    """An environment that holds credentials for S3, and nothing else about it; no profile of this machine is read."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name == "MLFLOW_S3_ENDPOINT_URL"]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "absent"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "access-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-key")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


@pytest.fixture
def s3(s3_server, aws):
    """The server, as this process's environment names it, with a place of the test's own."""
    aws.setenv("AWS_ACCESS_KEY_ID", s3_server.access)
    aws.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret)
    aws.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    location = s3_server.location / f"test-{secrets.token_hex(4)}"
    return S3(s3_server.name, s3_server.endpoint, s3_server.access, s3_server.secret, location)


@pytest.fixture
def bucket(s3):
    """Ours, at the test's own place."""
    return Bucket(s3.location)


@pytest.fixture
def proxy(s3, aws):
    """A faulty proxy before the server; the environment names it as the endpoint."""
    with FaultyProxy(s3.endpoint) as proxy:
        aws.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


@dataclass(frozen=True)
class Team:
    """A running `ravel serve`: where it is, what it printed, and the processes of its group."""

    address: str
    folder: Path
    output: Path
    group: int

    @property
    def password(self):
        return (self.folder / "admin-password").read_text()

    @property
    def environment(self):
        """Variables for its clients, as the server printed them."""
        names = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": self.password}
        return {"MLFLOW_TRACKING_URI": self.address, **names}

    def processes(self):
        return POSTGRES["process_group"](self.group)


@pytest.fixture(scope="module")
def postgres(unused_port):
    """A throw-away cluster; tests may stop and start it."""
    if shutil.which("initdb") is None or shutil.which("postgres") is None:
        pytest.skip("PostgreSQL (initdb and postgres) is not installed here")
    cluster = POSTGRES["PostgresCluster"](unused_port())
    yield cluster
    cluster.remove()


@pytest.fixture(scope="module")
def team_server(postgres, unused_port, tmp_path_factory):
    """`ravel serve` on Postgres, with its artifacts in a folder, as a team would start it."""
    root = tmp_path_factory.mktemp("team")
    port = unused_port()
    arguments = ["--port", str(port), "--allowed-hosts", "127.0.0.1,ml.example", "--artifacts", "files"]
    server = Team(f"http://127.0.0.1:{port}", root / "ravel-server", root / "output.txt", 0)
    with started_ravel(["serve", *arguments], root, server.output, store=postgres.uri) as process:
        wait_until_healthy(server.address, process, server.output)
        yield replace(server, group=process.pid)


@contextmanager
def started_ravel(arguments, folder, output, *, store=None):
    """`ravel` in a process group of its own, which is gone afterwards."""
    names = ("MLFLOW_", "PG", "REQUESTS_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    ravel = [str(Path(sys.executable).with_name("ravel")), *arguments]
    with output.open("w") as out:
        process = subprocess.Popen(
            ravel,
            cwd=folder,
            stdout=out,
            stderr=out,
            env=environment | ({"MLFLOW_BACKEND_STORE_URI": store} if store else {}),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            left = POSTGRES["process_group"](process.pid)
            if left:
                os.killpg(process.pid, signal.SIGKILL)
    assert not left


def wait_until_healthy(address, process, output):
    for _ in range(300):
        assert process.poll() is None, output.read_text()
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):  # noqa: S310 - our own, http
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(output.read_text())


@pytest.fixture
def ravel_started():
    """`ravel_started(arguments, folder, output, store=...)`: a running `ravel`, gone after the `with`."""
    return started_ravel


@pytest.fixture
def until_healthy():
    return wait_until_healthy
