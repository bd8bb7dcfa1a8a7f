"""Sweeps on a cluster whose nodes join, are drained, fall silent and are shared: real nodes, real drivers."""

import contextlib
import os
import runpy
import signal
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from waiting import until

from orchestrator.state.event_log import read_events
from orchestrator.state.events import AttemptFailed, AttemptStarted, CheckpointSaved, EpochReported
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.state.sweep_state import SweepState

pytest.importorskip("ray")
from ray._raylet import GcsClient
from ray.core.generated import autoscaler_pb2

ray_nodes = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("ray_nodes.py"))))
pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.environ.get("RAVEL_KILLS") != "all", reason="takes ten minutes: make kills"),
]
SETTINGS = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "120",
}
WAITS = "waiting for 4 CPUs: no node of the cluster is large enough"
SLOW = """
import pathlib, time

def train(context, x: float = 0.5):
    seen = 0 if context.restored is None else context.restored["seen"]
    context.save_with(lambda: {"seen": seen})
    for _ in range(context.epoch, context.epochs):
        if not pathlib.Path("HURRY").exists():  # its workers run a copy of this file
            time.sleep(0.5)
        seen += 1
        yield {"val/accuracy": float(seen)}
"""
SPEC = """
name: slow
trial: {task: "slow:train", epochs: 300}
space: {parameters: {x: {float: [0.0, 1.0]}}}
search: {num_trials: 4, sampler: random}
scheduler: {name: none}
"""


@pytest.fixture(scope="module")
def nodes():
    """A cluster: its head has two CPUs; each test adds nodes."""
    with (
        tempfile.TemporaryDirectory(prefix="rvl", dir="/tmp") as folder,
        ray_nodes.nodes(Path(folder), **SETTINGS) as up,
    ):
        up.start(2, cpus=2)
        yield up


class Driver:
    """A real ``ravel launch`` in a folder of its own."""

    def __init__(self, folder, nodes, *settings):
        folder.mkdir(exist_ok=True)
        (folder / "slow.py").write_text(SLOW.replace("HURRY", str(folder / "hurry")))
        (folder / "spec.yaml").write_text(SPEC)
        self._folder, self.output = folder, folder / "output.txt"
        command = [str(ray_nodes.BIN / "ravel"), "launch", "spec.yaml", "--address", nodes.address]
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                [*command, *(part for setting in settings for part in ("--set", setting))],
                cwd=folder,
                env=nodes.environment,
                stdout=file,
                stderr=file,
            )

    def events(self):
        """Return the log; empty before there is one."""
        if not list(self._folder.glob("results/*/events.jsonl")):
            return []
        return [event for event, _ in read_events(find_sweep(self._folder / "results").events)]

    def wait_for(self, is_so):
        """Wait until something is so of the log, while the driver runs."""
        until(
            lambda: is_so(self.events()) or self.process.poll() is not None, timeout_s=300, said=self.output.read_text
        )
        if not is_so(self.events()):
            raise AssertionError(self.output.read_text())

    def end(self):
        """Wait for the end of the driver, without slow epochs."""
        (self._folder / "hurry").touch()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(300)
        assert self.process.poll() == 0, self.output.read_text()
        return SweepState(self.events())


@pytest.fixture
def drive(nodes, tmp_path):
    """``drive(name, *settings)`` starts a driver, which ends with the test."""
    drivers = []

    def start(name, *settings):
        drivers.append(Driver(tmp_path / name, nodes, *settings))
        return drivers[-1]

    yield start
    for driver in drivers:
        if driver.process.poll() is None:
            os.kill(driver.process.pid, signal.SIGKILL)
        driver.process.wait(60)


def trained_on(events, last):
    """Return the trials that have reported an epoch from a node."""
    hosts = {(event.trial, event.attempt): event.host for event in events if isinstance(event, AttemptStarted)}
    reported = (event for event in events if isinstance(event, EpochReported))
    return {event.trial for event in reported if f"127.0.0.{last}" in (hosts[event.trial, event.attempt] or "")}


def require_complete(state):
    assert {trial.status for trial in state.trials.values()} == {"completed"}
    assert all(trial.last("val/accuracy") == trial.epoch == trial.budget for trial in state.trials.values())


