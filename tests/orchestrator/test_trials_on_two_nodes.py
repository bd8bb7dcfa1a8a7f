"""A sweep whose trials each span two nodes: its driver is killed, resumed, and compared with an undisturbed one."""

import os
import re
import runpy
import signal
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from waiting import until

from orchestrator.state.event_log import read_events
from orchestrator.state.events import AttemptStarted, EpochReported
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.state.sweep_state import SweepState

pytest.importorskip("ray")

ray_nodes = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("ray_nodes.py"))))
pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.environ.get("RAVEL_KILLS") != "all", reason="takes minutes: make kills"),
]
ADDRESSES = ("127.0.0.2", "127.0.0.3")
# Its workers run a copy of this file: they note their rank, and where it runs.
NETWORK = """
import pathlib, time
import torch.distributed as dist
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(128, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.head = nn.Linear(16, num_classes)

    def forward(self, x):
        if self.training and dist.is_initialized():
            import ray
            place = f"rank {dist.get_rank()} of {dist.get_world_size()} on {ray.util.get_node_ip_address()}"
            (pathlib.Path("PLACES") / place).touch()
            time.sleep(0.1)
        return self.head(self.hidden(self.conv(x)))
"""
SPEC = """
name: pair
trial: {model.name: "nets:Net", model.sync_batch_norm: true, epochs: 4, batch_size: 128, precision: float32}
space:
  parameters:
    optimizer.lr: {float: [0.01, 0.1], log: true}
    snnl.weight: {symlog: [-0.1, 0.1], gap: 0.01}
    mixup.alpha: {float: [0.1, 2.0]}
    mixup.layers: {choice: [input, conv]}
search: {num_trials: 4, sampler: random, seed: 3}
scheduler: {kind: stopping, grace_period: 1, reduction_factor: 2}
resources: {cpus: 1, workers: 2, strategy: spread}
"""


class Sweep:
    """A sweep in a folder of its own, with the real command line."""

    def __init__(self, folder, nodes):
        self._folder, self._nodes, self._output = folder, nodes, folder / "output.txt"
        self._places = folder / "places"
        self._places.mkdir(parents=True)
        (folder / "nets.py").write_text(NETWORK.replace("PLACES", str(self._places)))
        (folder / "spec.yaml").write_text(SPEC)

    def start(self, *command):
        """Return the process of a command of ravel."""
        with self._output.open("a") as output:
            return subprocess.Popen(
                [str(ray_nodes.BIN / "ravel"), *command],
                cwd=self._folder,
                env=self._nodes.environment,
                stdout=output,
                stderr=output,
            )

    def run(self, *command):
        """Run a command to its end; return all output so far."""
        process = self.start(*command)
        try:
            assert process.wait(500) == 0, self.said()
        finally:
            process.kill()
        return self.said()

    def said(self):
        return self._output.read_text()

    @property
    def events(self):
        if not list(self._folder.glob("results/*/events.jsonl")):
            return []
        return [event for event, _ in read_events(find_sweep(self._folder / "results").events)]

    @property
    def places(self):
        """Addresses at which each rank has trained, and the numbers of workers."""
        found = [re.fullmatch(r"rank (\d) of (\d) on (.*)", mark.name).groups() for mark in self._places.iterdir()]
        return {address for _, _, address in found}, {rank for rank, _, _ in found}, {size for _, size, _ in found}


@pytest.fixture(scope="module")
def sweeps():
    """An undisturbed sweep, and one whose driver was killed in its third trial and resumed, on the same two nodes."""
    with (
        tempfile.TemporaryDirectory(prefix="rvl", dir="/tmp") as folder,
        ray_nodes.nodes(Path(folder)) as nodes,
    ):
        for last in (2, 3):
            nodes.start(last, cpus=1)
        undisturbed, killed = (Sweep(Path(folder, name), nodes) for name in ("undisturbed", "killed"))
        undisturbed.run("launch", "spec.yaml", "--address", nodes.address)
        driver = killed.start("launch", "spec.yaml", "--address", nodes.address)
        try:
            until(
                lambda: has_saved_its_third_trial(killed.events) or driver.poll() is not None,
                timeout_s=300,
                said=killed.said,
            )
            assert driver.poll() is None, killed.said()
        finally:
            os.kill(driver.pid, signal.SIGKILL)
            driver.wait(60)
        before = killed.events
        killed.run("resume", "pair", "--address", nodes.address)
        killed.run("replay", "pair")
        yield undisturbed, killed, before


def has_saved_its_third_trial(events):
    """Return True between the first checkpoint of the third trial and its end."""
    third = SweepState(events).trials.get("t002")
    return third is not None and bool(third.checkpoints) and third.status == "running"


def measured(events):
    """Return all metrics of each epoch of each trial, without times."""
    return {
        (event.trial, event.epoch): {
            name: value for name, value in event.metrics.items() if not name.startswith(("time/", "cost/"))
        }
        for event in events
        if isinstance(event, EpochReported)
    }


def test_each_trial_is_trained_by_two_workers_on_two_nodes(sweeps):
    for sweep in sweeps[:2]:
        assert sweep.places == (set(ADDRESSES), {"0", "1"}, {"2"})
        hosts = [event.host for event in sweep.events if isinstance(event, AttemptStarted)]
        assert all(any(f"({address})" in (host or "") for address in ADDRESSES) for host in hosts)
        assert "joined Ray" in sweep.said()
        assert "2 nodes, 2 CPUs, 0 GPUs" in sweep.said()


def test_a_killed_and_resumed_sweep_measures_what_an_undisturbed_one_does(sweeps):
    undisturbed, killed, before = sweeps
    assert 0 < SweepState(before).trials["t002"].epoch < SweepState(killed.events).trials["t002"].epoch
    assert measured(killed.events) == measured(undisturbed.events)
    assert len(measured(killed.events)) == len([e for e in killed.events if isinstance(e, EpochReported)])
    states = [SweepState(sweep.events) for sweep in (undisturbed, killed)]
    ends = [{trial.id: (trial.status, trial.epoch) for trial in state.trials.values()} for state in states]
    assert ends[0] == ends[1]
    assert {status for status, _ in ends[0].values()} == {"completed", "stopped"}


def test_every_decision_of_the_resumed_sweep_is_replayed(sweeps):
    assert "every decision came out as recorded" in sweeps[1].said()
