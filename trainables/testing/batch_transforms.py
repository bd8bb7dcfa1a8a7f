"""Check of a batch transform, for its author's tests."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from trainables.config.trial import TrialConfig
from trainables.mixup import Mix
from trainables.regularizers.batch_transforms import TransformedBatch, UserTransform, user_transform
from trainables.regularizers.preflight_checks import check_arguments
from trainables.seeding import generator, global_streams
from trainables.testing.trials import SMALL, check_resumed, train

__all__ = ["check_batch_transform"]

_COMBINED: Mapping[str, Mapping[str, Any]] = {
    "adversarial training": {"adversarial.epsilon": 0.05},
    "snnl on unmixed images": {"snnl.weight": 0.1},
    "snnl on the mixture": {"snnl.weight": 0.1, "snnl.on_mixed": True},
}


def check_batch_transform(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    image_shape: tuple[int, int, int],
    num_classes: int,
    alpha: float = 1.0,
    seed: int = 0,
    trial: Mapping[str, Any] | None = None,
) -> list[Mapping[str, float]]:
    """Check a transform of a training batch, and return the metrics of the epochs of a short trial.

    Its arguments fit its signature; batches of 2, 7 and 32 images keep their size, shape and type; pixels and targets
    stay in [0, 1], and targets sum to 1; its result depends on its generator alone, and on nothing global; and it
    changes something. Trials on digits, alone and with adversarial training and soft nearest neighbours, stay finite,
    and one that is interrupted ends in the same bits.

    Args:
        name: its import path, `module:function`, or any other name that `mixup.kind` takes.
        arguments: values of its own arguments, by name.
        image_shape: shape (C, H, W) of an image.
        num_classes: the number of classes K.
        alpha: the strength, `mixup.alpha`.
        seed: of the images and of the trial.
        trial: further parameters of the trials, such as `mixup.layers` or `model.name`.

    Raises:
        ConfigError: it cannot be imported or called, or returns no mixture of its batch.
        AssertionError: it breaks one of the other rules.
    """
    own = {f"mixup.args.{key}": value for key, value in (arguments or {}).items()}
    point = {"mixup.kind": name, "mixup.alpha": alpha, **own, "seed": seed, **(trial or {})}
    config = TrialConfig.from_point({**SMALL, **point})
    check_arguments(config)
    transform = user_transform(config.mixup)
    if transform is None:
        raise AssertionError(f"{name}: is one of Ravel's own; name a transform by its import path")
    for count in (2, 7, 32):
        _check_batch(transform, (count, *image_shape), num_classes, name, seed=seed)
    whole = train(name, point)
    check_resumed(name, point, whole)
    for what, further in _COMBINED.items():
        train(f"{name} with {what}", {**point, "epochs": 1, **further})
    return list(whole.metrics)


def _check_batch(transform: UserTransform, shape: tuple[int, ...], num_classes: int, name: str, *, seed: int) -> None:
    x_BCHW = torch.rand(shape, generator=generator(seed, "images"))
    y_B = torch.arange(shape[0]) % num_classes
    mixed = partial(transform, x_BCHW, y_B, num_classes=num_classes, boundaries=("input",))
    one, *others = [_parts(mixed(seed=seed + draw)) for draw in range(8)]
    for other_stream in range(2):
        with global_streams(other_stream, "elsewhere"):
            if not _equal(_parts(mixed(seed=seed)), one):
                raise AssertionError(f"{name}: two results of one seed differ; draw from the generator that it gets")
    if all(_equal(one, other) for other in others):
        raise AssertionError(f"{name}: 8 seeds give one result for {shape[0]} images; draw from the generator")


def _parts(mixed: TransformedBatch | Mix) -> tuple[torch.Tensor, ...]:
    if isinstance(mixed, TransformedBatch):
        return mixed.images, mixed.targets
    return torch.as_tensor(mixed.lam), mixed.permutation


def _equal(one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))
