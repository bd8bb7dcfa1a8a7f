"""Predictions of a trained classifier for image files: from an exported folder, or from a trial of a sweep.

A probability is the model's softmax. It says how the model divides its belief among its classes, and nothing about an
image that is unlike those of the training.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.result import SweepResult
from orchestrator.errors import OrchestratorError
from orchestrator.export.model_document import DOCUMENT, ModelDocument
from orchestrator.export.model_folder import classes_of
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.tracking.registry import image_shape
from trainables.errors import ImageUnreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from trainables.data.image_files import ImageFile

OF_TRIAL = re.compile(r"(.+)[:/](t\d+)")
BATCH_SIZE = 64


@dataclass(frozen=True)
class Predictor:
    """Classifier that predicts: its logits (N, K) of images (N, C, H, W) in [0, 1], and its classes in their order."""

    name: str
    logits: Callable[[Tensor], Tensor]
    shape: tuple[int, int, int]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Prediction:
    """Probability of each class for one file, the most probable first: (class, index of its logit, probability).

    ``size`` (width, height) and Pillow's ``mode`` are those of the file, before it was made an image of the model.
    """

    path: str
    size: tuple[int, int]
    mode: str
    is_resized: bool
    is_converted: bool
    ranked: tuple[tuple[str, int, float], ...]

    def as_json(self, top: int) -> dict[str, Any]:
        """Return plain data for ``--json``."""
        width, height = self.size
        classes = [
            {"class": name, "index": index, "probability": probability}
            for name, index, probability in self.ranked[:top]
        ]
        return {"image": self.path, "width": width, "height": height, "mode": self.mode, "classes": classes}


def find_predictor(text: str, *, storage: str) -> Predictor:
    """Find a model: an exported folder, SWEEP for its best trial, or SWEEP:TRIAL.

    Raises:
        OrchestratorError: no such model, or one without a program.
        StorageError, CheckpointError: its checkpoint cannot be read.
    """
    folder = Path(text).expanduser()
    if (folder / DOCUMENT).is_file():
        return of_folder(folder)
    if folder.is_dir() and not (folder / "plan.json").is_file():
        raise OrchestratorError(f"{text}: an exported model must hold {DOCUMENT}; name one, or SWEEP, or SWEEP:TRIAL")
    match = OF_TRIAL.fullmatch(text)
    sweep, trial = (match[1], match[2]) if match is not None else (text, None)
    result = SweepResult.read(find_sweep(storage, sweep))
    chosen = result.named(trial) if trial else result.best()
    shape, _ = image_shape(chosen.checkpoint())
    return Predictor(chosen.name, chosen.load_model(), shape, classes_of(chosen))


def of_folder(folder: Path) -> Predictor:
    """Load an exported model. It can run code from the file, as a checkpoint cannot: load what you trust.

    Raises:
        OrchestratorError: the folder has no program, or one that this version of torch cannot read.
    """
    import torch  # noqa: PLC0415  a second that other commands do not pay

    document = ModelDocument.parse((folder / DOCUMENT).read_bytes(), place=str(folder / DOCUMENT))
    if document.program is None:
        remedy = f"predict with the sweep: ravel predict {document.sweep}:{document.trial}"
        raise OrchestratorError(f"{folder}: has no program, as torch.export could not express it; {remedy}")
    path = folder / document.program
    try:
        program = torch.export.load(path).module()
    except Exception as error:  # a missing or damaged file, or a format of another version: errors of many kinds
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:160]}"
        wrote = document.versions.get("torch")
        remedy = f"torch {wrote} wrote it, this is {torch.__version__}; export the model again"
        raise OrchestratorError(f"{path}: cannot be loaded ({reason}); {remedy}") from error
    return Predictor(folder.name, program, document.image.shape, document.classes)


def predict(predictor: Predictor, paths: Sequence[str | Path]) -> tuple[list[Prediction], list[ImageUnreadable]]:
    """Predict every image, and return the files that are none; one bad file keeps no other from its prediction.

    Example:
        >>> predictions, bad = predict(of_folder(Path("digits-model")), ["seven.png"])  # doctest: +SKIP
        >>> predictions[0].ranked[0]  # doctest: +SKIP
        ('7', 7, 0.9981)
    """
    from trainables.data.image_files import read_image  # noqa: PLC0415  imports torch

    read: list[tuple[str, ImageFile]] = []
    bad: list[ImageUnreadable] = []
    predictions: list[Prediction] = []
    for path in paths:
        try:
            read.append((str(path), read_image(path, shape=predictor.shape)))
        except ImageUnreadable as error:
            bad.append(error)
        if len(read) == BATCH_SIZE:
            predictions += _predicted(predictor, read)
            read = []
    return predictions + _predicted(predictor, read), bad


def notes(predictor: Predictor, predictions: Sequence[Prediction]) -> list[str]:
    """Return a line on the files whose size, and one on those whose channels, were made those of the model."""
    channels, height, width = predictor.shape
    resized = [f"{item.path} ({item.size[0]}x{item.size[1]})" for item in predictions if item.is_resized]
    converted = [f"{item.path} ({item.mode})" for item in predictions if item.is_converted]
    colour = "grey" if channels == 1 else "RGB"
    lines = {
        f"resized and cut to {width}x{height}, the size of the training images": resized,
        f"converted to {colour}, as the training images are": converted,
    }
    return [f"{line}: {_some(names)}" for line, names in lines.items() if names]


def _some(names: list[str], most: int = 4) -> str:
    """Return the first names of a list.

    >>> _some(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _predicted(predictor: Predictor, read: list[tuple[str, ImageFile]]) -> list[Prediction]:
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    from trainables.evaluation.core.prediction import as_pixels  # noqa: PLC0415

    if not read:
        return []
    images_NCHW = as_pixels(torch.from_numpy(np.stack([image.pixels_CHW for _, image in read])))
    with torch.inference_mode():
        probabilities_NK = predictor.logits(images_NCHW).double().softmax(1)
    values_NK, order_NK = probabilities_NK.sort(dim=1, descending=True, stable=True)
    ranked = [
        tuple((predictor.classes[k], k, p) for k, p in zip(order_K, values_K, strict=True))
        for order_K, values_K in zip(order_NK.tolist(), values_NK.tolist(), strict=True)
    ]
    return [
        Prediction(path, image.size, image.mode, image.is_resized, image.is_converted, classes)
        for (path, image), classes in zip(read, ranked, strict=True)
    ]
