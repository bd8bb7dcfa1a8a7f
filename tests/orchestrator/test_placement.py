"""Where trials are placed, and what the recorder logs of those that fail; without a cluster."""

import logging
import pickle
from types import SimpleNamespace

import pytest

pytest.importorskip("ray.tune")

from ray.tune.execution.placement_groups import resource_dict_to_pg_factory
from ray.util.placement_group import validate_placement_group

from orchestrator.execution.tune import placement as tune_placement
from orchestrator.execution.tune.callback import TrialRecorder
from orchestrator.execution.tune.placement import Placement, resource_request
from orchestrator.planning.loading import parse_spec
from orchestrator.spec.model import Resources
from orchestrator.state.event_log import EventLog, read_events
from orchestrator.state.event_store import EventStore
from orchestrator.state.events import AttemptFailed, AttemptStarted, TrialCreated, TrialEnded
from orchestrator.state.sweep_state import HostHistory, SweepState
from trainables.errors import TrialFailed, WorkerUnusable

NODES = ["d473e8b657d38776efb138db38eea8928d472a280a9f3054711e88dc", "f318a4227b65ca0eb1148b518e4ab18fac608036"]


def test_a_trial_asks_for_what_it_did_before_unless_nodes_are_excluded():
    plain, excluding = (
        resource_request({}, resources=Resources(cpus=2), gpus=0.5),
        resource_request({"ravel.excluded_nodes": NODES}, resources=Resources(cpus=2), gpus=0.5),
    )
    assert plain == resource_dict_to_pg_factory({"cpu": 2, "gpu": 0.5})
    assert plain != excluding, "so that Tune gives it no cached actor of an excluded node"
    assert excluding == pickle.loads(pickle.dumps(excluding))  # noqa: S301
    validate_placement_group(**excluding._bound.arguments)
    assert excluding._bound.arguments["bundle_label_selector"] == [{"ray.io/node-id": f"!in({NODES[0]},{NODES[1]})"}]


def node(name, *, cpus=2.0, alive=True):
    return {
        "NodeID": f"id-{name}",
        "NodeManagerHostname": name,
        "NodeManagerAddress": "10.0.0.1",
        "Resources": {"CPU": cpus},
        "Alive": alive,
    }


def test_each_change_of_the_excluded_hosts_is_one_line(monkeypatch, caplog):
    nodes, now = [node("a"), node("b"), node("head", cpus=0.0), node("gone", alive=False)], [100.0]
    monkeypatch.setattr(tune_placement.ray, "nodes", lambda: nodes)
    store = SimpleNamespace(state=SweepState())
    placement = Placement(store, cpus=1, gpus=0.0, clock=lambda: now[0])
    assert placement.excluded_nodes("t009") == []
    store.state.hosts["a (10.0.0.1)"] = HostHistory(lost=[(90.0, "t000"), (91.0, "t001"), (92.0, "t002")])
    with caplog.at_level(logging.WARNING):
        assert [placement.excluded_nodes("t009") for _ in range(3)] == [["id-a"]] * 3
        nodes.pop(1)
        assert placement.excluded_nodes("t009") == [], "no other host is left"
        nodes.insert(1, node("b"))
        now[0] += 3600.0
        assert placement.excluded_nodes("t009") == []
    assert [record.getMessage().partition("; ")[::2] for record in caplog.records] == [
        ("a (10.0.0.1): 3 trials lost their workers on it within an hour", tune_placement.EXCLUDED),
        ("a (10.0.0.1): 3 trials lost their workers on it within an hour", tune_placement.LAST),
        ("a (10.0.0.1): gets trials of this sweep again", ""),
    ]


class Raised(Exception):
    """What Ray's error of a task has: the actor's exception as its cause."""

    def __init__(self, cause):
        super().__init__(cause)
        self.cause = cause


@pytest.mark.parametrize(
    ("error", "failures", "event"),
    [
        (TrialFailed("ValueError: boom", "T"), "{}", ("trial_ended", "user", "ValueError: boom")),
        (TrialFailed("ValueError: boom", "T"), "{user: 1}", ("attempt_failed", "user", "ValueError: boom")),
        (WorkerUnusable("no device", "T"), "{}", ("attempt_failed", "infrastructure", "no device")),
        (
            WorkerUnusable("no device", "T"),
            "{infrastructure: 0}",
            (
                "trial_ended",
                "infrastructure",
                "lost its worker 1 times (failures.infrastructure: 0), last: no device",
            ),
        ),
    ],
    ids=["own", "own retried", "device", "device for good"],
)
def test_the_log_has_whose_fault_a_failed_attempt_is_and_its_host(tmp_path, error, failures, event):
    spec = parse_spec(f"name: a\ntrial: {{epochs: 3}}\nspace: {{use: [mixup]}}\nfailures: {failures}\n")
    (tmp_path / "error.pkl").write_bytes(pickle.dumps(Raised(error)))
    trial = SimpleNamespace(
        config={"ravel.trial": "t000"}, error_file=None, pickled_error_file=str(tmp_path / "error.pkl")
    )
    freed = []
    store = EventStore(EventLog(tmp_path / "events.jsonl"), SweepState())
    store.append(TrialCreated(time=1.0, trial="t000", origin="search", point={}, config={"epochs": 3}))
    searcher = SimpleNamespace(over=lambda name, retry=False: freed.append((name, retry)))
    decisions = SimpleNamespace(plan=SimpleNamespace(spec=spec))
    recorder = TrialRecorder(
        decisions, store, searcher, storage_path="/s", host_of=lambda _: "gpu-1", clock=lambda: 2.0
    )
    recorder.on_trial_start(0, [], trial)
    recorder.on_trial_error(0, [], trial)
    store.close()
    *_, started, last = [event for event, _ in read_events(tmp_path / "events.jsonl")]
    assert isinstance(started, AttemptStarted)
    assert started.host == "gpu-1"
    assert isinstance(last, AttemptFailed | TrialEnded)
    assert (last.kind, last.cause, last.reason) == event
    assert last.traceback == "T"
    assert freed == [("t000", event[0] == "attempt_failed")]
