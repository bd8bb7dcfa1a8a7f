"""Changes to what Tune keeps of trials that are over: nothing, for the length of a sweep.

Tune 2.60 keeps every trial with its last result, writes all of them into its state file, and does so whenever a trial
has saved as many checkpoints as it keeps, whatever the period of that file is. The event log has all of it, and the
file is never read. So memory and time of a driver would grow with all trials of a sweep, and with their square.
Two more places would keep each trial: the report of progress, and the tasks of actors that were cancelled unstarted.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ray.tune.execution import experiment_state, tune_controller
from ray.tune.progress_reporter import TrialProgressCallback

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def forgotten() -> Iterator[None]:
    """Have Tune forget, after each step of its loop, the trials that are over."""
    controller: Any = tune_controller.TuneController
    original = controller.on_step_end

    def on_step_end(self: Any) -> None:
        original(self)
        forget(self)

    controller.on_step_end = on_step_end
    try:
        yield
    finally:
        controller.on_step_end = original


def forget(controller: Any) -> None:
    """Forget the trials of a controller that ended, and that no actor has or waits for; and tasks that no actor gets.

    The newest trial is kept: without any, Tune would read its state file at the end.
    """
    ended = controller._stopped_trials | controller._failed_trials  # noqa: SLF001  Tune has no setting for it
    ended -= controller._trial_to_actor.keys() | controller._staged_trials  # noqa: SLF001
    for trial in [trial for trial in controller._trials[:-1] if trial in ended]:  # noqa: SLF001
        controller._trials.remove(trial)  # noqa: SLF001
        for trials in (controller._stopped_trials, controller._failed_trials, controller._trials_to_cache):  # noqa: SLF001
            trials.discard(trial)
        controller._trial_metadata.pop(trial.trial_id, None)  # noqa: SLF001
    actors = controller._actor_manager  # noqa: SLF001
    known = actors._pending_actors_to_attrs.keys() | actors._live_actors_to_ray_actors_resources.keys()  # noqa: SLF001
    for cancelled in actors._pending_actors_to_enqueued_actor_tasks.keys() - known:  # noqa: SLF001
        del actors._pending_actors_to_enqueued_actor_tasks[cancelled]  # noqa: SLF001


class NoProgress(TrialProgressCallback):
    """Tune's report of the progress of trials, which keeps every trial, without a report: the driver prints its own."""

    def on_trial_result(self, *_: Any, **__: Any) -> None:
        """Report nothing."""

    on_trial_complete = on_trial_error = on_trial_result


@contextmanager
def state_saved_at_the_end() -> Iterator[None]:
    """Have Tune write its state file when its loop ends, and not after every second checkpoint of a trial."""
    manager: Any = experiment_state._ExperimentCheckpointManager  # noqa: SLF001
    original = manager.on_trial_checkpoint

    def on_trial_checkpoint(self: Any, trial: Any) -> None:
        """Count nothing."""

    manager.on_trial_checkpoint = on_trial_checkpoint
    try:
        yield
    finally:
        manager.on_trial_checkpoint = original
