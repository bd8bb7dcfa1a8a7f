"""Room in a cluster that changes: how many trials are handed out, retried and moved; without a cluster."""

import errno
import json
import logging
import math
import os
import pickle
import signal
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("ray.tune")

from ray import tune
from ray.air.execution.resources.request import ResourceRequest
from ray.exceptions import ActorDiedError, RayActorError
from ray.tune.execution import tune_controller
from ray.tune.search import Searcher

from orchestrator.cli.run import _workers_here
from orchestrator.decisions.retries import PAUSES_S
from orchestrator.decisions.trial_views import DecisionState
from orchestrator.errors import PreflightError, SpecError
from orchestrator.execution import preflight
from orchestrator.execution.cluster.capacity import Capacity, Node, countable
from orchestrator.execution.trainable import SweepTrainable
from orchestrator.execution.tune import actors
from orchestrator.execution.tune.actors import named_reservations, released_from
from orchestrator.execution.tune.callback import TrialRecorder
from orchestrator.execution.tune.cluster import ClusterView, ClusterWatch, trials_at_most
from orchestrator.execution.tune.placement import TrialNodes, resource_request
from orchestrator.execution.tune.scheduler import LogScheduler
from orchestrator.execution.tune.searcher import LogSearcher
from orchestrator.execution.tune.worker_errors import worker_error
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.spec.model import Resources, SweepSpec
from orchestrator.state.event_log import EventLog, read_events
from orchestrator.state.event_store import EventStore
from orchestrator.state.events import SweepStarted, TrialEnded
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState
from trainables.trial_training import TrialTraining
from trainables.tune import TrialTrainable

ONE = Resources(cpus=1)
SPEC = """
name: a
trial: {epochs: 3}
space: {use: [mixup]}
search: {num_trials: 9, sampler: random}
scheduler: {name: none}
"""


def cpus(*counts):
    return Capacity(tuple(Node(cpus=count, gpus=0) for count in counts))


# Room


@given(
    total=st.lists(st.integers(0, 8), max_size=4),
    used=st.lists(st.integers(0, 8), min_size=4, max_size=4),
    held=st.integers(0, 30),
    most=st.none() | st.integers(1, 20),
)
def test_no_trial_is_proposed_more_than_one_ahead_of_the_free_slots(total, used, held, most):
    free = [max(0, count - taken) for count, taken in zip(total, used, strict=False)]
    view = ClusterView(cpus(*total), cpus(*free), held)
    limit = trials_at_most(view, Resources(cpus=1, max_concurrent=most), 0.0)
    assert limit - held <= sum(free) + 1
    assert limit <= (most or math.inf)
    if held + sum(free) <= sum(total):
        assert limit == min(most or math.inf, held + sum(free) + 1), "and none is left without a trial"


def test_where_waiting_trials_make_the_cluster_grow_their_number_doubles():
    growing = Capacity((Node(cpus=2, gpus=0),), growth={"CPU": 64.0})
    waits = [trials_at_most(ClusterView(growing, cpus(), held), ONE, 0.0) - held for held in (0, 1, 2, 4, 32)]
    assert waits == [1, 1, 2, 4, 32]


def test_a_cluster_that_grows_to_a_trial_is_not_refused_and_one_that_does_not_is():
    growing = Capacity((Node(cpus=2, gpus=0),), growth={"CPU": 64.0, "GPU": 8.0})
    assert growing.gpus_per_trial(Resources()) == 1.0
    assert growing.slots(Resources(), 1.0) == 1
    with pytest.raises(PreflightError, match="one trial takes 65 CPUs"):
        growing.slots(Resources(cpus=65), 0.0)


def test_each_change_of_the_room_is_one_line_and_none_is_a_size(caplog):
    views = [
        ClusterView(cpus(2), cpus(2), hosts=frozenset({"one"})),
        ClusterView(cpus(2), cpus(0), held=2, hosts=frozenset({"one"})),
        ClusterView(cpus(2, 4), cpus(0, 4), held=2, hosts=frozenset({"one", "two"})),
        ClusterView(cpus(4), cpus(4), draining=frozenset("a"), hosts=frozenset({"two"})),
        ClusterView(cpus(4), cpus(4), hosts=frozenset({"two"})),
        ClusterView(cpus(0.5), cpus(0.5), hosts=frozenset({"three"})),
    ]
    looks = iter(views)
    watch = ClusterWatch(lambda: ONE, 0.0, lambda: next(looks))
    limits = [watch.limit]
    with caplog.at_level(logging.WARNING):
        for _ in views[1:]:
            watch.look()
            limits.append(watch.limit)
    assert limits == [3, 3, 7, 5, 5, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "cluster: 2 nodes, 6 slots (was 2); joined: two",
        "cluster: 1 node, 1 more is drained, 4 slots (was 6); left: one",
        "cluster: 1 node, 4 slots",
        "cluster: 1 node, 0 slots (was 4); joined: three; left: two",
    ]
    assert watch.drained == {"a"}, "also when it has left the cluster"


