"""Sweeps on a real Ray cluster of two nodes with a token, of which the second does not see the folder of the launch."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
import ray
from ray.core.generated.gcs_service_pb2 import InternalKVGetReply

from orchestrator.errors import PreflightError
from orchestrator.execution.cluster import gcs
from orchestrator.execution.cluster.authentication import token_here
from orchestrator.execution.private_ray.bytecode import bytecode_variables
from orchestrator.state.event_log import read_events
from orchestrator.state.events import AttemptStarted, SweepEnded, TrialEnded
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.storage.locations import cache_folder

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
BIN = Path(sys.executable).parent
HEAD, WORKER, BROKEN = "127.0.0.2", "127.0.0.3", "127.0.0.4"
TRAINING = """
def train(lr: float, epochs: int):
    from losses.square import loss

    for epoch in range(epochs):
        yield {"loss": loss(lr) + 1 / (epoch + 1)}
"""
LOSS = """
from pathlib import Path

BEST = float(Path(__file__).with_name("best.txt").read_text())

def loss(lr):
    return (lr - BEST) ** 2
"""
SPEC = """
name: mine
trial: {{task: "training_of_mine:train", epochs: 2}}
space: {{parameters: {{lr: {{float: [0.001, 1.0], log: true}}}}}}
objective: loss min
search: {{num_trials: 2}}
scheduler: {{name: none}}
storage: {{uri: "{storage}"}}
"""


@dataclass(frozen=True)
class Cluster:
    """Ray of two nodes: trials run on the second, which sees an empty folder in place of ``hidden``."""

    address: str
    dashboard: str
    environment: dict[str, str]
    hidden: Path
    folder: Path

    @contextmanager
    def node(self, ip, *words, prefix=(), **variables):
        """Run a node of the cluster."""
        command = [*prefix, str(BIN / "ray"), "start", "--block", *words, f"--node-ip-address={ip}"]
        command += ["--object-store-memory=80000000", f"--temp-dir={self.folder / ip}"]
        command += [f"--dashboard-agent-listen-port={free_port()}"]  # the default is one for the machine
        environment = {**os.environ, **self.environment, **bytecode_variables(cache_folder()), "RAY_AUTH_MODE": "token"}
        environment["PATH"] = f"{BIN}:{environment['PATH']}"  # a job runs `ravel`
        output = self.folder / f"{ip}.txt"
        with output.open("w") as file:
            process = subprocess.Popen(command, env={**environment, **variables}, stdout=file, stderr=file, cwd="/")
            try:
                wait_for("Ray runtime started", output, process)
                yield process
            finally:
                process.terminate()
                process.wait(60)


def can_hide_folders():
    return (
        shutil.which("unshare")
        and not subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if not can_hide_folders():
        pytest.skip("this machine does not permit mount namespaces (unshare -m)")
    hidden, home, port = tmp_path_factory.mktemp("launched"), tmp_path_factory.mktemp("home"), free_port()
    environment = {"HOME": str(home), "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    hide = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(hidden)]
    with (
        tempfile.TemporaryDirectory(prefix="rvl", dir="/tmp", ignore_cleanup_errors=True) as short,
        ExitStack() as stack,
    ):
        dashboard = f"{HEAD}:{free_port()}"
        cluster = Cluster(f"{HEAD}:{port}", f"http://{dashboard}", environment, hidden, Path(short))
        words = ["--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=true", f"--dashboard-host={HEAD}"]
        stack.enter_context(cluster.node(HEAD, *words, f"--dashboard-port={dashboard.rpartition(':')[2]}"))
        stack.enter_context(cluster.node(WORKER, f"--address={cluster.address}", "--num-cpus=2", prefix=hide))
        yield cluster


def free_port():
    with socket.create_server((HEAD, 0)) as probe:
        return probe.getsockname()[1]


def wait_for(text, path, process, timeout_s=180):
    deadline = time.monotonic() + timeout_s
    while text not in path.read_text():
        assert process.poll() is None, path.read_text()
        assert time.monotonic() < deadline, path.read_text()
        time.sleep(0.1)


@pytest.fixture
def folder(cluster, tmp_path):
    """A launch folder that the second node does not see, with a training function and a package; results are shared."""
    here = Path(tempfile.mkdtemp(dir=cluster.hidden))
    (here / "training_of_mine.py").write_text(TRAINING)
    (here / "losses").mkdir()
    (here / "losses" / "__init__.py").touch()
    (here / "losses" / "square.py").write_text(LOSS)
    (here / "losses" / "best.txt").write_text("0.1")
    (here / "sweep.yaml").write_text(SPEC.format(storage=tmp_path / "results"))
    return here


def ravel(*words, cwd, environment, **changed):
    environment = {name: value for name, value in {**os.environ, **environment, **changed}.items() if value is not None}
    return subprocess.run(
        [BIN / "ravel", *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=200
    )


def test_users_modules_reach_a_node_that_does_not_see_the_folder_of_the_launch(cluster, folder, tmp_path):
    done = ravel("launch", "sweep.yaml", "--address", cluster.address, cwd=folder, environment=cluster.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"joined Ray at {cluster.address}: 2 nodes, 2 CPUs, 0 GPUs\n" in done.stdout
    sweep = find_sweep(str(tmp_path / "results"))
    events = [event for event, _ in read_events(sweep.events)]
    assert {event.status for event in events if isinstance(event, TrialEnded)} == {"completed"}
    assert all(WORKER in event.host for event in events if isinstance(event, AttemptStarted))
    code = json.loads(sweep.plan.read_text())["provenance"]["code"]
    assert "training_of_mine.py" in code


WITHOUT_RAVEL = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        hidden = name in {"orchestrator", "search_spaces", "trainables"}
        return None if hidden else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
"""


