"""Lines of a sweep that waits for a cluster whose workers are all in use."""

import io
import threading
import time

import pytest
import ray
from rich.console import Console

from orchestrator.cli.shared import cluster_wait
from orchestrator.cli.shared.cluster_wait import ClusterWait, waiting_line
from orchestrator.cli.shared.live_display import LiveDisplay, PlainDisplay
from orchestrator.execution import ray_cluster
from orchestrator.execution.cluster.capacity import Capacity, Node
from orchestrator.execution.tune.cluster import ClusterView
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.spec.model import Resources
from orchestrator.state.event_log import EventLog
from orchestrator.state.event_store import EventStore
from orchestrator.state.events import AttemptStarted, SweepStarted, TrialCreated, TrialEnded, TrialPromoted
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState

TWO_NODES = Capacity((Node(cpus=4, gpus=1), Node(cpus=4, gpus=1)))
FULL, EMPTY = Capacity((Node(cpus=0, gpus=0),) * 2), TWO_NODES
LINE = "waiting for 2 CPUs and 1 GPU: 8 of 8 CPUs and 2 of 2 GPUs of the cluster are in use"


def created(name):
    return TrialCreated(time=0.0, trial=name, origin="search", point={}, config={"epochs": 9})


def begun(name, attempt=1):
    return AttemptStarted(time=0.0, trial=name, attempt=attempt)


def line(*events, free=FULL, resources=None, capacity=TWO_NODES, held=0):
    resources = resources or Resources(cpus=2)
    gpus = TWO_NODES.gpus_per_trial(resources)
    return waiting_line(SweepState(events), resources, ClusterView(capacity, free, held), gpus=gpus)


def test_a_trial_without_a_worker_in_a_full_cluster_waits_for_what_it_takes():
    assert line(created("a")) == LINE
    assert line(created("a"), free=Capacity((Node(cpus=4, gpus=0),) * 2)).endswith(
        "0 of 8 CPUs and 2 of 2 GPUs of the cluster are in use"
    )
    two_halves = Capacity((Node(cpus=1, gpus=1), Node(cpus=1, gpus=0)))
    assert line(created("a"), free=two_halves).endswith("6 of 8 CPUs and 1 of 2 GPUs of the cluster are in use")
    assert line(created("a"), resources=Resources(gpus=0)) == "waiting for 1 CPU: 8 of 8 CPUs of the cluster are in use"


def test_a_sweep_with_all_its_workers_or_with_room_for_one_waits_for_none():
    assert line() is None
    assert line(created("a"), free=EMPTY) is None
    assert line(created("a"), begun("a")) is None
    running = [event for name in "ab" for event in (created(name), begun(name))]
    assert line(*running, created("c")) is None  # two GPUs are two workers
    assert line(*running[:2], created("c"), resources=Resources(max_concurrent=1)) is None


def test_a_promoted_trial_and_one_of_a_killed_driver_wait_too():
    paused = [created("a"), begun("a"), TrialEnded(time=0.0, trial="a", status="paused", rung=1)]
    assert line(*paused) is None
    assert line(*paused, TrialPromoted(time=0.0, trial="a", rung=1)) == LINE
    assert line(created("a"), begun("a"), SweepStarted(time=1.0, generation=2, host="h", pid=1)) == LINE


def test_a_worker_that_starts_waits_for_nothing():
    assert line(created("a"), created("b"), held=2) is None
    assert line(created("a"), created("b"), held=1) == LINE


def test_a_custom_resource_is_counted():
    licensed = Capacity((Node(cpus=4, gpus=0, custom={"license": 1.0}),))
    resources = Resources(gpus=0, custom={"license": 1})
    free = Capacity((Node(cpus=4, gpus=0),))
    assert line(created("a"), resources=resources, capacity=licensed, free=licensed) is None
    expected = "waiting for 1 CPU and 1 license: 0 of 4 CPUs and 1 of 1 license of the cluster are in use"
    assert line(created("a"), resources=resources, capacity=licensed, free=free) == expected


def test_a_cluster_that_shrank_is_named():
    assert line(created("a"), capacity=Capacity((Node(cpus=1, gpus=1),))).endswith(
        "no node of the cluster is large enough"
    )


@pytest.fixture
def waiting(tmp_path):
    """A sweep with a trial that has no worker: its plan and its store."""
    spec = parse_spec("name: digits\nresources: {cpus: 2}\nsearch: {num_trials: 4}\n")
    plan = make_plan(spec, SweepFolder(tmp_path / "digits-1"), slots=2, now=0.0, working_directory=tmp_path)
    with EventLog(tmp_path / "events.jsonl") as log:
        yield plan, EventStore(log, SweepState([created("t000")]))


def looked_at(store, said, *, every_s):
    """``look(at, free)`` looks at a second of a clock of the test's."""
    now = {}
    wait = ClusterWait(
        store,
        Resources(cpus=2),
        lambda line: said.append((now["at"], line)),
        every_s=every_s,
        cluster=lambda: ClusterView(TWO_NODES, now["free"]),
        clock=lambda: now["at"],
    )

    def look(at, free=FULL):
        now.update(at=at, free=free)
        wait.look()

    return look


def test_the_first_line_comes_after_15_seconds_the_next_after_a_minute(waiting):
    said = []
    look = looked_at(waiting[1], said, every_s=60.0)
    for at in range(0, 150, 3):
        look(float(at))
    assert said == [(15.0, LINE), (75.0, LINE), (135.0, LINE)]


def test_the_end_of_a_wait_is_said_once_and_a_new_wait_counts_from_zero(waiting):
    said = []
    look = looked_at(waiting[1], said, every_s=60.0)
    for at, free in ((0.0, FULL), (15.0, FULL), (18.0, EMPTY), (21.0, EMPTY), (24.0, FULL), (36.0, FULL), (39.0, FULL)):
        look(at, free)
    assert said == [(15.0, LINE), (18.0, None), (39.0, LINE)]


def test_a_private_ray_is_not_looked_at(waiting):
    display = PlainDisplay(Console(file=io.StringIO(), width=200))
    display.on_connect("local")
    display.on_start(*waiting, list)
    display.on_end()
    assert not [thread for thread in threading.enumerate() if thread.name == "ravel-wait"]


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_both_displays_of_a_cluster_in_use_have_the_line_until_there_is_room(waiting, monkeypatch):
    monkeypatch.setattr(cluster_wait, "FIRST_S", 0.0)
    monkeypatch.setattr(cluster_wait, "POLL_S", 0.1)
    plain, live = io.StringIO(), io.StringIO()
    with ray_cluster.connect("local") as capacity:
        cpus = capacity.nodes[0].cpus
        others = ray.util.placement_group([{"CPU": cpus}])
        ray.get(others.ready())
        expected = f"waiting for 2 CPUs: {cpus:g} of {cpus:g} CPUs of the cluster are in use"
        in_pipe = PlainDisplay(Console(file=plain, width=200))
        on_terminal = LiveDisplay(Console(file=live, force_terminal=True, width=120, color_system=None))
        for display, file in ((in_pipe, plain), (on_terminal, live)):
            display.on_connect("auto")
            display.on_start(*waiting, list)
            until(lambda file=file: expected in file.getvalue())
        ray.util.remove_placement_group(others)
        until(lambda: on_terminal._waits_for is None)
        in_pipe.on_end()
        on_terminal.on_end()
    assert plain.getvalue().splitlines()[-1] == expected


def until(is_so):
    while not is_so():  # the timeout of the test ends it
        time.sleep(0.05)
