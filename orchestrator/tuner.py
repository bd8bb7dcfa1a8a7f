"""Builds and fits ``tune.Tuner``: Tune moves actors about; our searcher proposes, our scheduler stops."""

from __future__ import annotations

import functools
import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from ray import tune
from ray.tune import Callback

from orchestrator.events import AttemptFailed, AttemptStarted, CheckpointSaved, EpochReported, TrialEnded
from orchestrator.scheduling.scheduler import LogScheduler
from orchestrator.search import LogSearcher
from trainables.tune import ClassifierTrainable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray.tune.experiment import Trial as TuneTrial

    from orchestrator.cluster import Capacity
    from orchestrator.history import Trial
    from orchestrator.journal import Journal
    from orchestrator.plan import SweepPlan
    from orchestrator.storage import SweepFolder

P = ParamSpec("P")
logger = logging.getLogger(__name__)


def fit(plan: SweepPlan, journal: Journal, folder: SweepFolder, capacity: Capacity) -> None:
    """Run every trial that is not over yet; returns when all are, or when a SIGUSR1 asked Tune to leave."""
    resources = plan.spec.resources
    gpus = capacity.gpus_per_trial(resources)
    slots = capacity.slots(resources, gpus)
    searcher = LogSearcher(plan, journal, slots=slots, checkpoint_of=functools.partial(latest_checkpoint, folder))
    recorder = Recorder(plan, journal, folder, searcher)
    tune.Tuner(
        tune.with_resources(ClassifierTrainable, {"cpu": resources.cpus, "gpu": gpus}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=LogScheduler(plan, journal, record=recorder.record),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_folder_name,
        ),
        run_config=tune.RunConfig(
            name=folder.tune.name,
            storage_path=str(folder.path.resolve()),
            failure_config=tune.FailureConfig(max_failures=plan.spec.failures.infrastructure),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
            callbacks=[recorder],
            verbose=0,
        ),
    ).fit()


def latest_checkpoint(folder: SweepFolder, trial: Trial) -> str | None:
    """The newest checkpoint of a trial that is still there, as an absolute path."""
    paths = (folder.path / checkpoint.path for checkpoint in reversed(trial.checkpoints))
    return next((str(path.resolve()) for path in paths if path.is_dir()), None)


