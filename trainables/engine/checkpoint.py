"""Checkpoints: versioned, written atomically, read without running any code from the file.

A checkpoint is a directory with one file, `state.pt`: a dictionary of tensors, numbers and strings
that `torch.load(weights_only=True)` accepts. It is written to a temporary file, flushed to the disk and
renamed, so a reader sees the old or the new checkpoint, never a part of one.
"""

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from trainables.errors import CheckpointError, short_repr

__all__ = ["FILE_NAME", "FORMAT", "Checkpoint", "load", "reread", "save"]

FILE_NAME = "state.pt"
FORMAT = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State that a trial needs to continue after `epoch`, bit for bit on the same kind of device.

    It holds no scheduler state: the learning rate is a function of the step, which `epoch` determines. `memory` is
    what regularizers keep from step to step, by the place of their parameters.
    """

    config: str
    epoch: int
    model: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    streams: Mapping[str, Any]
    average: Mapping[str, Any] = field(default_factory=dict)
    memory: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pgd_accuracy: float | None = None
    image_shape: Sequence[int] | None = None
    num_classes: int | None = None
    class_names: Sequence[str] = ()
    """Names of the classes in the order of the outputs, where the data set names them; not in a file without any."""

    @property
    def evaluated_model(self) -> Mapping[str, Any]:
        """Weights that were evaluated: the averaged ones if the trial averages.

        >>> Checkpoint("{}", 1, {"w": 1.0}, {}, {}, average={"updates": 9, "model": {"w": 0.5}}).evaluated_model
        {'w': 0.5}
        """
        averaged: Mapping[str, Any] = self.average.get("model", self.model)
        return averaged


def save(directory: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write the checkpoint into `directory`, which is created if necessary; replace an older checkpoint."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{FILE_NAME}.{os.getpid()}"
    content = {"format": FORMAT, **{part.name: getattr(checkpoint, part.name) for part in fields(checkpoint)}}
    if not checkpoint.class_names:
        del content["class_names"]
    try:
        with unfinished.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(folder / FILE_NAME)
    finally:
        unfinished.unlink(missing_ok=True)
    _flush_directory(folder)


def load(directory: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> Checkpoint:
    """Read the checkpoint of a directory, its tensors on `device`.

    Raises:
        CheckpointError: no checkpoint, a damaged file, or an unknown format.
    """
    path = Path(directory) / FILE_NAME
    content = _read(path, device)
    version = content.pop("format", None)
    if version == 1:
        content, version = _from_format_1(path, content), FORMAT
    if version != FORMAT:
        raise CheckpointError(
            str(path),
            f"has format {short_repr(version)}, this version reads formats 1 to {FORMAT}",
            "read it with the version of ravel that wrote it",
        )
    try:
        return Checkpoint(**_with_memory(content))
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(str(path), f"lacks or adds a part ({error})", _RESTART) from error


def reread(value: object) -> Any:
    """Return a value as a checkpoint would give it back.

    Raises:
        pickle.PickleError, AttributeError, TypeError, RuntimeError: no checkpoint can hold it.

    >>> reread({"step": 3})
    {'step': 3}
    """
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _from_format_1(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Migrate a checkpoint of format 1, which had other names for a model and an attack."""
    if "config" not in content:
        return content
    try:
        config = json.loads(content["config"])
        model, adversarial = {**config.get("model", {})}, {**config.get("adversarial", {})}
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(str(path), f"describes no trial ({type(error).__name__})", _RESTART) from error
    if model.get("name", "cnn") == "cnn":
        model["name"] = "cnn_bn"
    if adversarial.get("attack", "fgsm") == "fgsm":
        adversarial["attack"] = "fgsm_rs"
    migrated = {**config, "model": model, "adversarial": adversarial, "precision": "float32"}
    return {**content, "config": json.dumps(migrated)}


def _with_memory(content: dict[str, Any]) -> dict[str, Any]:
    """Migrate a checkpoint that holds learned temperatures alone, [log beta, origin] by tap."""
    if "temperatures" not in content:
        return content
    learned = content.pop("temperatures")
    memory = {
        f"{tap}/{name}": value for tap, pair in learned.items() for name, value in zip(_LEARNED, pair, strict=True)
    }
    return {**content, "memory": {"snnl": memory} if memory else {}}


_LEARNED = ("log_beta", "origin")
_RESTART = "start from an older checkpoint, or from the beginning"


def _read(path: Path, device: torch.device | str) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(str(path), "does not exist", "give the directory of a checkpoint") from error
    except OSError as error:
        raise CheckpointError(str(path), f"cannot be read ({error.strerror or error})", _RESTART) from error
    except Exception as error:  # a damaged pickle may raise any error
        reason = f"is truncated or damaged ({type(error).__name__})"
        raise CheckpointError(str(path), reason, _RESTART) from error
    if not isinstance(content, dict):
        raise CheckpointError(str(path), f"holds a {type(content).__name__}, no checkpoint", _RESTART)
    return content


def _flush_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
