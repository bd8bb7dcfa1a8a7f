"""Checks of users' code in a training step before a trial starts: its arguments, and steps on random images.

It is that of regularizers, of the attack, of the batch transform and of the optimizer.

The steps find code that raises, a result of the wrong type or shape or without a gradient, and a memory that changes
its structure, in the seconds that a small batch takes on a CPU.
Shapes: B images, C channels, H by W pixels, K classes.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial

import torch
from torch import Tensor
from torch.nn import functional

from trainables.config.sections import ModelConfig
from trainables.config.trial import TrialConfig
from trainables.data import shape_of
from trainables.engine.optimization import own_optimizers
from trainables.errors import ConfigError, Problem
from trainables.models import TappedClassifier, build
from trainables.models.tapped import LOGITS
from trainables.regularizers.batch_transforms import user_transform
from trainables.regularizers.protocol import Batch
from trainables.regularizers.resolved_terms import WeightedTerm, resolve_terms
from trainables.regularizers.training_attacks import user_attack
from trainables.regularizers.user_terms import UserTerm
from trainables.regularizers.user_terms import build as build_term
from trainables.seeding import generator

__all__ = ["check_arguments", "check_regularizers"]

IMAGES = 32
EPSILON = 0.1
TRANSFORMS = 3


def check_arguments(config: TrialConfig) -> None:
    """Check the arguments of all code of a user's in a step, with which all but the attack is built or called.

    Raises:
        ConfigError: with every problem.
    """
    _, num_classes = shape_of(config.data)
    checks: list[Callable[[], object]] = [
        partial(_check_signature, config),
        partial(user_attack, config.adversarial),
        partial(user_transform, config.mixup),
        partial(_try_constructor, config),
        partial(_try_transform, config),
    ]
    for label, settings in config.regularizers.by_label.items():
        checks.append(partial(build_term, label, settings, num_classes=num_classes))
    with torch.random.fork_rng(devices=[]):  # a user's code may draw from the global generator
        _run(checks)


def check_regularizers(config: TrialConfig) -> None:
    """Check steps of a user's regularizers, attack and optimizer, and their layers; no data set is read.

    Raises:
        ConfigError: with every problem.
    """
    image_shape, num_classes = shape_of(config.data)
    model = build(config.model, image_shape=image_shape, num_classes=num_classes)
    terms = resolve_terms(config, model, num_classes=num_classes)
    images_BCHW = _random_images(config, image_shape)
    checks: list[Callable[[], object]] = [partial(_try_steps, term, model, images_BCHW) for term in terms]
    checks.append(partial(_try_attack, config, model, images_BCHW))
    if config.optimizer.is_own:
        checks.append(partial(own_optimizers.check_steps, config.optimizer, model, seed=config.seed))
    with torch.random.fork_rng(devices=[]):  # a user's code may draw from the global generator
        _run(checks)


def _run(checks: Iterable[Callable[[], object]]) -> None:
    problems = list[Problem]()
    for check in checks:
        try:
            check()
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(dict.fromkeys(problems))


def _check_signature(config: TrialConfig) -> None:
    settings = config.optimizer
    if settings.is_own and (problems := own_optimizers.argument_problems(settings, stated=settings.model_fields_set)):
        raise ConfigError(problems)


def _try_constructor(config: TrialConfig) -> None:
    """Build a user's optimizer over parameters without values, or with them if it reads them."""
    if not config.optimizer.is_own or own_optimizers.argument_problems(config.optimizer):
        return
    image_shape, num_classes = shape_of(config.data)
    try:
        own_optimizers.build_own(config.optimizer, _model(config.model, image_shape, num_classes, "meta"))
    except (ConfigError, RuntimeError):  # a tensor without values may be why
        own_optimizers.build_own(config.optimizer, _model(config.model, image_shape, num_classes, "cpu"))


@lru_cache(maxsize=2)
def _model(config: ModelConfig, image_shape: tuple[int, int, int], num_classes: int, device: str) -> TappedClassifier:
    return build(config, image_shape=image_shape, num_classes=num_classes, device=device)


def _try_transform(config: TrialConfig) -> None:
    settings = config.mixup
    transform = user_transform(settings if settings.alpha else settings.model_copy(update={"alpha": 1.0}))
    if transform is None:
        return
    image_shape, num_classes = shape_of(config.data)
    images_BCHW = _random_images(config, image_shape)
    labels_B = torch.arange(len(images_BCHW)) % num_classes
    boundaries = tuple(settings.layers.split("+"))  # which of them the model has is checked elsewhere
    for step in range(TRANSFORMS):
        transform(images_BCHW, labels_B, num_classes=num_classes, boundaries=boundaries, seed=config.seed + step)


def _random_images(config: TrialConfig, image_shape: tuple[int, int, int]) -> Tensor:
    count = min(config.batch_size, IMAGES)
    return torch.rand(count, *image_shape, generator=generator(config.seed, "preflight"))


def _try_attack(config: TrialConfig, model: TappedClassifier, images_BCHW: Tensor) -> None:
    attack = user_attack(config.adversarial)
    if attack is not None:
        settings = config.adversarial.model_copy(update={"epsilon": config.adversarial.epsilon or EPSILON})
        attack(model, images_BCHW, model(images_BCHW).argmax(1), settings=settings, seed=config.seed)


def _try_steps(term: WeightedTerm, model: TappedClassifier, images_BCHW: Tensor) -> None:
    if not isinstance(term.regularizer, UserTerm):
        return
    activations = model.features(images_BCHW, taps=term.taps)
    labels_B = torch.arange(len(images_BCHW)) % activations.logits.shape[1]
    targets_BK = functional.one_hot(labels_B, activations.logits.shape[1]).to(images_BCHW.dtype)
    if term.on_mixed:
        targets_BK = torch.lerp(targets_BK, targets_BK.flip(0), 0.3)
    batch = Batch(
        taps={tap: activations.taps[tap] for tap in term.taps},
        logits=activations.logits,
        labels=labels_B,
        targets=dict.fromkeys((*term.taps, LOGITS), targets_BK),
        mixed=term.on_mixed,
        images=images_BCHW,
        forward=lambda x_BCHW, shift=None: model.features(x_BCHW, mix=shift, taps=term.taps),
    )
    first = term.regularizer.term(batch, {})
    term.regularizer.check_gradient(first.value, model)
    term.regularizer.term(batch, first.memory)