def test_a_cluster_that_does_not_answer_keeps_the_last_room():
    looks = iter([ClusterView(cpus(2), cpus(2)), RuntimeError("GCS away"), ClusterView(cpus(3), cpus(3))])

    def look():
        if isinstance(view := next(looks), Exception):
            raise view
        return view

    watch = ClusterWatch(lambda: ONE, 0.0, look)
    answers = iter([False, False, True])
    watch._ended = SimpleNamespace(wait=lambda _: next(answers))
    watch._keep_looking()
    assert watch.limit == 4


# Resources


@pytest.mark.parametrize("share", [1, 1 / 2, 1 / 3, 1 / 6, 1 / 7, 0.3333, 0.1666, 0.01])
def test_as_many_trials_fit_on_a_gpu_as_its_share_says(share):
    fits = Capacity((Node(cpus=200, gpus=1),)).fits(ONE, share)
    assert fits == int(1 / share + 1e-9)
    assert fits * countable(share) <= 1


@pytest.mark.parametrize(
    ("share", "remedy"),
    [
        ("0.333333", "for 3 trials on a GPU write 0.3333"),
        (
            "0.1667",
            "must be 0.1666 for 6 trials on a GPU: 6 trials of 0.1667 take 1.0002 of a GPU, so only 5 would fit",
        ),
        ("0.3", "1/n of a GPU: 3 trials of 0.3 leave 0.1 of it unused; write 0.3333 for 3 trials on a GPU, 0.25 for 4"),
        ("0.34", "2 trials of 0.34 leave 0.32 of it unused; write 0.5 for 2 trials on a GPU, 0.3333 for 3"),
        ("0.7", "1 trial of 0.7 leaves 0.3 of it unused; write 1 for 1 trial on a GPU, 0.5 for 2"),
        ("0.00001", "must be 0, or >= 0.0001"),
    ],
)
def test_a_share_of_a_gpu_that_ray_cannot_count_is_refused_with_the_one_that_is_meant(share, remedy):
    with pytest.raises(SpecError, match=r"resources\.gpus") as raised:
        parse_spec(f"name: a\nresources: {{gpus: {share}}}")
    assert remedy in str(raised.value)


@pytest.mark.parametrize("share", ["0.5", "0.3333", "0.333", "0.33", "0.25", "0.16", "0.01", "0", "1", "auto"])
def test_every_part_of_a_gpu_is_taken_as_it_is(share):
    assert str(parse_spec(f"name: a\nresources: {{gpus: {share}}}").document()["resources"]["gpus"]) in {
        share,
        f"{share}.0",
    }


def test_a_trial_asks_for_custom_resources_and_runs_only_where_they_are():
    spec = parse_spec("name: a\nresources: {gpus: 0, custom: {'accelerator_type:A100': 0.001, license: 1}}")
    asked = resource_request({}, resources=spec.resources, gpus=1 / 3)
    assert asked.bundles == [{"CPU": 1.0, "GPU": 0.3333, "accelerator_type:A100": 0.001, "license": 1.0}]
    licensed = Node(cpus=8, gpus=0, custom={"accelerator_type:A100": 1.0, "license": 2.0})
    assert Capacity((Node(cpus=8, gpus=0), licensed)).slots(spec.resources, 0.0) == 2
    with pytest.raises(
        PreflightError, match=r"and 0.001 accelerator_type:A100 and 1 license, the nodes have 8 and 0 and 0"
    ):
        Capacity((Node(cpus=8, gpus=0),)).slots(spec.resources, 0.0)


def test_custom_resources_are_left_to_ray_before_it_is_up():
    spec = parse_spec("name: a\nresources: {gpus: 0, custom: {'accelerator_type:A100': 0.001}}")
    preflight.check_devices(spec, cpus=4, gpus=0)
    assert _workers_here(spec) >= 1


