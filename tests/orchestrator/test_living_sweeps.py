"""A real sweep in worker processes that is changed while it runs, and after it ended, through the command line."""

import time

import pytest
from commands import RAVEL, ravel, running
from sweep_evidence import Evidence, events_of
from sweep_invariants import violations

from orchestrator.analysis.result import SweepResult
from orchestrator.state.events import AttemptStarted, EpochReported, OrderAccepted, TrialEnded, TrialReopened
from orchestrator.state.sweep_folder import SweepFolder

pytestmark = pytest.mark.timeout(600)
PROCESSES = ("--address", "processes")
SPEC = """
name: living
trial: {data.name: digits, model.name: mlp, epochs: 10, optimizer.name: sgd, optimizer.schedule: constant}
space: {use: [snnl, mixup]}
search: {num_trials: 4, seed: 1, sampler: tpe}
scheduler: {grace_period: 1, reduction_factor: 3, kind: stopping}
resources: {max_concurrent: 1}
"""
HELD = """
def before_epoch(loop):  # until the orders were answered
    while loop.epoch and not pathlib.Path(__file__).with_name("answered").exists():
        time.sleep(0.05)
"""


def folder_of(root):
    return SweepFolder(next(root.glob("results/living-*/plan.json")).parent)


def wait_for(root, driver, condition, timeout_s=300):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        assert driver.poll() is None, (root / "output.txt").read_text()
        if any(root.glob("results/living-*/events.jsonl")) and condition(events_of(folder_of(root))):
            return
        time.sleep(0.05)
    raise AssertionError((root / "output.txt").read_text())


def assert_invariants(root, before=()):
    assert violations(Evidence.read(folder_of(root), root / "mlflow.db", before=tuple(before))) == {}


@pytest.fixture(scope="module")
def changed(tmp_path_factory, plant):
    """A sweep whose first trial is stopped and whose plan is extended while it runs."""
    root = tmp_path_factory.mktemp("living")
    (root / "spec.yaml").write_text(SPEC)
    environment = plant(root, HELD)
    command = [RAVEL, "launch", "spec.yaml", *PROCESSES]
    with running(command, output=root / "output.txt", cwd=root, env=environment) as driver:
        wait_for(root, driver, lambda events: any(isinstance(event, EpochReported) for event in events))
        answers = [
            ravel("stop", "living", "t000", "--wait", "120", cwd=root),
            ravel(
                "extend", "living", "--trials", "+2", "--set", "resources.max_concurrent=2", "--wait", "120", cwd=root
            ),
        ]
        (root / "answered").touch()
        assert driver.wait(timeout=400) == 0, (root / "output.txt").read_text()
    return root, answers


def test_a_stopped_trial_frees_its_slot_and_the_sweep_completes(changed):
    root, answers = changed
    assert [answer.partition(": ")[2].splitlines() for answer in answers] == [
        ["accepted", "  stops t000"],
        ["accepted", "  search.num_trials: 4 to 6", "  resources.max_concurrent: 1 to 2"],
    ]
    events = events_of(folder_of(root))
    state = SweepResult.read(folder_of(root)).state
    trial = state.trials["t000"]
    assert (trial.status, trial.end.reason) == ("stopped", f"ordered by {trial_author(events)}")
    assert trial.epoch < 10
    assert len(state.trials) == 6
    assert state.ended.status == "completed"
    ended = next(i for i, event in enumerate(events) if isinstance(event, TrialEnded) and event.trial == "t000")
    accepted = next(i for i, event in enumerate(events) if isinstance(event, OrderAccepted))
    assert ended == accepted + 1 or ended < len(events) / 2
    assert any(isinstance(event, AttemptStarted) for event in events[ended:])
    assert_invariants(root)


def trial_author(events):
    return next(event.author for event in events if isinstance(event, OrderAccepted))


def test_a_finished_sweep_gets_more_trials_and_epochs_and_replays(changed):
    root, _ = changed
    before = events_of(folder_of(root))
    ravel("extend", "living", "--trials", "+1", "--epochs", "12", "--now", cwd=root)
    reopened = [event.trial for event in events_of(folder_of(root)) if isinstance(event, TrialReopened)]
    ravel("resume", "living", *PROCESSES, cwd=root)
    state = SweepResult.read(folder_of(root)).state
    assert len(state.trials) == 7
    assert reopened
    assert {state.trials[name].status for name in reopened} <= {"completed", "stopped"}
    assert {trial.epoch for trial in state.with_status("completed")} == {12}
    assert "every decision came out as recorded" in ravel("replay", "living", cwd=root)
    assert_invariants(root, before)
    shown = ravel("status", "living", cwd=root)
    assert "7/7 trials over" in shown
    assert "1 stopped by order" in shown


def test_mlflow_shows_orders_and_why_a_trial_stopped(changed):
    from mlflow import MlflowClient

    root, _ = changed
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    (experiment,) = (each.experiment_id for each in client.search_experiments() if each.name == "living")
    runs = client.search_runs([experiment])
    summary = next(run for run in runs if run.data.tags["ravel.kind"] == "sweep")
    assert summary.data.tags["ravel.order.1"].endswith("stops t000")
    assert "search.num_trials: 4 to 6" in summary.data.tags["ravel.order.2"]
    stopped = next(run for run in runs if run.data.tags.get("ravel.trial", "").endswith("/t000"))
    assert stopped.data.tags["ravel.reason"].startswith("ordered by")


def test_a_fork_begins_with_the_best_points_of_its_parent(changed):
    root, _ = changed
    ravel(
        "fork", "living", "--name", "younger", "--best", "1", *PROCESSES,
        "--set", "search.num_trials=2", "--set", "trial.epochs=1", cwd=root,
    )  # fmt: skip
    plan = next(root.glob("results/younger-*/plan.json"))
    result = SweepResult.read(SweepFolder(plan.parent))
    parent = SweepResult.read(SweepFolder(next(root.glob("results/living-*/plan.json")).parent))
    best = next(trial for trial in parent.state.ranked(parent.plan.spec.objective) if trial.origin != "baseline")
    assert result.plan.format == 4
    assert (result.plan.parent.sweep, result.plan.parent.trials) == (parent.plan.sweep, (best.id,))
    point = result.state.trials["t001"].point
    assert result.state.trials["t001"].origin == "point"
    assert point == {name: value for name, value in best.point.items() if name in result.plan.spec.space.names}
