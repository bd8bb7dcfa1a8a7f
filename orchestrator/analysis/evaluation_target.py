"""What is evaluated: a checkpoint folder, a trial of a sweep, or an MLflow run, with the images it is judged by."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.analysis.result import SweepResult
from orchestrator.errors import OrchestratorError, SpecError
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.storage.locations import is_remote
from search_spaces import Problem
from trainables.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.analysis.result import TrialResult
    from orchestrator.planning.plan import SweepPlan
    from trainables.config.trial import DataConfig
    from trainables.evaluation.core.results import Subject

STATE = "state.pt"
RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Target:
    """A trained model: its checkpoint, and where it comes from if it is a sweep's."""

    name: str
    checkpoint: Path
    plan: SweepPlan | None = None
    trial: str | None = None
    earlier: Mapping[int, Path] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The name as that of a folder.

        >>> Target("digits-1/t003", Path("x")).slug
        'digits-1-t003'
        """
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.name).strip("-.") or "model"


def find_target(text: str, *, results: str) -> Target:
    """The model that a person means: a checkpoint folder, SWEEP/TRIAL, a sweep for its best trial, an MLflow run's id.

    Raises:
        OrchestratorError: none of these is there; says how each is written.
    """
    folder = Path(text)
    if (folder / STATE).is_file():
        place = folder.resolve()
        return Target(f"{place.parent.name}/{place.name}", place)
    if RUN_ID.fullmatch(text):
        from orchestrator.tracking.evaluations import trial_of_run  # noqa: PLC0415

        text = trial_of_run(text)
    elif folder.is_dir() and not (folder / "plan.json").is_file():
        raise OrchestratorError(
            f"{text}: a checkpoint folder holds {STATE}, this one does not; name one, or SWEEP/TRIAL"
        )
    sweep, _, trial = text.rpartition("/") if re.search(r"/t\d+$", text) else (text, "", "")
    result = SweepResult.read(find_sweep(results, sweep))
    return target_of(result, result.named(trial) if trial else result.best())


def target_of(result: SweepResult, chosen: TrialResult) -> Target:
    """A trial's model, and its earlier checkpoints that are still there.

    Raises:
        OrchestratorError: it is no classifier, or has no checkpoint.
    """
    chosen.require_classifier()
    folder = result.folder
    earlier = {saved.epoch: (folder.path / saved.path).resolve() for saved in chosen.trial.checkpoints}
    return Target(
        name=chosen.name,
        checkpoint=chosen.checkpoint(),
        plan=result.plan,
        trial=chosen.trial.id,
        earlier={epoch: path for epoch, path in earlier.items() if (path / STATE).is_file()},
    )


def subject_of(
    target: Target,
    *,
    data_root: str | None = None,
    epsilon: float | None = None,
    outliers: Sequence[str] = (),
    device: str = "auto",
    seed: int = 0,
    attacked: bool = True,
) -> Subject:
    """The model and its images, on a device.

    Args:
        target: what is evaluated.
        data_root: where the data set is, if not where it was trained.
        epsilon: the radius of attacks; by default the trial's `evaluation.robust_epsilon`.
        outliers: sets of other images, as the command line writes them.
        device: auto, cpu or cuda.
        seed: of every random choice.
        attacked: whether a radius is needed.

    Raises:
        SpecError: no radius is known, or a set of outliers cannot be read.
        CheckpointError: the checkpoint cannot be read.
        DatasetMissing, DatasetDamaged: the images cannot be read.
    """
    from trainables.data import load_splits, load_test  # noqa: PLC0415
    from trainables.engine import checkpoint as state  # noqa: PLC0415  imports torch
    from trainables.engine.device import resolve_device  # noqa: PLC0415
    from trainables.evaluation.core.results import Subject  # noqa: PLC0415
    from trainables.evaluation.uncertainty.outliers import outliers as made  # noqa: PLC0415
    from trainables.models.loading import load_model, saved_config  # noqa: PLC0415

    config = saved_config(target.checkpoint, state.load(target.checkpoint))
    data = _on_this_machine(config.data if data_root is None else config.data.model_copy(update={"root": data_root}))
    radius = config.evaluation.robust_epsilon if epsilon is None else epsilon
    if attacked and radius <= 0:
        law = "must be > 0 pixels of [0, 1], got 0"
        unknown = "the trial was not measured under attack, so no radius is known; give one in pixels of [0, 1]"
        raise SpecError([Problem("--epsilon", unknown if epsilon is None else law)])
    where = resolve_device(device)
    splits, test = load_splits(data), load_test(data)
    try:
        others = made(outliers, like=test, seed=seed)
    except ConfigError as error:
        told = ((name.replace("outliers.", "--ood "), message) for name, message in error.problems)
        raise SpecError([Problem(*each) for each in told]) from error
    return Subject(
        model=load_model(target.checkpoint, device=where),
        train=splits.train.to(where),
        val=splits.val.to(where),
        test=test.to(where),
        epsilon=radius,
        norm=config.evaluation.robust_norm,
        distance=config.snnl.distance,
        outliers={name: split.to(where) for name, split in others.items()},
        checkpoints=target.earlier,
        seed=seed,
    )


def _on_this_machine(data: DataConfig) -> DataConfig:
    """The data set with a root in S3 staged to the cache."""
    if data.root is None or not is_remote(data.root):
        return data
    from orchestrator.storage.staging import stage  # noqa: PLC0415
    from trainables.data import cache_folder  # noqa: PLC0415

    return data.model_copy(update={"root": str(stage(data.root, cache_folder(data)))})