def test_everything_that_a_node_lacks_is_said_before_the_sweep_begins(cluster, folder, tmp_path):
    (folder / "training_of_mine.py").write_text(f"import library_of_mine\n{TRAINING}")
    libraries, broken = tmp_path / "libraries", tmp_path / "broken"
    for place, name, text in ((libraries, "library_of_mine.py", ""), (broken, "sitecustomize.py", WITHOUT_RAVEL)):
        place.mkdir()
        (place / name).write_text(text)
    paths = os.environ.get("PYTHONPATH", "")
    launched = {"PYTHONPATH": f"{libraries}:{paths}"}
    with cluster.node(BROKEN, f"--address={cluster.address}", "--num-cpus=1", PYTHONPATH=f"{broken}:{paths}"):
        words = ("launch", "sweep.yaml", "--address", cluster.address)
        done = ravel(*words, cwd=folder, environment={**cluster.environment, **launched})
    assert done.returncode == 3, done.stdout
    fails = "importing training_of_mine fails (ModuleNotFoundError: No module named 'library_of_mine')"
    lines = done.stderr.replace("error: ", "").replace(socket.gethostname(), "HOST").splitlines()
    assert sorted(re.sub(r"for \S+; install \S+", "for PYTHON; install IT", line) for line in lines) == [
        f"HOST (127.0.0.3): {fails}; install what it imports on every node",
        f"HOST (127.0.0.4): {fails}; install what it imports on every node",
        "HOST (127.0.0.4): ravel-sweeps is not installed for PYTHON; install IT there",
    ]
    assert not (tmp_path / "results").exists() or not list((tmp_path / "results").iterdir())


def diagnosis(done):
    """The findings of a doctor on Ray, by name: their status and their line."""
    groups = {group["title"]: group["findings"] for group in json.loads(done.stdout)["groups"]}
    findings = {}
    for one in groups["Ray"]:
        findings.setdefault(one["name"], []).append((one["status"], f"{one['text']}; {one['fix']}"))
    return findings


