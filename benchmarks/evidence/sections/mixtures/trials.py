"""Trials of the evidence on mixtures: a data set at a budget, a method, a seed; and their training."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from section import JSON, Unit

from trainables.config.trial import TrialConfig
from trainables.data import Split, load_test
from trainables.evaluation.core.clean import negative_log_likelihood
from trainables.evaluation.core.prediction import balanced_subset, logits
from trainables.models import TappedClassifier
from trainables.tasks.classifier import run

NONE = "none"
RAND_AUGMENT = "RandAugment"
CURVE_POINTS = 10
"""Epochs of a trial after which the likelihood of validation images is measured, the last among them."""


@dataclass(frozen=True)
class Budget:
    """Data set, network and training of all methods, and what is measured.

    images: class-balanced test images of deformations; attacked: those of attacks; validation: images of the check.
    fgsm: radii; radius: the one that is predicted on, and that PGD has. folder: of the data set, below the data root.
    """

    data: str
    title: str
    short: str
    point: Mapping[str, JSON]
    hidden: tuple[str, str]
    seeds: Sequence[int]
    images: int
    attacked: int
    fgsm: tuple[float, ...]
    radius: float
    pgd_steps: int = 20
    validation: int = 2000
    folder: str = ""
    device: str = "cpu"

    def unit(self, method: str, seed: int) -> Unit:
        """Return the unit of a method and a seed."""
        point = {**self.point, **method_point(method, self.hidden), "seed": seed}
        point |= {"device": self.device, "evaluation.robust_epsilon": 0.0}
        settings: dict[str, JSON] = {"data": self.data, "method": method, "seed": seed, "point": point}
        settings |= {"images": self.images, "attacked": self.attacked, "validation": self.validation}
        settings |= {"fgsm": list(self.fgsm), "radius": self.radius, "pgd_steps": self.pgd_steps, "folder": self.folder}
        return Unit(f"{self.data} {method}, seed {seed}", settings)

    def units(self, methods: Sequence[str]) -> Iterator[Unit]:
        """Yield the units of some methods, a seed after the other, so that a run that is cut short has whole seeds."""
        return (self.unit(method, seed) for seed in self.seeds for method in methods)


class Network(NamedTuple):
    """A trained network with its images, and the likelihood of validation images (nats) over its epochs."""

    model: TappedClassifier
    train: Split
    validation: Split
    test: Split
    num_classes: int
    curve: tuple[float, ...]


def input_mixup(alpha: float) -> str:
    """Return the name of a method.

    >>> input_mixup(0.5), manifold_mixup(2), manifold_mixup(2, "input+conv1")
    ('input mixup, alpha 0.5', 'manifold mixup, alpha 2', 'manifold mixup, alpha 2 at input+conv1')
    """
    return f"input mixup, alpha {alpha:g}"


def manifold_mixup(alpha: float, layers: str = "") -> str:
    """Return the name of a method; without `layers` it mixes at the input and at the two hidden boundaries."""
    return f"manifold mixup, alpha {alpha:g}" + (f" at {layers}" if layers else "")


def method_point(method: str, hidden: Sequence[str]) -> dict[str, JSON]:
    """Return the parameters in which a method differs from none, of a network with these hidden boundaries.

    Raises:
        ValueError: an unknown method.

    >>> method_point("manifold mixup, alpha 2", ("conv1", "conv2"))
    {'mixup.alpha': 2.0, 'mixup.layers': 'input+conv1+conv2'}
    >>> method_point("RandAugment", ())
    {'data.policy': 'rand'}
    """
    if method in OTHERS:
        return dict(OTHERS[method])
    kind, _, rest = method.partition(", alpha ")
    alpha, _, layers = rest.partition(" at ")
    usual = {"input mixup": "input", "manifold mixup": "+".join(("input", *hidden))}
    if kind not in usual:
        raise ValueError(f"method: must be none, RandAugment, or a mixup with its alpha, got {method!r}")
    return {"mixup.alpha": float(alpha), "mixup.layers": layers or usual[kind]}


OTHERS: Mapping[str, Mapping[str, JSON]] = {NONE: {}, RAND_AUGMENT: {"data.policy": "rand"}}


def trial(settings: Mapping[str, Any], data_root: Path | None) -> TrialConfig:
    """Return the configuration of a unit, with its data set below a folder."""
    place = {} if data_root is None else {"data.root": str(data_root / settings.get("folder", ""))}
    return TrialConfig.from_point({**settings["point"], **place})


def trained(config: TrialConfig, *, validation: int) -> Network:
    """Train as `trainables.tasks.classifier.training.train` does, to the same weights.

    It validates after a tenth of the epochs alone, on a subset: of a thousand training images, the whole validation
    split would take most of the time.
    """
    classifier = run.start(config).run
    few = balanced_subset(classifier.val_split, size=validation)
    measured = {round(config.epochs * (i + 1) / CURVE_POINTS) for i in range(CURVE_POINTS)} - {0}
    curve = []
    for epoch in range(1, config.epochs + 1):
        classifier.train_epoch(epoch)
        if epoch in measured:
            curve.append(negative_log_likelihood(logits(classifier.evaluated_model, few), few.labels_N))
    return Network(
        model=classifier.evaluated_model.eval(),
        train=classifier.train_split,
        validation=few,
        test=load_test(config.data).to(classifier.placement.device),
        num_classes=classifier.num_classes,
        curve=tuple(curve),
    )
