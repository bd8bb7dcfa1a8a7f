"""Sweeps on a real Ray cluster of two nodes with a token, of which the second does not see the folder of the launch."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.execution.private_ray.bytecode import bytecode_variables
from orchestrator.execution.private_ray.folder import cache_folder
from orchestrator.state.event_log import read_events
from orchestrator.state.events import AttemptStarted, TrialEnded
from orchestrator.state.sweep_lookup import find_sweep

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
    environment: dict[str, str]
    hidden: Path
    folder: Path

    @contextmanager
    def node(self, ip, *words, prefix=(), **variables):
        """Run a node of the cluster."""
        command = [*prefix, str(BIN / "ray"), "start", "--block", *words, f"--node-ip-address={ip}"]
        command += ["--object-store-memory=80000000", f"--temp-dir={self.folder / ip}"]
        environment = {**os.environ, **self.environment, **bytecode_variables(cache_folder()), "RAY_AUTH_MODE": "token"}
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
        cluster = Cluster(f"{HEAD}:{port}", environment, hidden, Path(short))
        stack.enter_context(cluster.node(HEAD, "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false"))
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
    assert sorted(re.sub(r"==\S+", "==VERSION", line) for line in lines) == [
        f"HOST (127.0.0.3): {fails}; install what it imports on every node",
        f"HOST (127.0.0.4): {fails}; install what it imports on every node",
        f"HOST (127.0.0.4): ravel-sweeps is not installed for {sys.executable}; install ravel-sweeps==VERSION there",
    ]
    assert not (tmp_path / "results").exists() or not list((tmp_path / "results").iterdir())