def test_the_doctor_asks_every_node_what_it_has_and_what_it_sees(cluster, folder, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(WITHOUT_RAVEL)
    host, paths = socket.gethostname(), os.environ.get("PYTHONPATH", "")
    words = ("doctor", "--address", cluster.address, "--storage", str(folder), "--json")
    with cluster.node(BROKEN, f"--address={cluster.address}", "--num-cpus=1", PYTHONPATH=f"{broken}:{paths}"):
        done = ravel(*words, cwd=folder, environment=cluster.environment)
    findings = diagnosis(done)
    assert done.returncode == 3, done.stderr
    assert findings["gcs"][0][0] == findings["capacity"][0][0] == findings["dashboard"][0][0] == "ok", findings
    head, hidden, without = (f"node {host} ({ip})" for ip in (HEAD, WORKER, BROKEN))
    assert [status for status, _ in findings[hidden]] == ["ok"], findings
    assert ray.__version__ in findings[hidden][0][1]
    assert "ravel-sweeps is not installed" in str(findings[without])
    assert findings[f"{head} storage"][0][0] == "ok"
    assert findings[f"{hidden} storage"][0][0] == "fail"
    assert "mount that folder on every node" in findings[f"{hidden} storage"][0][1]
    assert {findings[f"{name} clock"][0][0] for name in (head, hidden, without)} == {"ok"}
    assert not list(folder.glob(".ravel-doctor-*"))


def test_the_doctor_asks_a_dashboard_for_its_nodes(cluster, folder):
    words = ("doctor", "--address", cluster.dashboard, "--json")
    findings = diagnosis(ravel(*words, cwd=folder, environment=cluster.environment))
    assert findings["dashboard"][0][0] == "ok", findings
    assert f"node {socket.gethostname()}" in findings
    refused = diagnosis(ravel(*words, cwd=folder, environment={**cluster.environment, "RAY_AUTH_TOKEN": "f" * 64}))
    assert refused["ray"][0][0] == "fail"
    assert "refuses the token of RAY_AUTH_TOKEN" in refused["ray"][0][1]
    assert "f" * 64 not in str(refused)


def test_a_dry_run_looks_at_the_cluster_of_ray_address_and_names_it(cluster, folder):
    variables = cluster.environment | {"RAY_ADDRESS": cluster.address}
    done = ravel("launch", "sweep.yaml", "--dry-run", cwd=folder, environment=variables)
    assert done.returncode == 0, done.stderr
    assert f"would join Ray at {cluster.address}: 2 nodes, 2 CPUs, 0 GPUs\n" in done.stdout


SLOW = """
import pathlib, time

def train(lr: float, epochs: int):
    for epoch in range(epochs):
        if not pathlib.Path({fast!r}).exists():
            time.sleep(1)
        yield {{"loss": lr + 1 / (epoch + 1)}}
"""


def test_a_submitted_sweep_outlives_its_submitter_and_is_attached_to_stopped_and_resumed_from_elsewhere(
    cluster, folder, tmp_path
):
    fast, results, elsewhere = tmp_path / "fast", tmp_path / "results", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "training_of_mine.py").write_text(SLOW.format(fast=str(fast)))
    environment = cluster.environment | {"RAY_ADDRESS": cluster.dashboard}
    refused = ravel("launch", "sweep.yaml", cwd=folder, environment=environment)
    assert refused.returncode == 2
    assert refused.stderr.startswith(
        "storage.uri: must be s3://BUCKET/PREFIX, or a folder on a disk that every node mounts"
    )

    words = ("--set", "trial.epochs=200", "--set", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", "--shared-results")
    with started("launch", "sweep.yaml", *words, cwd=folder, environment=environment) as (submitter, output):
        wait_for("trials of at most 200 epochs", output, submitter)
        submitter.kill()
    with started("attach", "mine", cwd=elsewhere, environment=environment) as (attached, output):
        wait_for("trials of at most 200 epochs", output, attached)
        attached.send_signal(signal.SIGINT)
        assert attached.wait(30) == 130, output.read_text()
    sweep = find_sweep(str(results))
    at = f"--address {cluster.dashboard}"
    assert output.read_text().splitlines()[-3:] == [
        "detached; the sweep goes on",
        f"attach: ravel attach {sweep.sweep} {at}",
        f"stop:   ravel jobs stop {sweep.sweep} {at}",
    ]
    assert not [event for event, _ in read_events(sweep.events) if isinstance(event, SweepEnded)]
    assert_no_file_or_process_has(cluster.environment["RAY_AUTH_TOKEN"], results)

    stopped = ravel("jobs", "stop", sweep.sweep, cwd=elsewhere, environment=environment)
    assert stopped.stdout.startswith(f"{sweep.sweep}: stopped; nothing measured is lost\n"), stopped.stderr
    assert ravel("attach", sweep.sweep, cwd=elsewhere, environment=environment).returncode == 130
    events = [event for event, _ in read_events(sweep.events)]
    assert [event.status for event in events if isinstance(event, SweepEnded)] == ["interrupted"]

    fast.touch()
    resumed = ravel("resume", str(sweep.path), "--detach", "--shared-results", cwd=folder, environment=environment)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    done = ravel("attach", sweep.sweep, cwd=elsewhere, environment=environment)
    assert done.returncode == 0, done.stdout
    assert "2/2 trials over: 2 at full budget" in done.stdout
    listed = ravel("jobs", "list", cwd=elsewhere, environment=environment).stdout.split()
    assert [word for word in listed if word in {"stopped", "succeeded"}] == ["stopped", "succeeded"]


@contextmanager
def started(*words, cwd, environment):
    output = cwd / f"{words[0]}.txt"
    with output.open("w") as file:
        command = [BIN / "ravel", *words]
        process = subprocess.Popen(command, cwd=cwd, env={**os.environ, **environment}, stdout=file, stderr=file)
        try:
            yield process, output
        finally:
            process.kill()
            process.wait()


def assert_no_file_or_process_has(secret, folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if secret.encode() in path.read_bytes()]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            assert secret.encode() not in path.read_bytes(), path


@contextmanager
def http_server():
    with ThreadingHTTPServer((HEAD, 0), BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"{HEAD}:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def other_ray(version):
    """Serve the reply of a GCS of another version of Ray, which cannot be installed next to ours."""
    metadata = InternalKVGetReply(value=json.dumps({"ray_version": version}).encode()).SerializeToString()
    handler = grpc.unary_unary_rpc_method_handler(lambda *_: metadata)
    service = grpc.method_handlers_generic_handler("ray.rpc.InternalKVGcsService", {"InternalKVGet": handler})
    server = grpc.server(ThreadPoolExecutor(1), handlers=[service])
    port = server.add_insecure_port(f"{HEAD}:0")
    server.start()
    yield f"{HEAD}:{port}"
    server.stop(None).wait()


def refusal(address):
    begun = time.monotonic()
    with pytest.raises(PreflightError) as raised:
        gcs.probe(gcs.resolved(address))
    assert time.monotonic() - begun < 60, "Ray itself tries for minutes"
    return re.sub(r"Ray \(.*\);", "Ray (REASON);", str(raised.value).replace(address, "ADDRESS"))


@pytest.fixture
def no_token(monkeypatch, tmp_path):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def test_why_a_cluster_cannot_be_joined_is_said_at_once(cluster, no_token, tmp_path):
    said = {"no host": refusal("no-such-host.invalid:6379"), "closed port": refusal(f"{HEAD}:{free_port()}")}
    with http_server() as address:
        said["HTTP server"] = refusal(address)
    with socket.create_server((HEAD, 0)) as silent:  # the kernel accepts, and no process answers
        said["silent server"] = refusal(f"{HEAD}:{silent.getsockname()[1]}")
    with other_ray("2.59.1") as address:
        said["cluster without tokens"] = refusal(address)
        no_token.setenv("RAY_AUTH_MODE", "disabled")
        said["another version"] = refusal(address).replace(ray.__version__, "OURS")
    said["tokens are off here"] = refusal(cluster.address)
    no_token.delenv("RAY_AUTH_MODE")
    said["no token"] = refusal(cluster.address)
    no_token.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    said["no file"] = refusal(cluster.address).replace(str(tmp_path), "HERE")
    (tmp_path / "token").write_text("f" * 64)
    said["wrong token in a file"] = refusal(cluster.address).replace(str(tmp_path), "HERE")
    no_token.setenv("RAY_AUTH_TOKEN", "f" * 64)
    said["wrong token"] = refusal(cluster.address)
    golden = Path(__file__).parent / "assets" / "refused_clusters.json"
    assert said == json.loads(golden.read_text())
    assert "f" * 64 not in str(said)


@pytest.mark.parametrize("source", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "HOME"])
def test_a_token_is_read_from_where_ray_reads_it(source, cluster, no_token, tmp_path):
    token = cluster.environment["RAY_AUTH_TOKEN"]
    (tmp_path / ".ray").mkdir()
    for path in (tmp_path / "token", tmp_path / ".ray" / "auth_token"):
        path.write_text(f"{token if source == 'HOME' or path.name == 'token' else 'f' * 64}\n")
    values = {"RAY_AUTH_TOKEN": token, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"), "HOME": str(tmp_path)}
    no_token.setenv(source, values[source])
    assert gcs.probe(cluster.address).node_ip == HEAD
    assert token not in repr(token_here())
