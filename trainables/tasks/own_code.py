"""Check of users' own code by import and signature, whatever its kind; nothing is built or called, no image is read.

Each kind of code has a line in `_parts`, which names the part of a configuration that decides, and one in `_checks`.
A configuration without code of a user has no parts, and imports nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from trainables.config.adversarial import ATTACK_NAMES
from trainables.config.regularizers import NAMES as REGULARIZER_NAMES
from trainables.config.trial import TrialConfig
from trainables.errors import ConfigError, Problem
from trainables.tasks.function.config import FunctionConfig
from trainables.tasks.lightning.config import LightningConfig
from trainables.tasks.registry import TASK, AnyConfig, task_of

__all__ = ["signature_problems"]


def signature_problems(configs: Iterable[AnyConfig]) -> list[Problem]:
    """Return the wrong names and arguments of users' own code in some trials, each once; imports what they name.

    >>> [problem] = signature_problems([TrialConfig.from_point({"data.name": "math:sqrtt"})])
    >>> problem.path
    'data.name'
    >>> signature_problems([TrialConfig()])
    []
    """
    parts = {(kind, repr(part)): part for config in configs for kind, part in _parts(config)}  # hashes omit arguments
    checks = _checks() if parts else {}
    problems = dict.fromkeys(problem for (kind, _), part in parts.items() for problem in checks[kind](part))
    return list(problems)


def _parts(config: AnyConfig) -> Iterator[tuple[str, Any]]:
    """Yield the kinds of users' code in a trial, each with the settings that name it."""
    if isinstance(config, FunctionConfig | LightningConfig):
        yield "loop", config
        return
    if config.data.is_own or config.data.args.by_name:  # sets of arrays and of Hugging Face have arguments
        yield "data", config.data
    if not isinstance(config, TrialConfig):
        return
    if config.model.is_own:
        yield "model", config.model
    if config.optimizer.is_own:
        yield "optimizer", config.optimizer
    if config.adversarial.attack not in ATTACK_NAMES:
        yield "attack", config.adversarial
    if config.mixup.is_own:
        yield "mixture", config.mixup
    for label, settings in config.regularizers.by_label.items():
        if settings.use not in REGULARIZER_NAMES:
            yield "regularizer", (label, settings.model_copy(update={"weight": 0.0}))
    if config.metrics.by_label:
        yield "metrics", config.metrics


def _checks() -> Mapping[str, Callable[[Any], Iterable[Problem]]]:
    """Return the check of each kind of code; imports torch."""
    from trainables.data.own.source import maker_problems  # noqa: PLC0415
    from trainables.engine.optimization import own_optimizers  # noqa: PLC0415
    from trainables.evaluation.core import own_metrics  # noqa: PLC0415
    from trainables.models import own  # noqa: PLC0415
    from trainables.regularizers.batch_transforms import user_transform  # noqa: PLC0415
    from trainables.regularizers.training_attacks import user_attack  # noqa: PLC0415
    from trainables.regularizers.user_terms import signature_problems as term_problems  # noqa: PLC0415

    return {
        "loop": lambda config: _raised(import_module(task_of({TASK: config.task}).run).check, config),
        "data": maker_problems,
        "model": own.argument_problems,
        "optimizer": lambda part: own_optimizers.argument_problems(part, stated=part.model_fields_set),
        "attack": lambda part: _raised(user_attack, part),
        "mixture": lambda part: _raised(user_transform, part),
        "regularizer": lambda part: term_problems(*part),
        "metrics": own_metrics.static_problems,
    }


def _raised(check: Callable[[Any], object], part: Any) -> tuple[Problem, ...]:
    try:
        check(part)
    except ConfigError as error:
        return error.problems
    return ()
