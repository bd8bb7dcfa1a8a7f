"""Whole sweeps on a real local Ray, started and killed through the command line, as by a user."""

import json
import math
import os
import signal
import subprocess
from collections import Counter

import pytest
from commands import RAVEL, running
from launched import log_of, wait_for
from sweep_evidence import Evidence
from sweep_invariants import violations

from orchestrator.analysis.result import SweepResult
from orchestrator.state.events import (
    AttemptFailed,
    AttemptStarted,
    CheckpointSaved,
    EpochReported,
    RungDecided,
    SweepStarted,
    TrialPromoted,
)
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.state.sweep_state import SweepState, missing_ends
from search_spaces import adopt
from trainables.metrics import CLASSIFIER_METRICS

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
SPEC = """
name: tiny
trial: {data.name: digits, model.name: cnn_bn, epochs: 9, optimizer.name: sgd}
space:
  use: [optimizer, snnl, mixup, adversarial]
  parameters: {optimizer.lr: {choice: [0.02, 0.03, 0.05, 0.08, 0.1, 0.2, 9.0e+8]}, adversarial.steps: {int: [1, 2]}}
search: {num_trials: 9, seed: 1, points: [{optimizer.lr: 9.0e+8}, {optimizer.lr: 0.05, mixup.alpha: 1.0}]}
scheduler: {grace_period: 1, reduction_factor: 3}
"""
TINY = """
name: tiny
trial: {data.name: digits, model.name: mlp, epochs: 4, optimizer.name: sgd}
space: {use: [snnl, mixup]}
search: {num_trials: 3}
scheduler: {grace_period: 1, reduction_factor: 3}
"""
SLOW = """
name: slow
trial: {data.name: digits, model.name: cnn_bn, epochs: 9, optimizer.name: sgd}
space: {use: [snnl, mixup]}
search: {num_trials: 6}
scheduler: {grace_period: 3, reduction_factor: 3}
"""


PLANTED_ERROR = """
HERE = pathlib.Path(__file__).parent

def before_epoch(loop):  # each trial raises once, the first of them twice
    if loop.epoch != 2:
        return
    seed = str(loop.config.seed)
    try:
        os.symlink(seed, HERE / "first")
    except FileExistsError:
        pass
    number = len(list(HERE.glob(f"broke-{seed}-*")))
    if number < 1 + (os.readlink(HERE / "first") == seed):
        (HERE / f"broke-{seed}-{number}").touch()
        raise ValueError("boom")
"""


def ravel(*arguments, cwd, **environment):
    command = [str(RAVEL), *arguments]
    variables = {**os.environ, **environment}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=200, env=variables)


def start(folder, spec):
    """Start a sweep in its own process group, as a terminal does."""
    (folder / "spec.yaml").write_text(spec)
    return running([RAVEL, "launch", "spec.yaml"], output=folder / "output.txt", cwd=folder)


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def mlflow_of(folder):
    """Return every trial run, and the number of points of each (run, key, step) in MLflow."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, "tags.`ravel.kind` = 'trial'")
    points = Counter(
        (run.info.run_id, key, point.step)
        for run in runs
        for key in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, key)
    )
    return {run.data.tags["ravel.trial"].rpartition("/")[2]: run for run in runs}, points


def assert_invariants(folder, before=()):
    """Assert what holds of every sweep without a driver (tests/kills)."""
    assert violations(Evidence.read(find_sweep(folder / "results"), folder / "mlflow.db", before=tuple(before))) == {}


def assert_tracked_once(folder, state, *, has_room=False):
    """Assert one run for each trial and one point for each (trial, metric, epoch) of the log, no other.

    Unless a trial has few metrics (``has_room``), the minor ones are in the log alone.
    """
    minor = set() if has_room else {metric.name for metric in CLASSIFIER_METRICS if metric.minor}
    runs, points = mlflow_of(folder)
    assert sorted(runs) == sorted(state.trials)
    assert set(points.values()) == {1}
    expected = sum(
        value is not None and name not in minor
        for trial in state.trials.values()
        for metrics in trial.epochs.values()
        for name, value in metrics.items()
    )
    assert len(points) == expected


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """One small sweep with a point that diverges, run to its end."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "spec.yaml").write_text(SPEC)
    return folder, ravel("launch", "spec.yaml", cwd=folder)


