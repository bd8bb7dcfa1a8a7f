"""Exported model of a trial: a folder with the program, the weights, a description, and a page on its use."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, cast

from orchestrator.errors import OrchestratorError
from orchestrator.export.model_document import DOCUMENT, PAGE, PROGRAM, WEIGHTS, Image, ModelDocument, Score, page
from orchestrator.tracking.registry import class_names, image_shape

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.analysis.result import SweepResult, TrialResult
    from orchestrator.export.output import Output
    from trainables.models.tapped import TappedClassifier

LIBRARIES = ("ravel-sweeps", "torch", "torchvision")


def write_model(result: SweepResult, trial: TrialResult, output: Output) -> Path:
    """Write the model of a trial, from its last checkpoint, as a folder.

    Raises:
        OrchestratorError: it is no classifier, or has no checkpoint; or torch.export cannot express the network, and
            the folder has its weights without a program.
        StorageError, CheckpointError: the checkpoint cannot be read.
        ConfigError: the network can no longer be built.
        MissingExtraError: safetensors is not installed; names the extra.
    """
    from orchestrator.export.program import NotExported, program_bytes, weights_bytes  # noqa: PLC0415  imports torch

    model, reason = cast("TappedClassifier", trial.load_model()), None
    (shape, _), classes = image_shape(trial.checkpoint()), classes_of(trial)
    origin = {"sweep": result.sweep, "trial": trial.trial.id, "epoch": str(trial.trial.epoch)}
    weights = weights_bytes(model, origin)
    with output.folder() as folder:
        try:
            (folder / PROGRAM).write_bytes(program_bytes(model, shape))
        except NotExported as error:
            reason = str(error)
        document = _document(result, trial, model=model, shape=shape, classes=classes, reason=reason)
        (folder / WEIGHTS).write_bytes(weights)
        (folder / DOCUMENT).write_text(document.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (folder / PAGE).write_text(page(document), encoding="utf-8")
    if reason is not None:
        remedy = f"{output.path} has its weights ({WEIGHTS}), its description and a page on their use"
        raise OrchestratorError(f"{document.network}: torch.export cannot express it ({reason}); {remedy}")
    return output.path


def classes_of(trial: TrialResult) -> tuple[str, ...]:
    """Return the names of a trial's classes in the order of its logits; their indices where its data set names none."""
    _, num_classes = image_shape(trial.checkpoint())
    return tuple(class_names(trial.checkpoint())) or tuple(str(index) for index in range(num_classes))


def network_of(trial: TrialResult) -> str:
    """Return the name of a trial's network."""
    from trainables.engine import checkpoint  # noqa: PLC0415  imports torch
    from trainables.models.loading import saved_config  # noqa: PLC0415

    return saved_config(trial.checkpoint(), checkpoint.load(trial.checkpoint())).model.name


def _document(
    result: SweepResult,
    trial: TrialResult,
    *,
    model: TappedClassifier,
    shape: tuple[int, int, int],
    classes: tuple[str, ...],
    reason: str | None,
) -> ModelDocument:
    objective = result.plan.spec.objective
    channels, height, width = shape
    return ModelDocument(
        sweep=result.sweep,
        trial=trial.trial.id,
        status=trial.trial.status,
        epoch=trial.trial.epoch,
        objective=Score(
            metric=objective.metric,
            mode=objective.mode,
            value=trial.score,
            epoch=max(trial.trial.values(objective.metric)),
        ),
        classes=classes,
        image=Image(
            channels=channels,
            height=height,
            width=width,
            mean=tuple(model.mean.flatten().tolist()),
            std=tuple(model.std.flatten().tolist()),
        ),
        network=network_of(trial),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        config=trial.config,
        versions={**{name: version(name) for name in LIBRARIES}, "python": platform.python_version()},
        program=PROGRAM if reason is None else None,
        reason=reason,
    )
