"""`ravel up slurm` on a real Slurm of two nodes: the job is interrupted, queued once more, and its sweep continues."""

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster, missing
from sweep_evidence import Evidence
from sweep_invariants import violations

from orchestrator.cli.up import Kind, Settings, write
from orchestrator.state.event_log import read_events
from orchestrator.state.sweep_lookup import list_sweeps

BIN = Path(sys.executable).parent
PATIENT_S = 420.0
WORDS = ("ravel launch", "ravel resume")
SPEC = """
name: digits
trial: {{data.name: digits, model.name: mlp, epochs: 9, batch_size: 32}}
space:
  parameters:
    optimizer.lr: {{float: [0.01, 0.3], log: true}}
search: {{num_trials: 16, sampler: random}}
resources: {{cpus: 1, gpus: 0}}
tracking: {{uri: "sqlite:///{folder}/mlflow.db"}}
"""
pytestmark = pytest.mark.skipif(missing() is not None, reason=f"no Slurm can be started here: {missing()}")
# Commands of the names that the script calls: they write down how they were called, and wait for a signal.
STANDING_IN = """#!/bin/bash
echo "$(basename "$0") $*" >> "$CALLS"
case "$(basename "$0") $1" in
    "ray start") exec sleep 1000 ;;
    "ravel launch" | "ravel resume")
        trap 'exit 130' TERM
        [ -z "${CODE:-}" ] || exit "$CODE"
        sleep 1000 & wait ;;
esac
"""


def free_ports(count):
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # whatever else runs here
    folder = tmp_path / "slurm"
    folder.mkdir()
    cluster = SlurmCluster(folder, free_ports(3), cpus=1)
    yield cluster
    cluster.remove()


def wait_until(holds, seen):
    deadline = time.monotonic() + PATIENT_S
    while not (result := holds()):
        assert time.monotonic() < deadline, seen()
        time.sleep(0.5)
    return result


@pytest.fixture
def job(slurm, tmp_path):
    """`job(**environment)` queues the script with commands that stand in for Ray and Ravel: its number, its calls."""
    commands = tmp_path / "commands"
    commands.mkdir()
    for name in ("ray", "ravel"):
        (commands / name).write_text(STANDING_IN)
        (commands / name).chmod(0o755)
    spec = tmp_path / "sweep.yaml"
    spec.write_text(SPEC.format(folder=tmp_path))
    size = {"nodes": 2, "gpus": 0, "cpus": 1, "storage": str(tmp_path), "image": "none", "region": "none"}
    write(Settings(Kind.SLURM, name="digits", spec=spec, **size), tmp_path / "job")
    calls = tmp_path / "calls.txt"

    def queue(**environment):
        plain = {"CALLS": str(calls), "PATH": f"{commands}:{os.environ['PATH']}"}
        slurm.environment |= plain | environment
        return slurm.run("sbatch", "--parsable", "sweep.sbatch", cwd=tmp_path / "job").strip(), calls

    return queue


def driver_calls(calls):
    lines = calls.read_text().splitlines() if calls.exists() else []
    return [line.split()[1] for line in lines if line.startswith(WORDS)]


def ray_starts(calls):
    starts = [line for line in calls.read_text().splitlines() if line.startswith("ray start")]
    return ["head" if "--head" in line else "worker" for line in starts]


@pytest.mark.timeout(600)
def test_usr1_stops_the_driver_and_queues_the_job_and_the_next_driver_resumes(slurm, job):
    number, calls = job()
    wait_until(lambda: driver_calls(calls) == ["launch"], lambda: slurm.state(number))
    slurm.run("scancel", "--signal=USR1", "--batch", number)
    wait_until(lambda: slurm.state(number)["Restarts"] == "1", lambda: slurm.state(number))
    wait_until(
        lambda: driver_calls(calls) == ["launch", "resume"], lambda: f"{slurm.state(number)}\n{calls.read_text()}"
    )
    launched, resumed = (line.split() for line in calls.read_text().splitlines() if line[:12] in WORDS)
    assert launched[launched.index("--id") + 1] == resumed[2]
    # The nodes write at any time, the last one of them after the driver.
    wait_until(lambda: sorted(ray_starts(calls)) == ["head", "head", "worker", "worker"], calls.read_text)


@pytest.mark.timeout(600)
def test_a_job_that_another_one_preempts_comes_back_and_resumes(slurm, job):
    number, calls = job()
    wait_until(lambda: driver_calls(calls) == ["launch"], lambda: slurm.state(number))
    command = ["sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--output=/dev/null", "--wrap", "sleep 1"]
    urgent = slurm.run(*command).strip()
    wait_until(lambda: slurm.state(number)["Restarts"] == "1", lambda: slurm.state(number))
    wait_until(lambda: slurm.state(urgent)["JobState"] == "COMPLETED", lambda: slurm.state(urgent))
    wait_until(
        lambda: driver_calls(calls) == ["launch", "resume"], lambda: f"{slurm.state(number)}\n{calls.read_text()}"
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("code", "state"), [("0", "COMPLETED"), ("1", "FAILED"), ("2", "FAILED")])
def test_a_driver_that_ends_by_itself_ends_the_job_with_its_code(code, state, slurm, job):
    number, calls = job(CODE=code)
    wait_until(lambda: slurm.state(number)["JobState"] in {"COMPLETED", "FAILED"}, lambda: slurm.state(number))
    fields = slurm.state(number)
    assert (fields["JobState"], fields["ExitCode"], fields["Restarts"]) == (state, f"{code}:0", "0")
    assert driver_calls(calls) == ["launch"]


@pytest.mark.ray
@pytest.mark.timeout(1200)
@pytest.mark.skipif(os.environ.get("RAVEL_KILLS") != "all", reason="takes two minutes: make kills")
def test_a_job_whose_time_is_over_is_queued_once_more_and_continues_its_sweep(slurm, tmp_path):
    (tmp_path / "sweep.yaml").write_text(SPEC.format(folder=tmp_path))
    job_folder, results = tmp_path / "job", tmp_path / "results"
    arguments = ["--out", str(job_folder), "--storage", str(results), "--cpus", "1", "--nodes", "2"]
    subprocess.run(
        [BIN / "ravel", "up", "slurm", str(tmp_path / "sweep.yaml"), *arguments], check=True, env=slurm.environment
    )
    job = slurm.run("sbatch", "--parsable", "sweep.sbatch", cwd=job_folder).strip()
    log = job_folder / f"ravel-{job}.log"

    def seen():
        return f"{slurm.state(job)}\n{log.read_text() if log.exists() else 'no output yet'}"

    def kinds():
        sweeps = list_sweeps(results) if results.exists() else []
        return [event.kind for folder in sweeps if folder.events.exists() for event, _ in read_events(folder.events)]

    wait_until(lambda: kinds().count("epoch_reported") >= 6, seen)
    slurm.run("scancel", "--signal=USR1", "--batch", job)  # as `--signal` of the script has Slurm do
    wait_until(lambda: slurm.state(job)["Restarts"] == "1", seen)
    assert "queued once more" in log.read_text()
    before = kinds().count("epoch_reported")
    assert before < 16 * 9

    wait_until(lambda: slurm.state(job)["JobState"] in {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"}, seen)
    assert slurm.state(job)["JobState"] == "COMPLETED", seen()
    (sweep,) = list_sweeps(results)
    assert kinds().count("sweep_started") == 2, "one sweep, which was resumed"
    assert violations(Evidence.read(sweep, tmp_path / "mlflow.db")) == {}
    assert "2 running" in log.read_text(), "each node has one core, so both trained"