def test_a_resource_with_a_field_of_its_own_is_no_custom_one():
    with pytest.raises(SpecError, match=r"resources\.custom\.GPU: has a field of its own; use resources\.gpus"):
        parse_spec("name: a\nresources: {custom: {GPU: 1}}")


def test_a_spec_without_custom_resources_has_the_document_of_earlier_versions():
    assert set(SweepSpec(name="a").document()["resources"]) == {"cpus", "gpus", "max_concurrent"}
    custom = SweepSpec(name="a", resources=Resources(custom={"license": 1}))
    assert SweepSpec(**custom.document()) == custom


# Handing out


@pytest.fixture
def sweep(tmp_path):
    """A sweep without Ray: its plan, store, searcher, recorder and clock; ``limit`` and ``reason`` are a test's."""
    plan = make_plan(parse_spec(SPEC), SweepFolder(tmp_path / "a-1"), slots=2, now=0.0, working_directory=tmp_path)
    clock, decisions = [100.0], DecisionState(plan, SweepState())
    with EventLog(tmp_path / "events.jsonl") as log:
        store = EventStore(log, decisions.state, folds=(decisions,))
        store.append(SweepStarted(time=0.0, generation=1, host="h", pid=1))
        made = SimpleNamespace(plan=plan, store=store, clock=clock, limit=3, reason=None, waited=0)

        def wait():
            made.waited += 1

        made.searcher = LogSearcher(
            decisions,
            store,
            limit=lambda: made.limit,
            device=None,
            checkpoint_of=lambda _: None,
            clock=lambda: clock[0],
            wait=wait,
        )
        made.recorder = TrialRecorder(
            decisions,
            store,
            made.searcher,
            storage_path="/s",
            host_of=lambda _: "gpu-1 (10.0.0.1)",
            leaving=lambda _: made.reason,
            clock=lambda: clock[0],
        )
        made.scheduler = LogScheduler(decisions, store, made.recorder)
        yield made


def handed(sweep):
    config = sweep.searcher.suggest("")
    return config if isinstance(config, str | None) else config["ravel.trial"]


def trial_of(name, error=None):
    return SimpleNamespace(
        config={"ravel.trial": name}, error_file=None, pickled_error_file=error, last_result={"epoch": 1}
    )


def lost(sweep, name):
    sweep.recorder.on_trial_start(0, [], trial_of(name))
    sweep.recorder.on_trial_error(0, [], trial_of(name))


def test_trials_are_handed_out_as_far_as_the_room_reaches_at_that_moment(sweep):
    assert [handed(sweep) for _ in range(4)] == ["t000", "t001", "t002", None]
    sweep.limit = 5
    assert [handed(sweep) for _ in range(3)] == ["t003", "t004", None]
    sweep.limit = 1
    sweep.searcher.over("t000")
    assert handed(sweep) is None
    assert len(sweep.store.state.trials) == 5, "and none is proposed before"


def test_a_trial_that_lost_its_worker_again_pauses_before_its_retry_and_others_run_meanwhile(sweep, caplog):
    sweep.limit = 1
    assert handed(sweep) == "t000"
    lost(sweep, "t000")
    assert handed(sweep) == "t000", "the first retry is at once"
    with caplog.at_level(logging.WARNING):
        lost(sweep, "t000")
    assert caplog.messages == ["t000: its worker died; next attempt after 10 s"]
    assert handed(sweep) == "t001"
    sweep.searcher.over("t001")
    sweep.clock[0] += PAUSES_S[1] - 0.1
    assert handed(sweep) == "t002"
    sweep.searcher.over("t002")
    sweep.clock[0] += 0.2
    assert handed(sweep) == "t000"


def test_a_sweep_waits_for_the_retry_of_its_last_trial_and_can_be_left_meanwhile(sweep):
    sweep.limit = 9
    names = [handed(sweep) for _ in range(9)]
    for name in names[1:]:
        sweep.searcher.over(name)
    lost(sweep, "t000")
    assert handed(sweep) == "t000"
    lost(sweep, "t000")
    sweep.waited = 0
    assert [handed(sweep) for _ in range(2)] == [None, None]
    assert sweep.waited == 2, "Tune asks in a loop of its own then"
    sweep.clock[0] += PAUSES_S[1]
    assert handed(sweep) == "t000"
    sweep.searcher.over("t000")
    assert handed(sweep) == Searcher.FINISHED


