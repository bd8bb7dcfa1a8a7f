"""List of all metric names, with unit and direction.

A name that ends in `<tap>` or `<label>` is a family: one metric for each tap of the model, or for each regularizer
that has a label, and for what it reports below its label.

>>> lookup("val/accuracy").direction
'max'
>>> lookup("entanglement/conv2").unit
'nats'
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from trainables.errors import ConfigError, Problem, short_repr, shortened, suggestion

__all__ = [
    "CLASSIFIER_METRICS",
    "GAN_METRICS",
    "METRICS",
    "SYSTEM_METRICS",
    "Direction",
    "Metric",
    "declared_by",
    "lookup",
]

Direction = Literal["max", "min"]
DIRECTIONS = ("max", "min", None)


@dataclass(frozen=True, slots=True)
class Metric:
    """Metric; `direction` is None where neither a higher nor a lower value is better.

    `minor`: the event log has it, and a tracking server that takes a limited number only after all others.
    A user who declares a metric under its name leaves `name` out.

    >>> Metric(unit="EUR", direction="min").unit
    'EUR'
    """

    name: str = ""
    unit: str = ""
    direction: Direction | None = None
    description: str = ""
    minor: bool = False


_COSTS = (
    Metric("time/epoch_s", "s", "min", "wall time of the epoch, its evaluation included"),
    Metric("time/images_per_s", "1/s", "max", "training images per second of training time"),
    Metric("cost/gpu_s", "s", "min", "seconds this epoch held a GPU (0 on CPU)"),
)

CLASSIFIER_METRICS: tuple[Metric, ...] = (
    Metric("train/loss", "nats", "min", "objective of the training steps, mean over the epoch"),
    Metric("train/ce", "nats", "min", "cross-entropy part of train/loss, clean and adversarial as weighted"),
    Metric("train/snnl", "nats", None, "soft nearest neighbour loss summed over its layers, before its weight"),
    Metric("train/snnl_chance", "nats", None, "chance level of train/snnl: its limit at infinite temperature"),
    Metric("train/snnl_singletons", "images", None, "images per batch that are alone in their class, left out of snnl"),
    Metric("train/<label>", "own", None, "value of a regularizer before its weight; LABEL/NAME is a metric of its own"),
    Metric("train/kl", "nats", "min", "divergence of the attacked from the clean prediction, before its weight"),
    Metric(
        "train/pgd_accuracy",
        "fraction",
        "max",
        "accuracy under 5-step PGD on one batch of training images; a sudden fall is catastrophic overfitting",
    ),
    Metric("val/accuracy", "fraction", "max", "top-1 accuracy on the validation split"),
    Metric("val/nll", "nats", "min", "negative log-likelihood on the validation split"),
    Metric("val/ece", "fraction", "min", "expected calibration error, 15 equal-width bins, validation split"),
    Metric(
        "val/robust_accuracy",
        "fraction",
        "max",
        "accuracy under PGD at evaluation.robust_epsilon on a fixed class-balanced validation subset",
    ),
    Metric(
        "val/zero_gradients",
        "fraction",
        "min",
        "images of that subset without a gradient for PGD to follow; above 0, val/robust_accuracy is too high",
        minor=True,
    ),
    Metric(
        "entanglement/<tap>",
        "nats",
        None,
        "soft nearest neighbour loss at its minimising temperature, fixed class-balanced validation subset",
    ),
    Metric("val/entanglement_chance", "nats", None, "chance level of every entanglement/<tap>"),
    Metric("temperature/<tap>", "distance", None, "temperature at which entanglement/<tap> is reached"),
    *_COSTS,
)

GAN_METRICS: tuple[Metric, ...] = (
    Metric("gan/generator_loss", "nats", None, "objective of the generator's steps, mean over the epoch"),
    Metric("gan/discriminator_loss", "nats", None, "objective of the discriminator's steps, mean over the epoch"),
    Metric("gan/generator_snnl", "nats", None, "entanglement that the generator raises, before its weight"),
    Metric("gan/discriminator_snnl", "nats", None, "entanglement that the discriminator lowers, before its weight"),
    Metric(
        "val/real_fake_entanglement",
        "nats",
        "max",
        "soft nearest neighbour loss of real validation images and as many synthetic ones, in pixels",
    ),
    Metric("val/real_anchors_entanglement", "nats", None, "val/real_fake_entanglement over real anchors alone"),
    Metric("val/fake_anchors_entanglement", "nats", None, "val/real_fake_entanglement over synthetic ones alone"),
    Metric("val/real_fake_recall", "fraction", "max", "of chance, over real anchors; low where images are missing"),
    Metric("val/real_fake_precision", "fraction", "max", "of chance, over synthetic anchors; low where these collapse"),
    Metric(
        "val/real_fake_nn_accuracy", "fraction", None, "leave-one-out 1-NN accuracy of real and synthetic; best 1/2"
    ),
    Metric(
        "val/real_anchors_nn_accuracy", "fraction", None, "1-NN accuracy of real anchors; low with collapsed images"
    ),
    Metric(
        "val/fake_anchors_nn_accuracy",
        "fraction",
        None,
        "1-NN accuracy of synthetic anchors; high where these collapse",
    ),
    Metric("val/real_fake_chance", "nats", None, "chance level of val/real_fake_entanglement"),
    Metric("val/real_fake_ceiling", "nats", None, "val/real_fake_entanglement with training images for synthetic ones"),
    Metric(
        "val/mode_kl", "nats", "min", "divergence of the classes that synthetic images show to equally many of each"
    ),
    Metric("val/modes_covered", "classes", "max", "classes with enough synthetic images"),
    Metric(
        "val/feature_entanglement",
        "nats",
        "max",
        "val/real_fake_entanglement in the classifier's penultimate features, with evaluation.feature_space",
        minor=True,
    ),
    Metric("val/feature_recall", "fraction", "max", "val/real_fake_recall in these features", minor=True),
    Metric("val/feature_precision", "fraction", "max", "val/real_fake_precision in these features", minor=True),
    Metric(
        "val/feature_nn_accuracy",
        "fraction",
        None,
        "val/real_fake_nn_accuracy in these features; best 1/2",
        minor=True,
    ),
    Metric(
        "val/manifold_precision",
        "fraction",
        "max",
        "synthetic images within a ball of a real one's neighbours",
        minor=True,
    ),
    Metric(
        "val/manifold_recall",
        "fraction",
        "max",
        "real images within a ball of a synthetic one's neighbours",
        minor=True,
    ),
    Metric("val/feature_ceiling", "nats", None, "val/real_fake_ceiling in these features", minor=True),
    Metric(
        "gan/generator_control",
        "medians of the distance",
        None,
        "control of gan/generator_snnl, of the penalty class_mean",
        minor=True,
    ),
    Metric(
        "gan/discriminator_control",
        "medians of the distance",
        None,
        "control of gan/discriminator_snnl, of the penalty class_mean",
        minor=True,
    ),
    *_COSTS,
)

METRICS = tuple(dict.fromkeys((*CLASSIFIER_METRICS, *GAN_METRICS)))

SYSTEM_METRICS = (
    "system/cpu_utilization_percentage",
    "system/system_memory_usage_megabytes",
    "system/gpu_0_memory_usage_megabytes",
)
"""System metrics of a worker's machine, under MLflow's names; they are no objectives, and not in the list."""

_EXACT = {metric.name: metric for metric in METRICS if "<" not in metric.name}
_FAMILIES = {metric.name.partition("<")[0]: metric for metric in METRICS if "<" in metric.name}


def lookup(name: str) -> Metric:
    """Return the metric of this name; a member of a family has its own name.

    Raises:
        KeyError: no such metric; the message names the nearest one.

    >>> lookup("temperature/fc1").name
    'temperature/fc1'
    """
    if name in _EXACT:
        return _EXACT[name]
    group, slash, member = name.partition("/")
    if member and "<" not in member and group + slash in _FAMILIES:
        return replace(_FAMILIES[group + slash], name=name)
    raise KeyError(f"{shortened(name)}: unknown metric; {suggestion(name, (metric.name for metric in METRICS))}")


def declared_by(target: Any, *, place: str) -> dict[str, Metric]:
    """Return the units and directions that a user's function or class declares, by the name of the metric.

    Its attributes `unit` and `direction` (or `higher_is_better`, that of torchmetrics) are those of its only metric,
    which has the name ''. Its attribute `metrics` has one for each name: a `Metric`, or a mapping with these keys.

    Raises:
        ConfigError: a declaration of another form; with every problem, at `place`.

    >>> def train(): ...
    >>> train.metrics = {"val/accuracy": {"unit": "fraction", "direction": "max"}}
    >>> declared_by(train, place="task")["val/accuracy"].direction
    'max'
    """
    several = getattr(target, "metrics", None) or {}
    if not isinstance(several, Mapping):
        got = f"got {type(several).__name__} {short_repr(several)}"
        raise ConfigError.at(place, f"its attribute metrics must map names to {{unit, direction}}, {got}")
    declarations: dict[str, Any] = {"": _own_attributes(target), **several}
    problems = [
        Problem(place, problem) for name, value in declarations.items() if (problem := _problem_of(name, value))
    ]
    if problems:
        raise ConfigError(problems)
    metrics = {name: value if isinstance(value, Metric) else Metric(**value) for name, value in declarations.items()}
    return {name: metric for name, metric in metrics.items() if metric.unit or metric.direction}


def _own_attributes(target: Any) -> dict[str, Any]:
    higher = getattr(target, "higher_is_better", None)
    usual = {True: "max", False: "min"}.get(higher) if isinstance(higher, bool) else None
    return {"unit": getattr(target, "unit", ""), "direction": getattr(target, "direction", usual)}


def _problem_of(name: object, value: object) -> str | None:
    of = f" of {short_repr(name)}" if name else ""
    if not isinstance(name, str):
        return f"its attribute metrics must have names for keys, got {short_repr(name)}"
    if not isinstance(value, Metric | Mapping) or (isinstance(value, Mapping) and set(value) - {"unit", "direction"}):
        form = "Metric(unit=..., direction=...) or a mapping with these keys"
        return f"its declaration{of} must be {form}, got {short_repr(value)}"
    unit = value.unit if isinstance(value, Metric) else value.get("unit", "")
    direction = value.direction if isinstance(value, Metric) else value.get("direction")
    if not isinstance(unit, str):
        return f"its unit{of} must be a text, got {short_repr(unit)}"
    if direction not in DIRECTIONS:
        return f"its direction{of} must be 'max', 'min' or None, got {short_repr(direction)}"
    return None
