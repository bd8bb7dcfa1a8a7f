"""Checks of metrics and suites for their authors, under their names in `trainables.testing`."""

from collections.abc import Mapping
from typing import Any

from trainables.config.own_metrics import OwnMetrics
from trainables.config.sections import DataConfig, ModelConfig
from trainables.data import load_splits, load_test
from trainables.evaluation.core.own_metrics import check_metrics
from trainables.evaluation.core.own_suites import own_suite
from trainables.evaluation.core.report import Analysis, document
from trainables.evaluation.core.results import EvaluationBudget, Subject, no_progress
from trainables.models import build

__all__ = ["check_metric", "check_suite"]

LABEL = "checked"


def check_metric(
    path: str, arguments: Mapping[str, Any] | None = None, *, num_classes: int, seed: int = 0
) -> Mapping[str, float]:
    """Check a metric, and return what it measures on random logits, by the name below its label; '' if it is one.

    Its arguments fit its signature; it returns a finite number, or numbers by name; it leaves its inputs as they are;
    it returns the same for the same inputs; and the unit and direction that it declares are a text and 'max' or 'min'.

    Args:
        path: its import path, `module:attribute`.
        arguments: values of its own arguments, by name.
        num_classes: the number of classes K.
        seed: of the logits.

    Raises:
        ConfigError: it breaks a rule.

    >>> list(check_metric("torch.nn.functional:cross_entropy", {"label_smoothing": 0.1}, num_classes=3))
    ['']
    """
    metrics = OwnMetrics(**{LABEL: {"use": path, "args": dict(arguments or {})}})
    measured = check_metrics(metrics, num_classes=num_classes, seed=seed)
    return {name.removeprefix(f"val/{LABEL}").removeprefix("/"): value for name, value in measured.items()}


def check_suite(
    path: str, *, subject: Subject | None = None, budget: EvaluationBudget | None = None
) -> dict[str, float]:
    """Check a suite, and return its metrics.

    Its results have finite metrics under its own name, a table, and a figure that JSON can hold; two runs agree; and
    the model and the images are afterwards as before.

    Args:
        path: its import path, `module:function`.
        subject: the model and images; by default an untrained network and the embedded digits.
        budget: the effort; by default 200 images.

    Raises:
        ConfigError: it breaks a rule.
        AssertionError: two runs differ.
    """
    suite, subject = own_suite(path), subject or _digits()
    budget = budget or EvaluationBudget(images=200)
    first, second = (document(path, suite(subject, budget, no_progress), key="", seconds=0).analyses for _ in range(2))
    different = [one.name for one, other in zip(first, second, strict=True) if not _same(one, other)]
    if different:
        remedy = "draw from global generators, which are seeded, or by subject.seed, and keep no state"
        raise AssertionError(f"{path}: two runs of one seed differ in {', '.join(different)}; {remedy}")
    return {name: value for analysis in first for name, value in analysis.metrics.items()}


def _same(one: Analysis, other: Analysis) -> bool:
    return repr(one) == repr(other)


def _digits() -> Subject:
    splits, test = load_splits(DataConfig()), load_test(DataConfig())
    model = build(ModelConfig(name="mlp"), image_shape=splits.image_shape, num_classes=splits.num_classes)
    return Subject(model.eval(), splits.train, splits.val, test, epsilon=0.1)
