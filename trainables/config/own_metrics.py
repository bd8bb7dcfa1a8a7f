"""Metrics of a user's own in a trial, by label: `metrics.LABEL.use`, reported as `val/LABEL`.

    metrics.cost.use: pricing:expected_cost      a function or class by import path, or a registered name
    metrics.cost.args.missed: 20                 one of its arguments

Nothing of the user is imported here: `trainables.evaluation.core.own_metrics` does that, and checks it.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Self

from pydantic import model_validator

from trainables.config.values import Arguments, Frozen
from trainables.errors import short_repr
from trainables.import_paths import name_in

__all__ = ["GROUP", "REGISTRY", "MetricConfig", "OwnMetrics", "is_own", "labels_among"]

GROUP = "metrics"
REGISTRY = "ravel.metrics"
"""Entry point group in which packages register metrics."""
RESERVED = (
    *("accuracy", "nll", "ece", "robust_accuracy", "zero_gradients", "entanglement_chance"),
    *("real_fake_entanglement", "real_anchors_entanglement", "fake_anchors_entanglement"),
    *("real_fake_recall", "real_fake_precision", "real_fake_nn_accuracy", "real_anchors_nn_accuracy"),
    *("fake_anchors_nn_accuracy", "real_fake_chance", "real_fake_ceiling", "mode_kl", "modes_covered"),
    *("feature_entanglement", "feature_ceiling", "feature_recall", "feature_precision", "feature_nn_accuracy"),
    *("manifold_precision", "manifold_recall"),
)
"""Names of other metrics below `val/`, which no label may have."""
_LABEL = r"[a-z][a-z0-9_]*"
_USE = re.compile(rf"{GROUP}\.({_LABEL})\.use")


class MetricConfig(Frozen):
    """One metric: what it is, and the arguments of its function or class.

    >>> MetricConfig(use="pricing:expected_cost", args={"missed": 20}).args.by_name
    {'missed': 20}
    """

    use: Annotated[str, name_in((), group=REGISTRY)]
    """Function or class by import path, or a registered name."""
    args: Arguments = Arguments()
    """Its arguments, by name."""


class OwnMetrics(Arguments):
    """Metrics by label, in the order of their labels.

    >>> OwnMetrics(cost={"use": "pricing:expected_cost"}).by_label["cost"].use
    'pricing:expected_cost'
    """

    names: ClassVar = re.compile(rf"{_LABEL}\.(use|args\.[A-Za-z_]\w*)")
    form: ClassVar = f"LABEL.use or {GROUP}.LABEL.args.NAME, and a label of small letters, digits and _"

    __pydantic_extra__: dict[str, MetricConfig]

    @property
    def by_label(self) -> Mapping[str, MetricConfig]:
        """Metrics by label, sorted, so that their order does not depend on that of a file."""
        return dict(sorted((self.__pydantic_extra__ or {}).items()))

    @model_validator(mode="after")
    def _labels_are_free(self) -> Self:
        for label in self.by_label:
            if label in RESERVED:
                raise ValueError(f"must have another label, as val/{label} is Ravel's own, got {short_repr(label)}")
        return self


def labels_among(names: Iterable[str]) -> tuple[str, ...]:
    """Return the labels of a user's own metrics among the parameters of a trial, sorted.

    >>> labels_among(["metrics.cost.use", "metrics.cost.args.missed", "epochs"])
    ('cost',)
    """
    return tuple(sorted(match[1] for name in names if (match := _USE.fullmatch(name))))


def is_own(metric: str, labels: Iterable[str]) -> bool:
    """Return True if a metric is that of a label, `val/LABEL`, or one of several, `val/LABEL/NAME`.

    >>> is_own("val/cost", ["cost"]), is_own("val/cost/worst", ["cost"]), is_own("val/costs", ["cost"])
    (True, True, False)
    """
    return any(metric == f"val/{label}" or metric.startswith(f"val/{label}/") for label in labels)
