"""A real sweep with promotion that keeps the checkpoints of its best two trials, killed on the way and resumed."""

import json
import os
import signal
import time

import pytest
from commands import RAVEL, ravel, running
from sweep_evidence import Evidence, events_of
from sweep_invariants import violations

from orchestrator.analysis.result import SweepResult
from orchestrator.decisions.retention import best_first
from orchestrator.state.events import CheckpointSaved, CheckpointsDropped, TrialEnded, TrialPromoted
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
SPEC = """
name: lean
trial: {data.name: digits, model.name: mlp, epochs: 9, optimizer.name: sgd}
space: {use: [snnl, mixup]}
search: {num_trials: 9, seed: 1}
scheduler: {grace_period: 1, reduction_factor: 3, kind: promotion}
storage: {keep_best: 2}
"""


def folder_of(root):
    return SweepFolder(next(root.glob("results/lean-*/plan.json")).parent)


def leaves_its_worker(events):
    """Return True while a trial is to pause, and its last checkpoint is not in the log yet."""
    running = SweepState(events).with_status("running")
    return any(not decision.kept for trial in running for decision in list(trial.rungs.values())[-1:])


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """The sweep after its driver was killed and it was resumed; its log at the kill, and what the resume printed."""
    root = tmp_path_factory.mktemp("lean")
    (root / "spec.yaml").write_text(SPEC)
    with running([RAVEL, "launch", "spec.yaml"], output=root / "output.txt", cwd=root) as driver:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            assert driver.poll() is None, (root / "output.txt").read_text()
            if any(root.glob("results/lean-*/events.jsonl")):
                os.killpg(driver.pid, signal.SIGSTOP)  # so that the log read is the log at the kill
                before = events_of(folder_of(root))
                if sum(isinstance(event, TrialPromoted) for event in before) >= 2 and not leaves_its_worker(before):
                    break
                os.killpg(driver.pid, signal.SIGCONT)
            time.sleep(0.05)
    output = ravel("resume", "lean", cwd=root)
    return root, before, output


def test_the_invariants_hold_and_every_drop_replays(resumed):
    root, before, _ = resumed
    assert violations(Evidence.read(folder_of(root), root / "mlflow.db", before=tuple(before))) == {}
    replayed = ravel("replay", "lean", cwd=root)
    assert "every decision came out as recorded" in replayed
    assert " checkpoints_dropped" in replayed


def test_the_best_two_keep_their_checkpoints_and_no_other_file_of_one_is_left(resumed):
    root, _, _ = resumed
    result = SweepResult.read(folder_of(root))
    kept = [trial.id for trial in result.state.trials.values() if trial.checkpoints]
    assert sorted(kept) == sorted(best_first(result.state.trials.values(), result.plan.spec.objective)[:2])
    on_disk = {path.parent.name.partition("-")[0] for path in folder_of(root).tune.glob("*/checkpoint_*")}
    assert on_disk == set(kept)
    assert result.best().load_model() is not None


def test_trials_that_wait_keep_theirs_until_they_are_over(resumed):
    root, _, _ = resumed
    state, most_waiting = SweepState(), 0
    for event in events_of(folder_of(root)):
        if isinstance(event, TrialPromoted):
            assert state.trials[event.trial].has_final_checkpoint
        if isinstance(event, CheckpointsDropped):
            assert isinstance(state.trials[event.trial].end, TrialEnded)
            assert state.trials[event.trial].status != "paused"
        state.apply(event)
        most_waiting = max(most_waiting, len(state.with_status("paused")))
    assert most_waiting > 2


def test_the_log_has_the_size_of_each_checkpoint_and_status_their_sum(resumed):
    root, _, _ = resumed
    folder = folder_of(root)
    saved = [event for event in events_of(folder) if isinstance(event, CheckpointSaved)]
    there = [event for event in saved if (folder.path / event.path).is_dir()]
    assert there
    for event in there:
        files = [path for path in (folder.path / event.path).iterdir() if path.name == "state.pt"]
        assert event.size_bytes == sum(path.stat().st_size for path in files)
    plain = json.loads(ravel("status", "lean", "--json", cwd=root))["checkpoints"]
    assert plain["now_bytes"] == sum(event.size_bytes for event in there)
    assert "checkpoints: " in ravel("status", "lean", cwd=root)
