"""Tune forgets the trials that are over: a real controller of Tune without an actor, and a sweep."""

import gc

import pytest
from ray import tune
from ray.train._internal.storage import StorageContext
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.registry import register_trainable

import orchestrator as ravel
from orchestrator.execution.progress import ProgressCallback
from orchestrator.execution.tune.ended_trials import forget, forgotten, state_saved_at_the_end
from orchestrator.state.events import TrialEnded
from orchestrator.state.trial import CHECKPOINTS_KEPT

SWEEP = {
    "name": "forgotten",
    "trial": {"task": "at_once:train", "epochs": 3},
    "space": {"parameters": {"lr": {"float": [0.0, 1.0]}}},
    "objective": "loss min",
    "search": {"num_trials": 24, "sampler": "random"},
    "scheduler": {"kind": "stopping", "grace_period": 1},
}
AT_ONCE = """
def train(lr: float, epochs: int):
    for epoch in range(epochs):
        yield {"loss": lr / (epoch + 1)}
"""


@pytest.fixture
def controller(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNE_MAX_PENDING_TRIALS_PG", "8")
    register_trainable("nothing", tune.Trainable)
    storage = StorageContext(storage_path=str(tmp_path), experiment_dir_name="tune")
    config = tune.CheckpointConfig(num_to_keep=CHECKPOINTS_KEPT)
    return TuneController(storage=storage, trial_checkpoint_config=config)


def added(controller, *statuses):
    """Add a trial, and have it go through these statuses."""
    trial = Trial("nothing", storage=controller._storage, stub=True)
    controller.add_trial(trial)
    for status in statuses:
        controller._set_trial_status(trial, status)
    return trial


def test_trials_that_ended_are_forgotten_and_no_others(controller):
    completed, failed = added(controller, "RUNNING", "TERMINATED"), added(controller, "RUNNING", "ERROR")
    running, staged = added(controller, "RUNNING"), added(controller, "RUNNING", "TERMINATED")
    stopping, waiting = added(controller, "RUNNING", "TERMINATED"), added(controller)
    controller._staged_trials.add(staged)
    controller._trial_to_actor[stopping] = "its actor"
    controller._get_trial_checkpoints()
    forget(controller)
    assert controller.get_trials() == [running, staged, stopping, waiting]
    for ended in (completed, failed):
        assert ended.trial_id not in controller._get_trial_checkpoints()
        assert ended not in controller._stopped_trials | controller._failed_trials
    assert running.trial_id in controller._get_trial_checkpoints()


def test_a_long_sweep_leaves_as_many_trials_as_a_short_one(controller):
    kept = []
    with forgotten():
        for _ in range(40):
            added(controller, "RUNNING", "TERMINATED")
            controller.on_step_end()
            kept.append(len(controller.get_trials()))
    assert kept == [1] * 40
    added(controller, "RUNNING", "TERMINATED")
    controller.on_step_end()
    assert len(controller.get_trials()) == 2, "it is Tune's own again"


def test_tasks_of_an_actor_that_was_cancelled_before_it_started_are_forgotten(controller):
    actors = controller._actor_manager
    actors._pending_actors_to_attrs["waits"] = actors._live_actors_to_ray_actors_resources["starts"] = ()
    for actor in ("waits", "starts", "cancelled"):
        actors._pending_actors_to_enqueued_actor_tasks[actor].append("a task of a trial")
    forget(controller)
    assert set(actors._pending_actors_to_enqueued_actor_tasks) == {"waits", "starts"}


class Counted(ProgressCallback):
    """Counts the trials of Tune that are in memory at the end of each trial."""

    def __init__(self):
        self.counts = []

    def on_event(self, event):
        if isinstance(event, TrialEnded):
            gc.collect()
            self.counts.append(sum(type(found) is Trial for found in gc.get_objects()))


@pytest.mark.ray
def test_no_part_of_tune_keeps_a_trial_of_a_sweep_that_is_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "at_once.py").write_text(AT_ONCE)
    counted = Counted()
    ravel.launch(ravel.SweepSpec.model_validate(SWEEP), callback=counted)
    assert len(counted.counts) == 24
    assert max(counted.counts[-12:]) <= max(counted.counts[:12]) + 1, counted.counts


def test_a_trial_that_saves_often_makes_tune_write_nothing(controller):
    trial, manager = added(controller, "RUNNING"), controller._checkpoint_manager
    with state_saved_at_the_end():
        for _ in range(3 * CHECKPOINTS_KEPT):
            manager.on_trial_checkpoint(trial)
        assert not manager._should_force_sync_up
        assert not manager._trial_num_checkpoints_since_last_sync, "it would keep every trial"
    for _ in range(CHECKPOINTS_KEPT):
        manager.on_trial_checkpoint(trial)
    assert manager._should_force_sync_up, "else there is nothing to change in Tune"
