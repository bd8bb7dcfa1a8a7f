"""Checks for authors of training functions, models, metrics and suites, for their own tests.

Each check raises an AssertionError that names the rule, or the error that a sweep would end with.
"""

import io
import tempfile
from collections.abc import Mapping
from typing import Any

import torch

from trainables.config.sections import ModelConfig
from trainables.config.values import Arguments
from trainables.evaluation.core.author_checks import check_metric, check_suite
from trainables.mixup import Mix
from trainables.models import TappedClassifier, build
from trainables.tasks.function.config import FunctionConfig
from trainables.tasks.function.run import check
from trainables.tasks.registry import function_task

__all__ = ["check_metric", "check_model", "check_suite", "check_task"]

_IMAGES = 8


def check_task(
    path: str, arguments: Mapping[str, Any] | None = None, *, epochs: int = 3, seed: int = 0
) -> list[Mapping[str, float]]:
    """Check a training function, and return the metrics of its epochs.

    Its arguments fit its signature; it yields metrics once for each epoch; two runs of one seed agree; and a trial that
    is saved after any epoch and restored continues with the same metrics, bit for bit.

    Args:
        path: its import path, `module:function`.
        arguments: values of its own arguments, by name.
        epochs: the number of epochs to train, at least 2.
        seed: the trial's seed.

    Raises:
        ConfigError, FunctionFailed: it breaks a rule of training functions.
        AssertionError: two runs, or a resumed one, differ.
    """
    point = {"task": path, **(arguments or {}), "epochs": epochs, "seed": seed, "device": "cpu"}
    task, config = function_task(path), FunctionConfig.from_point(point)
    check(config)
    whole = [_measured(report.metrics) for report in task.start(config).run_all()]
    for saved_after in range(1, epochs):
        loop = task.start(config)
        start = [_measured(loop.run_epoch().metrics) for _ in range(saved_after)]
        if start != whole[:saved_after]:
            raise AssertionError(f"{path}: two runs of seed {seed} differ within {saved_after} epochs")
        with tempfile.TemporaryDirectory() as folder:
            loop.save(folder)
            rest = [_measured(report.metrics) for report in task.restore(folder, config=config).run_all()]
        if rest != whole[saved_after:]:
            raise AssertionError(f"{path}: resumed after epoch {saved_after}, it measures other values; save its state")
    return whole


def check_model(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int = 0,
) -> tuple[str, ...]:
    """Check a network, and return the layers that `snnl.layers` can name.

    Its arguments fit its signature; it maps images to logits; its weights depend on the seed alone; every layer can be
    read, and a mixture at every boundary changes the logits; every parameter has a gradient; and its weights survive a
    checkpoint.

    Args:
        name: its import path, `module:Class`, or any other name that `model.name` takes.
        arguments: values of its own arguments, by name.
        image_shape: shape (C, H, W) of an image.
        num_classes: the number of classes K.
        seed: of the weights.

    Raises:
        ConfigError: it cannot be imported, built or run, or returns no logits.
        AssertionError: it breaks one of the other rules.
    """
    config = ModelConfig(name=name, args=Arguments(**(arguments or {})))

    def built(weights: int) -> TappedClassifier:
        return build(config, image_shape=image_shape, num_classes=num_classes, seed=weights)

    model = built(seed)
    x_BCHW = torch.rand(_IMAGES, *image_shape, generator=torch.Generator().manual_seed(seed))
    if not _same(built(seed), model):
        raise AssertionError(f"{name}: two networks of seed {seed} have different weights; draw them from torch alone")
    if _same(built(seed + 1), model):
        raise AssertionError(f"{name}: networks of seeds {seed} and {seed + 1} have equal weights")
    _check_layers_of(model.eval(), x_BCHW, name)
    _check_gradients(built(seed), x_BCHW, name)
    _check_checkpoint(model, built(seed + 1), x_BCHW, name)
    return model.readable


def _same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


@torch.no_grad()
def _check_layers_of(model: TappedClassifier, x_BCHW: torch.Tensor, name: str) -> None:
    plain = model.features(x_BCHW, taps=model.readable)
    for tap, activations in plain.taps.items():
        if len(activations) != _IMAGES or not activations.isfinite().all():
            shape = tuple(activations.shape)
            raise AssertionError(
                f"{name}: layer {tap} must have a finite row for each of {_IMAGES} images, got {shape}"
            )
    permutation = torch.arange(_IMAGES).roll(1)
    for boundary in model.mixable:
        mixed = model.features(x_BCHW, mix=Mix(boundary, 0.5, permutation))
        if torch.equal(mixed.logits, plain.logits):
            raise AssertionError(f"{name}: a mixture at {boundary} does not change the logits")


def _check_gradients(model: TappedClassifier, x_BCHW: torch.Tensor, name: str) -> None:
    model.train()(x_BCHW).logsumexp(1).sum().backward()
    without = [path for path, part in model.named_parameters() if part.requires_grad and part.grad is None]
    if without:
        raise AssertionError(f"{name}: {', '.join(without)} have no gradient; use them, or set requires_grad to False")


@torch.no_grad()
def _check_checkpoint(model: TappedClassifier, other: TappedClassifier, x_BCHW: torch.Tensor, name: str) -> None:
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    if not torch.equal(other.eval()(x_BCHW), model.eval()(x_BCHW)):
        raise AssertionError(f"{name}: restored from its state_dict, it makes other logits; register what it lacks")


def _measured(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """Return the metrics that do not measure time."""
    return {name: value for name, value in metrics.items() if not name.startswith(("time/", "cost/"))}