def test_a_sweep_ends_well_with_a_leaderboard_and_the_way_into_mlflow(swept):
    folder, done = swept
    assert done.returncode == 0, done.stderr
    sweep = find_sweep(folder / "results").sweep
    assert done.stdout.index("starting Ray ...") < done.stdout.index(sweep)
    assert "100% · 9/9 trials" in done.stdout
    assert "stopped at rung 1" in done.stdout
    assert f"ravel compare {sweep}" in done.stdout
    assert "best t" in done.stdout
    assert done.stderr == ""


def test_the_state_that_tune_writes_at_the_end_has_few_of_the_trials(swept):
    (state,) = find_sweep(swept[0] / "results").tune.glob("experiment_state-*.json")
    assert 1 <= len(json.loads(state.read_text())["trial_data"]) <= 3


def test_the_baseline_runs_first_and_to_its_full_budget(swept):
    state = SweepResult.read(find_sweep(swept[0] / "results")).state
    baseline = state.trials["t000"]
    assert (baseline.origin, baseline.status, baseline.epoch) == ("baseline", "completed", 9)


def test_every_stop_follows_the_rule_from_the_log_alone(swept):
    from orchestrator.scheduling.asha import promotable
    from orchestrator.state.ranking import Ranking

    state = SweepState()
    decided = 0
    for event in log_of(swept[0]):
        state.apply(event)
        if isinstance(event, RungDecided):
            reached = (trial for trial in state.trials.values() if event.rung in trial.epochs)
            values = {trial.id: (trial.epochs[event.rung]["val/accuracy"] or -math.inf,) for trial in reached}
            paused = Ranking({event.trial: values[event.trial]})
            best = promotable(Ranking(values), paused, reduction_factor=3)
            assert event.kept == (event.trial in {best, "t000"})
            decided += 1
    assert decided >= 6
    assert state.with_status("stopped")


