"""The private Ray of a sweep: it starts on a busy machine, and dies with its driver.

It outlives signals to the group of its driver: tests/kills.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from waiting import until

from orchestrator.errors import PreflightError
from orchestrator.execution import ray_cluster
from orchestrator.execution.private_ray import bytecode, process
from orchestrator.execution.private_ray import folder as folders
from orchestrator.execution.private_ray.failure import MAX_CAUSE, complaint_in

SLOW = """
name: slow
trial: {data.name: digits, model.name: cnn_bn, epochs: 27, optimizer.name: sgd}
space: {use: [snnl, mixup]}
search: {num_trials: 6}
scheduler: {grace_period: 3, reduction_factor: 3}
"""
SLOW_AGENTS = """
# Imported by every Python: Ray's agents import their modules as slowly as on a busy machine without bytecode.
import sys
import time

if any(argument.endswith(("dashboard/agent.py", "runtime_env/agent/main.py")) for argument in sys.orig_argv):
    time.sleep(35)  # Ray itself waits for 30 s
"""
CONNECTED = """
import os, signal, stat, subprocess, sys, time
from pathlib import Path

def state_of_process():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    return dict(os.environ), handlers, sys.excepthook

from orchestrator.execution.ray_cluster import connect
before = state_of_process()
with connect("local") as capacity:
    import ray
    import psutil
    assert capacity.nodes[0].cpus >= 1
    @ray.remote
    def folder_and_group():
        return os.getcwd(), os.getsid(0)
    folder, session = ray.get(folder_and_group.remote())
    assert folder == os.getcwd(), folder
    assert session != os.getsid(0)
    children = psutil.Process().children(recursive=True)
    assert len(children) >= 4
    assert all(os.getsid(child.pid) != os.getsid(0) for child in children)
    token = os.environ["RAY_AUTH_TOKEN"]
    assert len(token) == 64 and token not in repr([child.cmdline() for child in children])
    assert {child.environ()["RAY_AUTH_TOKEN"] for child in children} == {token}
    [private] = Path(sys.argv[1]).glob("ravel-ray-*")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert signal.getsignal(signal.SIGTERM) == before[1][signal.SIGTERM]
    settings = {"env_vars": {"A": "1"}}  # made by the agent for environments, as that of an actor of Tune
    assert ray.get(folder_and_group.options(runtime_env=settings).remote())[0] == folder
assert state_of_process() == before
assert not list(Path(sys.argv[1]).glob("ravel-ray-*"))
assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
"""
LISTENING = """
import http.client, sys, time, urllib.request

from orchestrator.execution.ray_cluster import connect

def listening(processes):  # addresses and ports
    found = [one for process in processes for one in process.net_connections("tcp") if one.status == "LISTEN"]
    return {(one.laddr.ip.removeprefix("::ffff:"), one.laddr.port) for one in found}

def serves_metrics(address, port):
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/metrics", timeout=20) as answer:
            return b"ray_" in answer.read()
    except (OSError, http.client.HTTPException):
        return False

