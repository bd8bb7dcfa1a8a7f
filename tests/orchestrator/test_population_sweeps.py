"""A sweep in processes under population based training: killed where a copy begins, resumed, replayed, and read."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweep_evidence import Evidence, events_of
from sweep_invariants import violations

from orchestrator.analysis.lineage import schedule
from orchestrator.analysis.result import SweepResult
from orchestrator.state.events import TrialCreated
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState
from trainables.engine import checkpoint

pytestmark = pytest.mark.timeout(600)
PROCESSES = ("--address", "processes")
RAVEL = Path(sys.executable).with_name("ravel")
SPEC = """
name: members
trial: {data.name: digits, model.name: mlp, epochs: 6, optimizer.name: sgd}
space: {parameters: {optimizer.lr: {float: [0.001, 0.5], log: true}, mixup.alpha: {float: [0.1, 2.0]}}}
search: {num_trials: 5, seed: 1, sampler: random}
scheduler: {name: pbt, interval: 2}
storage: {keep_best: 1}
"""


def ravel(*arguments, cwd):
    done = subprocess.run([str(RAVEL), *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def folder_of(root):
    return SweepFolder(next(root.glob("results/members-*/plan.json")).parent)


def begun(events):
    """The descendants that were created, and have reported no epoch."""
    created = [event.trial for event in events if isinstance(event, TrialCreated) and event.descent]
    return [name for name in created if not SweepState(events).trials[name].epochs]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """The sweep after its driver was killed when a first copy had begun, and it was resumed; its log at the kill."""
    root = tmp_path_factory.mktemp("members")
    (root / "spec.yaml").write_text(SPEC)
    with (root / "output.txt").open("w") as output:
        driver = subprocess.Popen(
            [str(RAVEL), "launch", "spec.yaml", *PROCESSES],
            cwd=root,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline:
            assert driver.poll() is None, (root / "output.txt").read_text()
            if any(root.glob("results/members-*/events.jsonl")):
                os.killpg(driver.pid, signal.SIGSTOP)  # so that the log read is the log at the kill
                before = events_of(folder_of(root))
                if begun(before):
                    break
                os.killpg(driver.pid, signal.SIGCONT)
            time.sleep(0.02)
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    output = ravel("resume", "members", *PROCESSES, cwd=root)
    return root, before, output


def test_a_killed_population_is_resumed_and_replays(resumed):
    root, before, _ = resumed
    result = SweepResult.read(folder_of(root))
    assert result.state.ended.status == "completed"
    assert len(result.state.with_status("completed")) == 5
    assert "every decision came out as recorded" in ravel("replay", "members", cwd=root)
    assert violations(Evidence.read(folder_of(root), root / "mlflow.db", before=tuple(before))) == {}


def test_the_copy_that_had_begun_continued_its_parent(resumed):
    root, before, _ = resumed
    state = SweepResult.read(folder_of(root)).state
    for name in begun(before):
        trial = state.trials[name]
        assert min(trial.epochs) == trial.descent.epoch + 1


def test_the_model_of_a_member_has_its_last_values_and_best_shows_its_schedule(resumed):
    root, _, output = resumed
    result = SweepResult.read(folder_of(root))
    best = result.state.best(result.plan.spec.objective)
    saved = checkpoint.load(folder_of(root).path / best.checkpoints[-1].path)
    assert f'"lr":{best.point["optimizer.lr"]}' in saved.config
    if len(schedule(result.state, best.id)) > 1:
        assert "schedule, as its weights were trained:" in output
    assert f"as {best.id}: " in ravel("best", "members", cwd=root) or best.descent is None