def test_a_sweep_grows_onto_a_node_that_joins_and_leaves_it_with_its_epochs_when_it_is_drained(nodes, drive):
    driver = drive("a")
    driver.wait_for(lambda events: trained_on(events, 2))
    nodes.start(3, cpus=3)
    driver.wait_for(lambda events: trained_on(events, 3))
    moved = trained_on(driver.events(), 3)
    nodes.terminate(3)
    driver.wait_for(lambda events: moved <= {event.trial for event in events if isinstance(event, AttemptFailed)})
    state = driver.end()
    require_complete(state)
    events = driver.events()
    failed = [event for event in events if isinstance(event, AttemptFailed)]
    assert {event.cause for event in failed} == {"preemption"}
    assert all(event.reason.endswith("(127.0.0.3) is drained") for event in failed)
    assert moved <= {event.trial for event in failed}
    for event in failed:
        before = state.trials[event.trial].checkpoints
        after = next(
            e for e in events[events.index(event) :] if isinstance(e, EpochReported) and e.trial == event.trial
        )
        assert (after.since_restore, after.attempt) == (1, event.attempt + 1)
        assert after.epoch - 1 in {saved.epoch for saved in before}, "the epoch that ran was saved"
    assert not [
        event
        for event in events[events.index(failed[-1]) :]
        if isinstance(event, AttemptStarted) and "127.0.0.3" in event.host
    ]
    lines = driver.output.read_text()
    assert "cluster: 2 nodes, 5 slots (was 2)" in lines
    assert "cluster: 1 node, 1 more is drained, 2 slots (was 5)" in lines


def test_trials_of_a_node_that_falls_silent_go_on_elsewhere_from_their_checkpoints(nodes, drive):
    nodes.start(4, cpus=2)
    driver = drive("b")
    driver.wait_for(
        lambda events: any(
            isinstance(event, CheckpointSaved) and event.trial in trained_on(events, 4) for event in events
        )
    )
    raylet = nodes.raylet(4)
    raylet.suspend()
    driver.wait_for(lambda events: any(isinstance(event, AttemptFailed) for event in events))
    lost = next(event for event in driver.events() if isinstance(event, AttemptFailed))
    assert lost.cause == "infrastructure"
    require_complete(driver.end())
    raylet.resume()


def test_two_sweeps_share_a_full_cluster_and_the_end_of_one_is_room_for_the_other(drive):
    first = drive("c")
    first.wait_for(lambda events: len(trained_on(events, 2)) == 2)
    second = drive("d", "search.num_trials=3")
    second.wait_for(lambda events: len(SweepState(events).trials) > 0)
    assert len(SweepState(second.events()).trials) == 1, "one waits, no more are proposed"
    first.process.send_signal(signal.SIGINT)
    second.wait_for(lambda events: len(trained_on(events, 2)) == 2)
    require_complete(second.end())
    assert first.process.wait(60) == 130
    assert {trial.status for trial in SweepState(first.events()).trials.values()} <= {"interrupted", "waiting"}


def announce_growth(nodes, **resources):
    """Say to Ray what its autoscaler says of a cluster that may get nodes of one kind."""
    group = autoscaler_pb2.NodeGroupConfig(name="large", max_count=2, resources=resources)
    config = autoscaler_pb2.ClusterConfig(node_group_configs=[group])
    GcsClient(address=nodes.address).report_cluster_config(config.SerializeToString())


def test_a_launch_waits_for_the_node_that_the_autoscaler_is_to_add_and_no_other(nodes, drive):
    large = drive("e", "resources.cpus=4", "search.num_trials=2")
    assert large.process.wait(120) == 3
    assert "one trial takes 4 CPUs and 0 GPUs" in large.output.read_text()
    announce_growth(nodes, CPU=4)
    large = drive("f", "resources.cpus=4", "search.num_trials=2")
    until(lambda: WAITS in large.output.read_text() or large.process.poll() is not None, said=large.output.read_text)
    assert large.process.poll() is None, large.output.read_text()
    nodes.start(5, cpus=4)
    require_complete(large.end())
    assert "cluster: 2 nodes, 1 slot (was 0)" in large.output.read_text()