with connect("local"):
    import ray
    import psutil
    processes = psutil.Process().children(recursive=True)
    agents = [process for process in processes if "dashboard/agent.py" in " ".join(process.cmdline())]
    deadline = time.monotonic() + 120
    while len(listening(agents)) < 2:  # the last ones to listen: gRPC, and HTTP last
        assert time.monotonic() < deadline
        time.sleep(0.5)
    commands = [" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True)]
    assert not [command for command in commands if command.startswith("ray::IDLE")], "no trial would use them"
    @ray.remote
    class Trial:
        def is_up(self):
            return True
    trials = [Trial.remote() for _ in range(2)]
    assert ray.get([trial.is_up.remote() for trial in trials]) == [True, True]
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    places = listening(processes)
    assert len(places) > 5, places
    assert {address for address, _ in places} == {"127.0.0.1"}, places
    assert not [place for place in places if serves_metrics(*place)]
    assert ray.util.get_node_ip_address() == "127.0.0.1"
assert ray._private.ray_constants.ENABLE_RAY_CLUSTER  # so that a cluster can be joined after it
"""
BUSY = """
import os, time
from pathlib import Path
from orchestrator.execution.ray_cluster import connect

with connect("local"):
    import ray

    runs = Path(os.environ["TMPDIR"]) / "runs"

    @ray.remote
    def wait():
        runs.touch()
        time.sleep(200)

    waiting = wait.remote()
    while not runs.exists():
        time.sleep(0.05)
    print("busy", flush=True)
    time.sleep(200)
"""
CONNECTED_BEFORE = """
import os, sys
import ray
from orchestrator import launch, load_spec
from orchestrator.errors import PreflightError

settings = {"include_dashboard": False, "log_to_driver": False, "num_cpus": 1, "object_store_memory": 10**8}
ray.init(address="local", _temp_dir=sys.argv[1], **settings)
environment = dict(os.environ)
for address in ("local", "auto", "127.0.0.1:1"):
    try:
        launch(load_spec("spec.yaml"), address=address)
    except PreflightError as error:
        assert "ray.shutdown()" in str(error), error
    else:
        raise AssertionError(address)
assert dict(os.environ) == environment
assert ray.get(ray.put(1)) == 1
assert not os.path.exists("results")
"""


def rays_of(driver):
    """Return the processes that a driver has started, the keeper first."""
    pytest.importorskip("ray")
    import psutil

    return psutil.Process(driver.pid).children(recursive=True)


def running(processes):
    import psutil

    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def run_python(code, folder, **environment):
    """Run code with a temporary folder of its own, whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="rv", dir="/tmp") as temporary:
        variables = {**os.environ, "TMPDIR": temporary, **environment}
        command = [sys.executable, "-c", code, temporary]
        return subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=200
        )


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_ray_starts_with_slow_agents_in_a_session_of_its_own_and_leaves_no_trace(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SLOW_AGENTS)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = run_python(CONNECTED, tmp_path, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_a_private_ray_listens_on_the_loopback_alone_and_serves_no_metrics(tmp_path):
    done = run_python(LISTENING, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_a_launch_leaves_the_rays_of_its_user_alone(tmp_path):
    (tmp_path / "spec.yaml").write_text(SLOW)
    done = run_python(CONNECTED_BEFORE, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_the_agents_of_a_raylet_that_died_end_with_the_keeper(monkeypatch):
    pytest.importorskip("ray")
    import psutil

    with tempfile.TemporaryDirectory(prefix="rv", dir="/tmp") as temporary:
        monkeypatch.setattr(tempfile, "tempdir", temporary)
        with process.starting(1) as private:
            private.address()
            processes = psutil.Process(private.keeper.pid).children(recursive=True)
            (raylet,) = (one for one in processes if one.name() == "raylet")
            agents = until(raylet.children)
            for agent in agents:
                agent.suspend()  # so that none ends by itself
            raylet.kill()
        assert not running([*processes, *agents])


def test_agents_get_free_ports_that_nothing_else_is_given():
    pytest.importorskip("ray")
    from orchestrator.execution.private_ray import keeper

    ports = [port for _ in range(50) for port in keeper._free_ports().values()]
    assert set(ports) <= set(keeper.PORTS)
    assert len(set(ports)) > 150
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if given.exists():
        assert max(ports) < int(given.read_text().split()[0])


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_the_keeper_ends_a_ray_whose_gcs_died(monkeypatch):
    """A driver that connects at that moment would hang in Ray for minutes; it ends with the raylet."""
    pytest.importorskip("ray")
    import psutil

    with tempfile.TemporaryDirectory(prefix="rv", dir="/tmp") as temporary:
        monkeypatch.setattr(tempfile, "tempdir", temporary)
        with process.starting(1) as private:
            private.address()
            processes = psutil.Process(private.keeper.pid).children(recursive=True)
            (gcs,) = (one for one in processes if one.name() == "gcs_server")
            gcs.kill()
            private.keeper.wait(timeout=60)
            until(lambda: not running(processes), said=lambda: running(processes))


@pytest.mark.ray
@pytest.mark.timeout(240)
@pytest.mark.parametrize("keeper_too", [False, True], ids=["driver", "driver-and-keeper"])
def test_ray_dies_with_a_killed_driver_and_its_folder_is_cleared(monkeypatch, keeper_too):
    with tempfile.TemporaryDirectory(prefix="rv", dir="/tmp") as temporary:
        monkeypatch.setenv("TMPDIR", temporary)
        monkeypatch.setattr(tempfile, "tempdir", temporary)
        with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as driver:
            assert driver.stdout.readline() == b"busy\n"
            processes = rays_of(driver)
            driver.kill()
        if keeper_too:
            processes[0].kill()
        until(lambda: not running(processes), said=lambda: running(processes))
        folders.clear_leftovers()
        assert not list(Path(temporary).glob("ravel-ray-*"))


@pytest.mark.ray
def test_a_ray_that_does_not_start_is_tried_twice_and_reported_with_its_cause_and_logs(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("RAY_RAYLET_PERFTOOLS_PROFILER", "1")  # a profiler that is not there: the raylet cannot start
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path))
    with pytest.raises(PreflightError) as raised, ray_cluster.connect("local"):
        pass
    [logs] = [folder for folder in (tmp_path / "ray-logs").iterdir() if str(folder) in str(raised.value)]
    assert "KeyError: 'PERFTOOLS_PATH'" in str(raised.value)
    assert "2 tries" in str(raised.value)
    assert "ray start --head" in str(raised.value)
    assert "one more try" in caplog.text
    assert {"gcs_server.out", "keeper.log"} <= {file.name for file in logs.iterdir()}


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        (
            "dashboard_agent.log",
            "2026-01-01 07:49:53,953\tERROR agent.py:545 -- Abnormal.\nTraceback:\nImportError: no aiohttp\n",
            "dashboard_agent.log: ImportError: no aiohttp",
        ),
        (
            "raylet.err",
            """\
[2026-01-01 07:48:18,952 E 297 297] (raylet) agent_manager.cc:87: One agent failed.
- hints
[2026-01-01 07:48:33,415 C 297 297] (raylet) node.cc:3588:  A bug. Check failed: port.has_value() Timed out waiting
*** StackTrace Information ***
""",
            "raylet.err: port.has_value() Timed out waiting",
        ),
        (
            "gcs_server.out",
            """\
[2026-01-01 07:48:18,000 E 296 296] (gcs_server) server.cc:9: no port
[2026-01-01 07:48:19,000 I 296 296] (gcs_server) io.cc:1: fine
""",
            "gcs_server.out: no port",
        ),
        ("raylet.out", "[2026-01-01 07:48:17,000 I 296 296] (raylet) io.cc:1: fine\n", "Exception: not up"),
    ],
    ids=["agent", "raylet", "gcs", "nobody-complains"],
)
def test_the_cause_of_a_failed_start_is_the_last_complaint_in_the_logs(tmp_path, file, text, complaint):
    (tmp_path / file).write_text(text)
    (tmp_path / "keeper.log").write_text("Traceback\nException: not up\n\n")
    assert complaint_in(tmp_path, tmp_path / "keeper.log") == complaint


