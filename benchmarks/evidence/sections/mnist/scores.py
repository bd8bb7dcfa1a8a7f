"""Numbers of the section by recipe and metric, of stored units. This module imports neither torch nor Ray."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.analysis.claims.comparisons import PairedDifference as Paired
from orchestrator.analysis.claims.comparisons import Summary, paired_difference, unpaired_difference
from orchestrator.analysis.claims.comparisons import UnpairedDifference as Unpaired
from orchestrator.analysis.claims.intervals import Interval, image_difference_interval, moments

TRANSFER = "transfer"
"""Metric of the errors between different networks of one recipe, in %."""
RELEASED_SHARES = tuple(f"released/{name}" for name in ("accuracy", "highest_bin", "fgsm_accuracy", "fgsm_lowest_bin"))
CALIBRATION_IMAGES = 1_000
"""Test images that these do not count, as neighbours are calibrated on them."""


@dataclass(frozen=True)
class Scores:
    """Scores by recipe and metric; `images` is the number of test images of all but accuracy and calibration.

    `values` are by seed, in the order of `seeds`; those of `transfer` are (mean, half width) by the recipes of source
    and target.
    """

    machine: str = ""
    seeds: Sequence[int] = ()
    images: int = 0
    test_images: int = 0
    values: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    transfer: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)

    @property
    def recipes(self) -> tuple[str, ...]:
        """Recipes in their order on the page."""
        return tuple(dict.fromkeys((*self.transfer, *self.values)))

    def summary(self, recipe: str, metric: str) -> Summary | None:
        """Return mean and standard deviation over seeds; None if it is not measured."""
        if metric == TRANSFER:
            pair = self.transfer.get(recipe, {}).get(recipe)
            return None if pair is None else Summary.from_half_width(*pair, len(self.seeds))
        own = self.values.get(recipe, {}).get(metric)
        return None if own is None else Summary(*moments(own), len(own))

    def images_of(self, metric: str) -> int | None:
        """Return the number of images of which a metric is a share; None of any other metric."""
        if metric == "test/accuracy":
            return self.test_images
        if metric in RELEASED_SHARES:
            return self.test_images - CALIBRATION_IMAGES
        return self.images if metric.startswith(("pgd-40@", "deformation/", "dknn/accuracy")) else None

    def image_interval(self, recipe: str, control: str, metric: str) -> Interval | None:
        """Return the interval of a difference over the choice of test images; None if it is of no shares."""
        images, own, other = self.images_of(metric), self.summary(recipe, metric), self.summary(control, metric)
        if images is None or own is None or other is None:
            return None
        return image_difference_interval(own.mean, other.mean, images)

    def difference(self, recipe: str, control: str, metric: str) -> Paired | Unpaired | None:
        """Return the difference of two recipes, paired but for the transfer; None if either is not measured."""
        own, other = (self.values.get(name, {}).get(metric) for name in (recipe, control))
        if own is not None and other is not None:
            return paired_difference(own, other)
        summaries = self.summary(recipe, metric), self.summary(control, metric)
        if summaries[0] is None or summaries[1] is None:
            return None
        return unpaired_difference(summaries[0], summaries[1])
