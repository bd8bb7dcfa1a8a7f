"""Evaluation target: a checkpoint folder, a trial of a sweep, or an MLflow run, with its images."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.analysis.result import SweepResult
from orchestrator.errors import OrchestratorError, SpecError
from orchestrator.planning.provenance import find_code
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
    """A trained model: its checkpoint, and its trial and plan if a sweep trained it."""

    name: str
    checkpoint: Path
    plan: SweepPlan | None = None
    trial: str | None = None
    epoch_checkpoints: Mapping[int, Path] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """Name that is safe for a folder.

        >>> Target("digits-1/t003", Path("x")).slug
        'digits-1-t003'
        """
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.name).strip("-.") or "model"


def find_target(text: str, *, results: str) -> Target:
    """Find a model by checkpoint folder, SWEEP/TRIAL, sweep (its best trial), or MLflow run id.

    Raises:
        OrchestratorError: no such model; says how each kind is written.
    """
    folder = Path(text)
    if (folder / STATE).is_file():
        checkpoint = folder.resolve()
        return Target(f"{checkpoint.parent.name}/{checkpoint.name}", checkpoint)
    if RUN_ID.fullmatch(text):
        from orchestrator.tracking.evaluations import trial_of_run  # noqa: PLC0415

        text = trial_of_run(text)
    elif folder.is_dir() and not (folder / "plan.json").is_file():
        raise OrchestratorError(
            f"{text}: a checkpoint folder must hold {STATE}, this one does not; name one, or SWEEP/TRIAL"
        )
    sweep, _, trial = text.rpartition("/") if re.search(r"/t\d+$", text) else (text, "", "")
    result = SweepResult.read(find_sweep(results, sweep))
    return target_of(result, result.named(trial) if trial else result.best())


def target_of(result: SweepResult, trial: TrialResult) -> Target:
    """Return the target for a trial: its last checkpoint, and the older ones that still exist.

    Raises:
        OrchestratorError: it is no classifier, or has no checkpoint.
    """
    trial.require_classifier()
    folder = result.folder
    paths = {saved.epoch: (folder.path / saved.path).resolve() for saved in trial.trial.checkpoints}
    return Target(
        name=trial.name,
        checkpoint=trial.checkpoint(),
        plan=result.plan,
        trial=trial.trial.id,
        epoch_checkpoints={epoch: path for epoch, path in paths.items() if (path / STATE).is_file()},
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
    """Load a target's model and images to a device.

    Args:
        target: the model to evaluate.
        data_root: folder of the data set, if it is not that of the training.
        epsilon: radius of attacks; by default the trial's `evaluation.robust_epsilon`.
        outliers: sets of other images, as the command line writes them.
        device: auto, cpu or cuda.
        seed: seed of every random choice.
        attacked: True if the evaluation needs a radius.

    Raises:
        SpecError: no radius is known, or a set of outliers cannot be read.
        CheckpointError: the checkpoint cannot be read.
        DatasetMissing, DatasetDamaged: the images cannot be read.
        ConfigError: a user's own data set cannot be made.
    """
    from trainables.data import load_splits, load_test  # noqa: PLC0415
    from trainables.engine import checkpoint  # noqa: PLC0415  imports torch
    from trainables.engine.placement import resolve_device  # noqa: PLC0415
    from trainables.evaluation.core.results import Subject  # noqa: PLC0415
    from trainables.evaluation.uncertainty.outliers import outliers as load_outliers  # noqa: PLC0415
    from trainables.models.loading import load_model, saved_config  # noqa: PLC0415

    config = saved_config(target.checkpoint, checkpoint.load(target.checkpoint))
    if config.data.is_own or config.model.is_own:
        find_code(str(Path.cwd()) if target.plan is None else target.plan.working_directory)
    data = _on_this_machine(config.data if data_root is None else config.data.model_copy(update={"root": data_root}))
    radius = config.evaluation.robust_epsilon if epsilon is None else epsilon
    if attacked and radius <= 0:
        requirement = "must be > 0 pixels of [0, 1], got 0"
        unknown = "the trial was not measured under attack, so no radius is known; give one in pixels of [0, 1]"
        raise SpecError([Problem("--epsilon", unknown if epsilon is None else requirement)])
    torch_device = resolve_device(device)
    splits, test = load_splits(data), load_test(data)
    try:
        outlier_sets = load_outliers(outliers, like=test, seed=seed)
    except ConfigError as error:
        raise SpecError(
            [Problem(name.replace("outliers.", "--ood "), message) for name, message in error.problems]
        ) from error
    return Subject(
        model=load_model(target.checkpoint, device=torch_device),
        train=splits.train.to(torch_device),
        val=splits.val.to(torch_device),
        test=test.to(torch_device),
        epsilon=radius,
        norm=config.evaluation.robust_norm,
        distance=config.snnl.distance,
        outliers={name: split.to(torch_device) for name, split in outlier_sets.items()},
        checkpoints=target.epoch_checkpoints,
        seed=seed,
    )


def _on_this_machine(data: DataConfig) -> DataConfig:
    """Stage a data set from S3 to the cache, and return its settings with the local root."""
    if data.root is None or not is_remote(data.root):
        return data
    from orchestrator.storage.staging import stage  # noqa: PLC0415
    from trainables.data import cache_folder  # noqa: PLC0415

    return data.model_copy(update={"root": str(stage(data.root, cache_folder(data)))})
