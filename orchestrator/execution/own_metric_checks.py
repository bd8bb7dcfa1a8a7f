"""Preflight checks of what a user's own code measures: its declarations, and its values on random logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.planning.declared_metrics import declared_metrics, direction_problems
from search_spaces import Problem
from trainables.config.trial import TrialConfig
from trainables.errors import ConfigError, TrainableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.spec.model import SweepSpec
    from trainables.tasks.registry import AnyConfig


def declaration_problems(spec: SweepSpec) -> list[Problem]:
    """Return the problems of declared units and directions, and the objectives that contradict one."""
    try:
        return direction_problems(spec, declared_metrics(spec))
    except ConfigError as error:
        return [Problem(path, message) for path, message in error.problems]


def metric_problems(configs: Iterable[AnyConfig], objectives: Iterable[str]) -> list[str]:
    """Return the problems of a user's own metrics, the same in every trial, measured on random logits."""
    config = next((config for config in configs if isinstance(config, TrialConfig) and config.metrics.by_label), None)
    if config is None:
        return []
    from trainables.data import shape_of  # noqa: PLC0415  imports torch
    from trainables.evaluation.core.own_metrics import check_metrics  # noqa: PLC0415

    try:
        _, num_classes = shape_of(config.data)
        check_metrics(config.metrics, num_classes=num_classes, objectives=objectives)
    except TrainableError as error:
        return str(error).splitlines()
    return []
