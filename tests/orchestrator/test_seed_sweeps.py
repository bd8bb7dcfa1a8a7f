"""A real sweep in worker processes with two seeds for each configuration: killed, resumed, replayed, and read."""

import json
import time

import pytest
from commands import RAVEL, ravel, running
from sweep_evidence import Evidence, events_of
from sweep_invariants import violations

from orchestrator.analysis.result import SweepResult
from orchestrator.planning.seeds import configuration_of, seed_index_of
from orchestrator.state.events import RungDecided
from orchestrator.state.sweep_folder import SweepFolder

pytestmark = pytest.mark.timeout(400)
PROCESSES = ("--address", "processes")
SPEC = """
name: seeded
trial: {data.name: digits, model.name: mlp, epochs: 9, optimizer.name: sgd}
space: {use: [mixup], parameters: {optimizer.lr: {float: [0.001, 1.0], log: true}}}
search: {num_trials: 4, seeds: 2, seed: 1}
scheduler: {grace_period: 1, reduction_factor: 3}
resources: {max_concurrent: 1}
"""


def folder_of(root):
    return SweepFolder(next(root.glob("results/seeded-*/plan.json")).parent)


def seed_waits(root):
    if not any(root.glob("results/seeded-*/events.jsonl")):
        return False
    return any(isinstance(event, RungDecided) and event.outcome == "waits" for event in events_of(folder_of(root)))


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A sweep whose driver was killed when a first seed waited for its second one, and that was resumed."""
    root = tmp_path_factory.mktemp("seeded")
    (root / "spec.yaml").write_text(SPEC)
    with running([RAVEL, "launch", "spec.yaml", *PROCESSES], output=root / "output.txt", cwd=root) as driver:
        deadline = time.monotonic() + 240
        while not seed_waits(root):
            assert driver.poll() is None, (root / "output.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    before = events_of(folder_of(root))
    ravel("resume", "seeded", *PROCESSES, cwd=root)
    return root, before


def test_a_killed_sweep_with_seeds_is_resumed_and_replays(killed):
    root, before = killed
    result = SweepResult.read(folder_of(root))
    assert result.state.ended.status == "completed"
    assert len({configuration_of(name) for name in result.state.trials}) == 4
    assert [trial.status for name, trial in result.state.trials.items() if configuration_of(name) == "t000"] == [
        "completed",
        "completed",
    ]
    assert "every decision came out as recorded" in ravel("replay", "seeded", cwd=root)
    assert violations(Evidence.read(folder_of(root), root / "mlflow.db", before=tuple(before))) == {}


def test_best_and_status_group_trials_by_configuration(killed):
    root, _ = killed
    (best,) = json.loads(ravel("best", "seeded", "--json", cwd=root))
    state = SweepResult.read(folder_of(root)).state
    seeds = [trial for name, trial in state.trials.items() if configuration_of(name) == best["trial"]]
    assert best["score"] == pytest.approx(sum(trial.epochs[9]["val/accuracy"] for trial in seeds) / 2)
    assert best["seeds"] == {"0": seeds[0].epochs[9]["val/accuracy"], "1": seeds[1].epochs[9]["val/accuracy"]}
    assert "4/4 configurations over" in ravel("status", "seeded", cwd=root)


def test_mlflow_runs_are_tagged_with_configuration_and_seed(killed):
    from mlflow import MlflowClient

    root, _ = killed
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = [run.data.tags for run in client.search_runs(experiments) if run.data.tags.get("ravel.kind") == "trial"]
    found = {(tags["ravel.trial"], tags["ravel.configuration"], tags["ravel.seed_index"]) for tags in runs}
    sweep, names = folder_of(root).sweep, SweepResult.read(folder_of(root)).state.trials
    assert found == {
        (f"{sweep}/{name}", f"{sweep}/{configuration_of(name)}", str(seed_index_of(name))) for name in names
    }