def test_a_cause_is_short_and_may_be_absent(tmp_path):
    assert complaint_in(tmp_path, tmp_path / "keeper.log") is None
    (tmp_path / "keeper.log").write_text("x" * 1000)
    assert len(complaint_in(tmp_path, tmp_path / "keeper.log")) < MAX_CAUSE + 10


@pytest.mark.ray
def test_only_the_folders_of_dead_drivers_are_cleared_with_their_processes(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead, unowned, foreign = (tmp_path / f"ravel-ray-{name}" for name in ("dead", "unowned", "foreign"))
    for folder in (dead, unowned, foreign):
        folder.mkdir()
    for folder in (dead, foreign):
        (folder / "owner").touch()
    if os.getuid() == 0:
        os.chown(foreign, 65534, 65534)
    else:
        shutil.rmtree(foreign)
    (tmp_path / "ravel-ray-link").symlink_to(unowned)
    environment = {**os.environ, folders.FOLDER_VARIABLE: str(dead)}
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=environment)
    with folders.owned_folder() as alive:
        folders.clear_leftovers()
        assert left.wait(5) == -signal.SIGKILL
        assert not dead.exists()
        assert unowned.exists()
        assert foreign.exists() == (os.getuid() == 0)
        assert alive.exists()
        assert alive.stat().st_mode & 0o077 == 0
    assert not alive.exists()


def test_the_folder_of_a_living_driver_is_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(folders, "MAX_TEMPORARY_PATH", 1000)
    with folders.owned_folder() as folder, (folder / "owner").open("rb") as owner:
        assert folder.parent == tmp_path
        with pytest.raises(BlockingIOError):
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_logs_of_the_last_failures_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "cache"))
    kept = []
    for number in range(folders.KEPT_LOGS + 2):
        folder = tmp_path / f"ravel-ray-{number}"
        folders.logs_of(folder).mkdir(parents=True)
        (folders.logs_of(folder) / "raylet.out").write_text(str(number))
        kept.append(folders.keep_logs(folder))
    assert sorted((tmp_path / "cache" / "ray-logs").iterdir()) == kept[2:]
    assert (kept[-1] / "raylet.out").read_text() == str(number)
    assert folders.keep_logs(tmp_path / "none") is None


@pytest.fixture
def uncompiled(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "elsewhere"))  # where no module is compiled
    return tmp_path / "cache"


def test_rays_processes_keep_their_bytecode_where_the_installation_has_none(uncompiled):
    variables = bytecode.bytecode_variables(uncompiled)
    code = "import sys; print(sys.pycache_prefix, sys.dont_write_bytecode)"
    inherited = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables}
    done = subprocess.run([sys.executable, "-c", code], env=inherited, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(uncompiled / "bytecode"), "False"]
    assert (uncompiled / "bytecode").stat().st_mode & 0o077 == 0


def test_bytecode_is_left_to_a_compiled_installation_and_to_the_prefix_of_the_user(uncompiled, monkeypatch):
    import importlib.util

    agent = Path(importlib.util.find_spec("ray").origin).parent / bytecode.AGENT
    assert agent.exists()
    compiled = Path(importlib.util.cache_from_source(str(agent)))
    compiled.parent.mkdir(parents=True)
    compiled.touch()
    assert bytecode.bytecode_variables(uncompiled) == {}
    compiled.unlink()
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "/scratch")
    assert bytecode.bytecode_variables(uncompiled) == {}


def test_no_code_is_loaded_from_a_folder_that_others_can_write(uncompiled):
    (uncompiled / "bytecode").mkdir(parents=True)
    (uncompiled / "bytecode").chmod(0o777)
    assert bytecode.bytecode_variables(uncompiled) == {}
