"""Confirmation of a search: evaluate its trials once on the test split, and state the claim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.analysis.claims.claim import claim
from orchestrator.analysis.evaluation.output import write
from orchestrator.analysis.evaluation.target import subject_of, target_of
from orchestrator.errors import OrchestratorError
from orchestrator.planning.changes.fork import CONTROL, SEED, searched_values
from orchestrator.state.sweep_folder import reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from orchestrator.analysis.claims.claim import Claim
    from orchestrator.analysis.result import SweepResult
    from orchestrator.planning.plan import Confirmation
    from orchestrator.state.trial import Trial
    from trainables.evaluation.core.report import Report

SHARES = ("test/accuracy",)
"""Metrics that are shares of the test images."""
ATTACKING = {"robust", "dknn"}


def trials_by_configuration(confirmed: Confirmation, result: SweepResult) -> dict[str, dict[int, Trial]]:
    """Return the trials of a confirmation by configuration and seed; the control is first.

    A second trial of a configuration with the same seed is left out.
    """
    names = {_key(configuration.point): configuration.name for configuration in confirmed.configurations}
    trials: dict[str, dict[int, Trial]] = {configuration.name: {} for configuration in confirmed.configurations}
    for trial in result.state.trials.values():
        name = names.get(_key(searched_values(trial.point, result.plan.spec)))
        if name is not None and SEED in trial.point:
            trials[name].setdefault(int(trial.point[SEED]), trial)
    return trials


def evaluated(
    result: SweepResult, *, progress: Callable[[str, float], None], track: Callable[[Report, int, str], None]
) -> Claim:
    """Evaluate the model of each trial on the test split, and return the claim.

    A report that was measured before is read from the cache, as ``ravel evaluate`` does. Nothing is read from the test
    split before every trial is over, so that what it says can change none of them.

    Raises:
        OrchestratorError: the sweep confirms nothing, a trial is not over, or the suites measure no such metric.
    """
    confirmed = result.plan.confirmation
    if confirmed is None:
        raise OrchestratorError(f"{result.sweep}: it searches, and confirms nothing; see `ravel confirm -h`")
    trials = trials_by_configuration(confirmed, result)
    _require_over(result)
    values: dict[str, dict[int, float]] = {name: {} for name in trials}
    images = list[int]()
    done = [(name, seed, trial) for name, own in trials.items() for seed, trial in own.items() if _is_done(trial)]
    for index, (name, seed, trial) in enumerate(done):
        progress(f"{name}, seed {seed}", index / len(done))
        metrics = dict[str, float]()
        for report, num_images in _reports(result, trial, confirmed.suites):
            metrics |= report.metrics
            images.append(num_images)
            track(report, trial.epoch, trial.id)
        if confirmed.metric not in metrics:
            requirement = f"must measure {confirmed.metric}, which the sweep confirms; they measure"
            raise OrchestratorError(f"{result.sweep}: its suites {requirement} {', '.join(sorted(metrics))}")
        values[name][seed] = metrics[confirmed.metric]
    if len(values[CONTROL]) < 2 or any(set(own) - set(values[CONTROL]) for own in values.values()):
        remedy = f"retry with ravel extend {reference(result.folder)} --retry-failed, then ravel resume"
        raise OrchestratorError(f"{result.sweep}: its control must end with every seed to compare with; {remedy}")
    return claim(
        values,
        metric=confirmed.metric,
        mode=confirmed.mode,
        searched={configuration.name: configuration.searched for configuration in confirmed.configurations},
        num_images=images[0] if confirmed.metric in SHARES else None,
        seed=result.plan.spec.search.seed,
    )


def _reports(result: SweepResult, trial: Trial, suites: tuple[str, ...]) -> Iterator[tuple[Report, int]]:
    from trainables.data import cache_folder  # noqa: PLC0415  imports torch
    from trainables.engine import checkpoint  # noqa: PLC0415
    from trainables.evaluation.core import report  # noqa: PLC0415
    from trainables.evaluation.core.results import EvaluationBudget, no_progress  # noqa: PLC0415
    from trainables.models.loading import saved_config  # noqa: PLC0415

    target = target_of(result, result.named(trial.id))
    config = saved_config(target.checkpoint, checkpoint.load(target.checkpoint))
    subject = subject_of(target, attacked=bool(ATTACKING & set(suites)))
    cache, place = cache_folder(config.data) / "evaluations", Path("evaluations") / target.slug
    for measured in report.evaluate(subject, suites, EvaluationBudget(), cache=cache, progress=no_progress):
        write(measured, place)
        yield measured, len(subject.test)


def _require_over(result: SweepResult) -> None:
    ids = [trial.id for trial in result.state.with_status("waiting", "running", "interrupted", "paused")]
    missing = result.plan.spec.search.num_trials - len(result.state.trials)
    if ids or missing > 0:
        left = len(ids) + max(0, missing)
        raise OrchestratorError(
            f"{result.sweep}: every trial must be over before the test split is read, and {left} are not; "
            f"continue with ravel confirm {reference(result.folder)}"
        )


def _is_done(trial: Trial) -> bool:
    return trial.status == "completed"


def _key(point: Mapping[str, object]) -> str:
    return json.dumps(point, sort_keys=True)
