"""A cluster of machines with networks of their own, used from outside by `infra/netns/three_nodes.py`; what is left."""

import json
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from sweep_evidence import Evidence
from sweep_invariants import violations

from orchestrator.state.sweep_lookup import list_sweeps

NETNS = Path(__file__).parents[2] / "infra" / "netns"
machines = SimpleNamespace(**runpy.run_path(str(NETNS / "machines.py")))
PROBLEM = machines.missing_tools()
pytestmark = pytest.mark.skipif(PROBLEM is not None, reason=f"no machines can be made here: {PROBLEM}")
SERVE = """
import json, os, socket
server = socket.create_server(("0.0.0.0", 7000))
print("listening", flush=True)
while True:
    connection = server.accept()[0]
    seen = {"host": socket.gethostname(), "tmp": os.listdir("/tmp"), "shared": os.listdir("/mnt/shared")}
    connection.sendall(json.dumps(seen).encode())
    connection.close()
"""
ASK = """
import socket
with socket.create_connection(("server", 7000), 20) as connection:
    print(connection.recv(10_000).decode())
"""
ENVIRONMENT = {"PATH": os.environ["PATH"]}


@pytest.fixture
def network(tmp_path):
    with machines.Network(tmp_path, "server", "client") as network:
        yield network


def python(machine, code, output):
    return machine.start(sys.executable, "-c", code, output=output, environment=ENVIRONMENT)


def test_machines_reach_one_another_by_name_and_share_one_disk_and_nothing_else(network, tmp_path):
    before = socket.if_nameindex()
    server, client = network.machine("server"), network.machine("client")
    (tmp_path / "shared" / "data").touch()
    serving = python(server, SERVE, tmp_path / "server.txt")
    while "listening" not in serving.text:
        assert serving.code is None, serving.text
    asking = python(client, ASK, tmp_path / "client.txt")
    assert asking.wait(30) == 0, asking.text
    assert json.loads(asking.text) == {"host": "server", "tmp": [], "shared": ["data"]}
    assert socket.if_nameindex() == before, "this host has no new interface"


def test_a_machine_without_power_has_no_process_and_answers_nothing(network, tmp_path):
    server, client = network.machine("server"), network.machine("client")
    serving = python(server, SERVE, tmp_path / "server.txt")
    while "listening" not in serving.text:
        assert serving.code is None, serving.text
    server.power_off()
    assert serving.wait(30) != 0
    asking = python(client, ASK.replace("20", "1"), tmp_path / "client.txt")
    assert asking.wait(30) == 1
    assert "timed out" in asking.text or "No route to host" in asking.text


@pytest.mark.ray
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.environ.get("RAVEL_KILLS") != "all", reason="takes five minutes: make kills")
def test_a_cluster_is_used_from_outside_through_the_loss_of_a_laptop_and_of_a_node(tmp_path, monkeypatch):
    done = subprocess.run(
        [sys.executable, NETNS / "three_nodes.py", "--keep", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.syspath_prepend(str(NETNS.parents[1] / "examples"))  # its sampler, for the replay
    sweeps = list_sweeps(tmp_path / "shared" / "results")
    assert [folder.sweep.partition("-")[0] for folder in sweeps] == ["digits", "first", "second"]
    for folder in sweeps:
        assert violations(Evidence.read(folder, tmp_path / "shared" / "mlflow.db")) == {}