def test_every_decision_of_a_parallel_sweep_is_replayed_bit_for_bit(swept):
    folder, _ = swept
    done = ravel("replay", "tiny", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "every decision came out as recorded" in done.stdout


def test_a_trial_whose_loss_is_nan_ends_as_diverged_and_the_sweep_continues(swept):
    folder, done = swept
    state = SweepResult.read(find_sweep(folder / "results")).state
    diverged = state.trials["t001"]
    assert diverged.status == "diverged"
    assert "not finite" in diverged.end.reason
    assert "t001 diverged: Diverged: epoch 1" in done.stdout
    run = mlflow_of(folder)[0]["t001"]
    assert run.info.status == "FAILED"
    assert "not finite" in run.data.tags["ravel.reason"]
    assert state.trials["t002"].origin == "point"


def test_mlflow_has_one_run_for_each_trial_and_no_point_twice(swept):
    folder, _ = swept
    assert_tracked_once(folder, SweepResult.read(find_sweep(folder / "results")).state)
    assert_invariants(folder)


def test_the_best_model_can_be_loaded_and_is_as_good_as_its_score(swept):
    import torch

    from trainables.config.trial import TrialConfig
    from trainables.data import load_splits

    best = SweepResult.read(find_sweep(swept[0] / "results")).best()
    split = load_splits(TrialConfig.from_point(best.config).data).val
    with torch.no_grad():
        predicted = best.load_model()(split.images_NCHW.float() / 255).argmax(1)
    assert (predicted == split.labels_N).double().mean().item() == pytest.approx(best.score)


def test_the_points_of_a_sweep_and_their_scores_can_be_carried_into_the_next(swept):
    result = SweepResult.read(find_sweep(swept[0] / "results"))
    space = result.plan.spec.space
    points, scores = result.scored_points()
    ended = {trial.id: trial for trial in result.state.trials.values() if space.contains(trial.point)}
    assert points == [trial.point for trial in ended.values()]
    assert [math.isfinite(score) for score in scores] == [
        trial.status in {"completed", "stopped"} for trial in ended.values()
    ]
    assert {report.outcome for report in adopt(space, points).reports} == {"kept"}


def test_a_dataframe_has_a_row_for_each_trial(swept):
    frame = SweepResult.read(find_sweep(swept[0] / "results")).dataframe()
    assert len(frame) == 9
    assert {"trial", "status", "snnl.weight", "val/accuracy"} <= set(frame.columns)


@pytest.mark.parametrize("command", [("status",), ("list",), ("best", "tiny", "-k", "3"), ("compare", "tiny")])
def test_reading_commands_speak_json_too(swept, command):
    folder, _ = swept
    assert ravel(*command, cwd=folder).returncode == 0
    done = ravel(*command, "--json", cwd=folder)
    assert json.loads(done.stdout)


def test_the_log_of_one_trial_says_why_it_diverged(swept):
    done = ravel("logs", "tiny", "t001", cwd=swept[0])
    assert "trial_ended" in done.stdout
    assert "Traceback" in done.stdout


@pytest.mark.parametrize(
    "command", [("best", "none"), ("logs", "tiny", "t999"), ("status", "none"), ("resume", "none")]
)
def test_an_unknown_name_is_exit_2_in_a_line(swept, command):
    done = ravel(*command, cwd=swept[0])
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_resuming_a_finished_sweep_changes_no_trial(swept):
    folder, _ = swept
    before = SweepResult.read(find_sweep(folder / "results")).dataframe()
    done = ravel("resume", "tiny", cwd=folder)
    assert (done.returncode, "starting Ray" in done.stdout) == (0, False)
    assert SweepResult.read(find_sweep(folder / "results")).dataframe().equals(before)


def test_a_killed_worker_costs_the_epochs_since_its_checkpoint_and_nothing_else(tmp_path):
    def past_a_checkpoint(events):
        saved = {event.trial: event.epoch for event in of_kind(events, CheckpointSaved)}
        return next((e for e in of_kind(events, EpochReported) if e.epoch == saved.get(e.trial, 99) + 2), None)

    with start(tmp_path, SLOW) as driver:
        victim = wait_for(tmp_path, past_a_checkpoint, driver=driver)
        os.kill(victim.pid, signal.SIGKILL)
        assert driver.wait(180) == 0, (tmp_path / "output.txt").read_text()
    events = log_of(tmp_path)
    (lost,) = of_kind(events, AttemptFailed)
    assert (lost.trial, lost.cause) == (victim.trial, "infrastructure")
    state = SweepState(events)
    assert state.trials[lost.trial].attempts == 2
    assert all(trial.status in {"completed", "stopped"} for trial in state.trials.values())
    saved = max(e.epoch for e in of_kind(events[: events.index(lost)], CheckpointSaved) if e.trial == lost.trial)
    later = [e for e in of_kind(events, EpochReported) if e.trial == lost.trial and e.attempt == 2]
    assert later[0].since_restore == later[0].epoch - saved
    assert sorted(state.trials[lost.trial].epochs) == list(range(1, state.trials[lost.trial].epoch + 1))
    assert_tracked_once(tmp_path, state)
    assert_invariants(tmp_path)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A sweep whose driver met a second one, was killed, and was resumed: folder, log at the kill, the second one."""
    folder = tmp_path_factory.mktemp("resumed")

    def in_the_middle(events):
        """One trial is over, another has trained past its last checkpoint, and there is more to come."""
        state = SweepState(events)
        past = [trial for trial in state.with_status("running") if trial.epoch % 3 == 2]
        return past and state.with_status("completed", "stopped", "paused") and len(state.trials) < 6

    with start(folder, SLOW) as driver:
        wait_for(folder, lambda events: of_kind(events, SweepStarted), driver=driver)
        second = ravel("resume", "slow", cwd=folder)
        wait_for(folder, in_the_middle, driver=driver)
        driver.kill()
        driver.wait()
    before = log_of(folder)
    status = ravel("status", cwd=folder)
    assert "its driver is gone: ravel resume" in status.stdout
    done = ravel("resume", "slow", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, before, (second, driver.pid)


def test_a_second_driver_is_refused_while_the_first_runs(resumed):
    _, before, (second, first) = resumed
    assert second.returncode == 3
    assert f"process {first} on" in second.stderr
    assert [event.pid for event in of_kind(before, SweepStarted)] == [first]


def test_a_killed_driver_is_resumed_with_no_trial_lost_or_run_twice(resumed):
    folder, before, _ = resumed
    events = log_of(folder)
    assert events[: len(before)] == before
    state = SweepState(events)
    assert len(state.trials) == 6
    assert all(trial.status in {"completed", "stopped"} for trial in state.trials.values())
    for trial in SweepState(before).with_status("completed", "stopped"):
        assert state.trials[trial.id].attempts == trial.attempts
    reports = Counter((event.trial, event.epoch) for event in of_kind(events, EpochReported))
    assert set(reports.values()) == {1}
    for trial in state.trials.values():
        assert sorted(trial.epochs) == list(range(1, trial.epoch + 1))
    restarted = {event.trial for event in of_kind(events[len(before) :], AttemptStarted) if event.attempt > 1}
    decided = {end.trial for end in missing_ends(SweepState(before), pauses=True, now=0.0)}
    interrupted = {trial.id for trial in SweepState(before).with_status("running")} - decided
    promoted = {event.trial for event in of_kind(events[len(before) :], TrialPromoted)}
    assert restarted == interrupted | promoted
    assert_tracked_once(folder, state)
    assert_invariants(folder, before)


def test_an_error_in_a_trial_is_retried_from_its_checkpoint_as_often_as_the_spec_says(tmp_path, plant):
    """For a spec that says nothing, and so no retry, see test_poisoned_workers."""
    (tmp_path / "spec.yaml").write_text(TINY + "failures: {user: 1}\n")
    done = ravel("launch", "spec.yaml", cwd=tmp_path, **plant(tmp_path, PLANTED_ERROR))
    assert done.returncode == 1, done.stdout + done.stderr
    events = log_of(tmp_path)
    state = SweepState(events)
    past_the_rung = {trial.id for trial in state.trials.values() if trial.status != "stopped" or trial.epoch > 1}
    assert "t000" in past_the_rung
    assert len(past_the_rung) > 1
    (twice,) = state.with_status("failed")
    assert twice.id in past_the_rung
    assert {state.trials[trial].status for trial in past_the_rung - {twice.id}} <= {"completed", "stopped"}
    broken = {(event.trial, event.cause, event.reason) for event in of_kind(events, AttemptFailed)}
    assert broken == {(trial, "user", "ValueError: boom") for trial in past_the_rung}
    assert len(broken) == len(of_kind(events, AttemptFailed))  # one retry each
    retried = {
        lost.trial: next(
            (epoch.epoch, epoch.since_restore)
            for epoch in of_kind(events[events.index(lost) :], EpochReported)
            if epoch.trial == lost.trial
        )
        for lost in of_kind(events, AttemptFailed)
        if lost.trial != twice.id
    }
    assert set(retried.values()) == {(3, 2)}  # the checkpoint was of epoch 1
    assert twice.attempts == 2 + sum(event.trial == twice.id for event in of_kind(events, TrialPromoted))
    assert 'raise ValueError("boom")' in twice.end.traceback
    assert f"{twice.id} failed: ValueError: boom" in done.stdout


@pytest.fixture(scope="module")
def unread(tmp_path_factory):
    """The log of a sweep of one trial at a time, whose reader went away after the first line."""
    folder = tmp_path_factory.mktemp("unread")
    (folder / "spec.yaml").write_text(TINY + "resources: {max_concurrent: 1}\n")
    command = f"{RAVEL} launch spec.yaml 2>/dev/null | head -1"
    subprocess.run(["bash", "-c", command], cwd=folder, check=True, capture_output=True, timeout=200)
    return log_of(folder)


def test_a_sweep_continues_when_its_output_is_not_read(unread):
    state = SweepState(unread)
    assert {trial.status for trial in state.trials.values()} <= {"completed", "stopped"}
    assert len(state.trials) == 3
    assert state.ended.status == "completed"


def test_a_limit_on_concurrent_trials_holds(unread):
    state = SweepState()
    for event in unread:
        state.apply(event)
        assert len(state.with_status("running")) <= 1


def test_the_same_sequential_sweep_gives_the_same_trials_to_the_last_bit(unread, tmp_path):
    (tmp_path / "spec.yaml").write_text(TINY + "resources: {max_concurrent: 1}\n")
    assert ravel("launch", "spec.yaml", cwd=tmp_path).returncode == 0
    first, second = SweepState(unread), SweepState(log_of(tmp_path))
    clocks = ("time/", "cost/")
    for trial, other in zip(first.trials.values(), second.trials.values(), strict=True):
        assert (trial.point, trial.status, trial.epoch) == (other.point, other.status, other.epoch)
        for epoch, metrics in trial.epochs.items():
            same = {name: value for name, value in metrics.items() if not name.startswith(clocks)}
            assert same == {name: other.epochs[epoch][name] for name in same}


BUDGETED = """
name: budgeted
trial: {data.name: digits, model.name: mlp, epochs: 8, optimizer.name: sgd}
space: {use: [mixup], parameters: {optimizer.lr: {float: [1.0e-3, 0.5], log: true}}}
objective: [val/accuracy max, val/nll min]
search: {num_trials: 10, sampler: nsga2}
scheduler: {grace_period: auto, budget_fraction: 0.4, audit: 0.5}
"""


def test_trials_pause_resume_from_their_checkpoints_and_are_audited(tmp_path):
    (tmp_path / "spec.yaml").write_text(BUDGETED)
    done = ravel("launch", "spec.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    events = log_of(tmp_path)
    state = SweepState(events)
    assert {trial.status for trial in state.trials.values()} == {"completed", "stopped"}
    promoted = of_kind(events, TrialPromoted)
    assert {event.audited for event in promoted} == {True, False}
    first_after = {
        (event.trial, event.rung + 1): next(
            epoch
            for epoch in of_kind(events, EpochReported)
            if (epoch.trial, epoch.epoch) == (event.trial, event.rung + 1)
        )
        for event in promoted
    }
    assert {epoch.since_restore for epoch in first_after.values()} == {1}  # nothing was trained twice
    assert all("paused at rung" in done.stdout and f"{event.trial} promoted" in done.stdout for event in promoted)
    spent = sum(
        trial.epoch for trial in state.trials.values() if trial.origin != "baseline" and trial.blind_from is None
    )
    assert spent <= 0.4 * 9 * 8
    assert "every decision came out as recorded" in ravel("replay", "budgeted", cwd=tmp_path).stdout
    assert "rejected trials ran on" in ravel("audit", "budgeted", cwd=tmp_path).stdout
    assert_tracked_once(tmp_path, state, has_room=True)
    assert_invariants(tmp_path)
    assert {run.info.status for run in mlflow_of(tmp_path)[0].values()} == {"FINISHED"}


@pytest.mark.parametrize(
    ("number", "when"),
    [(signal.SIGINT, EpochReported), (signal.SIGTERM, SweepStarted)],
    ids=["ctrl-c", "sigterm-at-the-start"],
)
def test_a_stopped_sweep_says_how_to_resume_and_marks_its_runs_killed(tmp_path, number, when):
    with start(tmp_path, f"{SLOW}resources: {{max_concurrent: 1}}\n") as driver:
        wait_for(tmp_path, lambda events: of_kind(events, when), driver=driver)
        if number == signal.SIGINT:
            os.killpg(driver.pid, number)  # what Ctrl-C in a terminal does
        else:
            driver.send_signal(number)
        assert driver.wait(60) == 130, (tmp_path / "output.txt").read_text()
    printed = (tmp_path / "output.txt").read_text()
    assert f"ravel resume {find_sweep(tmp_path / 'results').sweep}" in printed
    assert "Traceback" not in printed
    state = SweepState(log_of(tmp_path))
    assert state.ended.status == "interrupted"
    assert not state.with_status("running")
    if when is EpochReported:
        runs, _ = mlflow_of(tmp_path)
        interrupted = [trial.id for trial in state.with_status("interrupted")]
        assert interrupted
        assert {runs[trial].info.status for trial in interrupted if trial in runs} == {"KILLED"}