def test_new_trials_wait_while_the_disk_of_the_log_is_full_and_begin_when_it_takes_the_events(sweep, monkeypatch):
    sweep.limit = 1
    assert handed(sweep) == "t000"

    def refuse(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(sweep.store._log, "_write", refuse)
        sweep.recorder.on_trial_start(0, [], trial_of("t000"))
        sweep.store.append(TrialEnded(time=1.0, trial="t000", status="completed"))
        sweep.searcher.over("t000")
        sweep.waited = 0
        assert [handed(sweep) for _ in range(2)] == [None, None], "not the end of the sweep, though no trial runs"
        assert sweep.waited == 2, "and it can be left meanwhile"
        assert sweep.store.pending == 2
    assert handed(sweep) == "t001"
    assert sweep.store.pending == 0


def test_a_retry_is_due_by_the_time_alone_while_another_trial_runs(sweep):
    sweep.limit = 9
    names = [handed(sweep) for _ in range(9)]
    for name in names[2:]:
        sweep.searcher.over(name)
    lost(sweep, "t000")
    handed(sweep)
    lost(sweep, "t000")
    assert handed(sweep) is None
    sweep.clock[0] += PAUSES_S[1]
    assert handed(sweep) == "t000", "though no event came since"


def test_the_pause_goes_on_in_the_next_driver(sweep, tmp_path):
    sweep.limit = 1
    for _ in range(2):
        handed(sweep)
        lost(sweep, "t000")
    decisions = DecisionState(sweep.plan, SweepState(event for event, _ in read_events(tmp_path / "events.jsonl")))
    store = SimpleNamespace(state=decisions.state, pending=0, append=decisions.state.apply)
    resumed = LogSearcher(
        decisions, store, limit=lambda: 1, device=None, checkpoint_of=lambda _: None, clock=lambda: sweep.clock[0]
    )
    sweep.clock[0] += PAUSES_S[1] - 1
    assert resumed.suggest("")["ravel.trial"] == "t001"
    resumed.over("t001")
    sweep.clock[0] += 1
    assert resumed.suggest("")["ravel.trial"] == "t000"


# Drained nodes


def result(epoch):
    event = json.dumps({"epoch": epoch, "metrics": {"val/accuracy": 0.5}, "data": None})
    return {"event": event, "epoch": epoch, "iterations_since_restore": 1, "val/accuracy": 0.5}


def test_a_trial_on_a_drained_node_saves_its_epoch_and_goes_on_elsewhere_without_a_failure(sweep):
    name = handed(sweep)
    trial, first, second = trial_of(name), result(1), result(2)
    sweep.recorder.on_trial_start(0, [], trial)
    assert sweep.scheduler.on_trial_result(None, trial, first) == "CONTINUE"
    sweep.recorder.on_trial_result(0, [], trial, first)
    assert not first.get("should_checkpoint")
    sweep.reason = "gpu-1 (10.0.0.1) is drained"
    assert sweep.scheduler.on_trial_result(None, trial, second) == "STOP"
    sweep.recorder.on_trial_result(0, [], trial, second)
    assert second["should_checkpoint"], "Tune saves before it stops"
    sweep.recorder.on_trial_complete(0, [], trial)
    state = sweep.store.state.trials[name]
    (failed,) = state.failures
    assert (failed.cause, failed.reason) == ("preemption", sweep.reason)
    assert (state.status, state.epoch) == ("waiting", 2)
    assert sweep.store.state.hosts == {}, "and says nothing about its host"
    assert handed(sweep) == name, "at once, before new ones"


def test_a_worker_that_gets_sigterm_ends_its_epoch_and_the_trial_goes_on_in_another(sweep, monkeypatch):
    monkeypatch.setattr(TrialTrainable, "setup", lambda *_: None)
    monkeypatch.setattr(TrialTraining, "opened", lambda _: None)
    monkeypatch.setattr(TrialTraining, "reported", lambda *_: result(1))
    worker, before = SweepTrainable.__new__(SweepTrainable), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(SweepTrainable, "trial_resources", property(lambda _: "those of a worker"))
    try:
        worker.setup({})
        undisturbed = worker.step()
        os.kill(os.getpid(), signal.SIGTERM)
        told = worker.step()
    finally:
        signal.signal(signal.SIGTERM, before)
    trial = trial_of(handed(sweep))
    sweep.recorder.on_trial_start(0, [], trial)
    assert sweep.scheduler.on_trial_result(None, trial, undisturbed) == "CONTINUE"
    assert sweep.scheduler.on_trial_result(None, trial, told) == "STOP"
    sweep.recorder.on_trial_complete(0, [], trial)
    (failed,) = sweep.store.state.trials["t000"].failures
    assert (failed.cause, failed.reason) == ("preemption", "its worker got SIGTERM")


@pytest.mark.parametrize("losses", [1, 9])
def test_a_node_that_was_announced_to_leave_may_take_a_trial_with_it_any_number_of_times(sweep, losses):
    sweep.limit, sweep.reason = 1, "gpu-1 (10.0.0.1) is drained"
    for _ in range(losses):
        assert handed(sweep) == "t000"
        lost(sweep, "t000")
    state = sweep.store.state.trials["t000"]
    assert {failure.cause for failure in state.failures} == {"preemption"}
    assert state.failures[0].reason == "gpu-1 (10.0.0.1) is drained: its worker died"


def test_the_death_of_an_actor_with_a_node_that_was_announced_is_a_preemption(tmp_path):
    for error, cause in ((RayActorError(preempted=True), "preemption"), (ActorDiedError(), "infrastructure")):
        (tmp_path / "error.pkl").write_bytes(pickle.dumps(error))
        assert worker_error(None, str(tmp_path / "error.pkl")).cause == cause


def test_a_trial_leaves_a_node_that_is_drained_and_no_other(monkeypatch):
    drained, nodes = set(), TrialNodes(lambda: drained)
    monkeypatch.setattr("ray.get", lambda node_id, **_: node_id)
    monkeypatch.setattr(
        "ray.nodes", lambda: [{"NodeID": n, "NodeManagerHostname": n, "NodeManagerAddress": "ip"} for n in "ab"]
    )
    trials = [trial_of("t000"), trial_of("t001")]
    for trial, node in zip(trials, "ab", strict=True):
        actor = SimpleNamespace(node_ids=SimpleNamespace(remote=lambda node=node: [node]))
        trial.temporary_state = SimpleNamespace(ray_actor=actor)
        assert nodes.host_of(trial) == f"{node} (ip)"
    drained.add("b")
    assert [nodes.leaving(trial) for trial in trials] == [None, "b (ip) is drained"]


def test_a_trial_leaves_if_the_node_of_any_of_its_workers_is_drained(monkeypatch):
    drained, nodes, trial = set(), TrialNodes(lambda: drained), trial_of("t000")
    monkeypatch.setattr("ray.get", lambda node_ids, **_: node_ids)
    monkeypatch.setattr(
        "ray.nodes", lambda: [{"NodeID": n, "NodeManagerHostname": n, "NodeManagerAddress": "ip"} for n in "abc"]
    )
    actor = SimpleNamespace(node_ids=SimpleNamespace(remote=lambda: ["b", "a"]))
    trial.temporary_state = SimpleNamespace(ray_actor=actor)
    assert nodes.host_of(trial) == "b (ip)", "that of rank 0"
    drained.add("c")
    assert nodes.leaving(trial) is None
    drained.add("a")
    assert nodes.leaving(trial) == "a (ip) is drained"


def test_tune_keeps_no_actor_on_a_drained_node(monkeypatch):
    """Tune's own method is wrapped: if it has another name, our part does nothing."""
    monkeypatch.setattr(tune_controller.TuneController, "_maybe_cache_trial_actor", lambda *_: True)
    with released_from(lambda trial: trial == "leaves"):
        cache = tune_controller.TuneController._maybe_cache_trial_actor
        assert [cache(None, trial) for trial in ("stays", "leaves")] == [True, False]


def test_what_a_sweep_reserves_has_its_name_and_equal_requests_stay_equal(monkeypatch):
    named = []

    def placement_group(bundles, strategy="PACK", name=""):
        named.append(name)
        return bundles, strategy

    monkeypatch.setattr(actors.request, "placement_group", placement_group)
    with named_reservations("a-1"):
        first, second = (tune.PlacementGroupFactory([{"CPU": 1.0}]) for _ in range(2))
        assert first == second
        first.to_placement_group()
        second.to_placement_group()
    assert isinstance(first, ResourceRequest)
    assert all(name.startswith("ravel/a-1/") for name in named)
    assert len(set(named)) == 2