def guarded(hook: Callable[P, None]) -> Callable[P, None]:
    """A Tune callback that cannot kill a sweep: what goes wrong inside is logged, with its traceback."""

    @functools.wraps(hook)
    def guard(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            hook(*args, **kwargs)
        except Exception:
            logger.exception("%s failed; the sweep goes on", hook.__qualname__)

    return guard


class Recorder(Callback):
    """Writes down what Tune's trials do."""

    def __init__(
        self,
        plan: SweepPlan,
        journal: Journal,
        folder: SweepFolder,
        searcher: LogSearcher,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._plan, self._journal, self._folder, self._searcher, self._clock = (
            plan,
            journal,
            folder,
            searcher,
            clock,
        )
        self._ended: dict[str, dict[str, Any]] = {}

    def record(self, trial: TuneTrial, result: dict[str, Any]) -> str:
        """Write down one result, once, and return our name of the trial."""
        name, event = _name(trial), json.loads(result["event"])
        history = self._journal.history.trials[name]
        if event["ended"] is not None:
            self._ended[name] = event["ended"]
        if event["metrics"] and event["epoch"] not in history.epochs:
            self._journal.append(
                EpochReported(
                    time=self._clock(),
                    trial=name,
                    attempt=history.attempts,
                    epoch=event["epoch"],
                    since_restore=result["iterations_since_restore"],
                    metrics=event["metrics"],
                    host=result.get("hostname"),
                    pid=result.get("pid"),
                )
            )
        return name

    @guarded
    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """An actor was given the trial."""
        name = _name(trial)
        attempt = self._journal.history.trials[name].attempts + 1
        self._journal.append(AttemptStarted(time=self._clock(), trial=name, attempt=attempt))

    @guarded
    def on_trial_result(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[TuneTrial],  # noqa: ARG002
        trial: TuneTrial,
        result: dict[str, Any],
        **info: Any,  # noqa: ARG002
    ) -> None:
        """The last result of a trial comes here alone: Tune does not show it to its scheduler."""
        self.record(trial, result)

    @guarded
    def on_checkpoint(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[TuneTrial],  # noqa: ARG002
        trial: TuneTrial,
        checkpoint: tune.Checkpoint,
        **info: Any,  # noqa: ARG002
    ) -> None:
        """A checkpoint folder is complete."""
        path = Path(checkpoint.path)
        root = self._folder.path.resolve()
        shown = path.relative_to(root) if path.is_relative_to(root) else path
        epoch = int(trial.last_result["epoch"])
        self._journal.append(CheckpointSaved(time=self._clock(), trial=_name(trial), epoch=epoch, path=str(shown)))

    @guarded
    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """The trial left its actor: finished, stopped at a rung, diverged, or broken by an error of its own."""
        name = _name(trial)
        ended = self._ended.pop(name, None)
        if ended is not None and ended["status"] == "failed" and self._may_retry(name):
            self._fail_attempt(name, "user", ended["reason"], ended["traceback"])
            self._searcher.over(name, again=True)
            return
        self._journal.append(self._end(name, ended))
        self._searcher.over(name)

    @guarded
    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """The worker was lost; Tune starts the trial again from its checkpoint."""
        self._fail_attempt(_name(trial), "infrastructure", _first_line(trial), None)

    @guarded
    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """The worker was lost once too often."""
        name = _name(trial)
        limit = self._plan.spec.failures.infrastructure
        reason = f"lost its worker more than {limit} times (failures.infrastructure): {_first_line(trial)}"
        self._journal.append(TrialEnded(time=self._clock(), trial=name, status="failed", reason=reason))
        self._searcher.over(name)

    def _end(self, name: str, ended: dict[str, Any] | None) -> TrialEnded:
        now, trial = self._clock(), self._journal.history.trials[name]
        stop = next((rung for rung in trial.rungs.values() if not rung.kept), None)
        if ended is not None:
            return TrialEnded(time=now, trial=name, **ended)
        if stop is not None:
            return TrialEnded(time=now, trial=name, status="stopped", rung=stop.rung)
        if trial.epoch >= trial.budget:
            return TrialEnded(time=now, trial=name, status="completed")
        reason = f"left its worker after epoch {trial.epoch} of {trial.budget}"
        return TrialEnded(time=now, trial=name, status="interrupted", reason=reason)

    def _fail_attempt(self, name: str, cause: str, reason: str, traceback: str | None) -> None:
        self._journal.append(
            AttemptFailed(
                time=self._clock(),
                trial=name,
                attempt=self._journal.history.trials[name].attempts,
                cause=cause,
                reason=reason,
                traceback=traceback,
            )
        )

    def _may_retry(self, name: str) -> bool:
        failures = self._journal.history.trials[name].failures
        return sum(failure.cause == "user" for failure in failures) < self._plan.spec.failures.user


def _name(trial: TuneTrial) -> str:
    return str(trial.config["ravel.trial"])


def _folder_name(trial: TuneTrial) -> str:
    """One folder for each attempt: a resumed trial never writes over an older checkpoint."""
    return f"{trial.config['ravel.trial']}-{trial.config['ravel.attempt']}"


def _first_line(trial: TuneTrial) -> str:
    """What Tune wrote down about the loss of a worker, in a line."""
    error = trial.get_error()
    lines = [line.strip() for line in str(error or "").splitlines() if line.strip()]
    told = next(
        (line for line in lines if "Error" in line or "died" in line),
        lines[0] if lines else "its worker died",
    )
    return told[:500]
