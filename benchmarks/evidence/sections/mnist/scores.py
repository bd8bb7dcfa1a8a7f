"""Numbers of the section: data/mnist.json, a run from before units were stored, or those of stored units.

A recipe has each metric as the values of its seeds, or, from a run that kept no more than its page, as mean and half
width of Student's interval, to the digits that were printed. This module imports neither torch nor Ray.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from orchestrator.analysis.claims.comparisons import PairedDifference as Paired
from orchestrator.analysis.claims.comparisons import Summary, paired_difference, unpaired_difference
from orchestrator.analysis.claims.comparisons import UnpairedDifference as Unpaired
from orchestrator.analysis.claims.intervals import Interval, image_difference_interval, moments

FORMAT = 1
KEPT = Path(__file__).parents[2] / "data/mnist.json"
TRANSFER = "transfer"
"""Metric of the errors between different networks of one recipe, in %."""
RELEASED_SHARES = tuple(f"released/{name}" for name in ("accuracy", "highest_bin", "fgsm_accuracy", "fgsm_lowest_bin"))
CALIBRATION_IMAGES = 1_000
"""Test images that these do not count, as neighbours are calibrated on them."""


@dataclass(frozen=True)
class Scores:
    """Scores by recipe and metric; `images` is the number of test images of all but accuracy and calibration.

    `values` are by seed, in the order of `seeds`; `summaries` are (mean, half width), as are those of `transfer`, by
    the recipes of source and target.
    """

    command: str
    machine: str
    seeds: Sequence[int]
    images: int
    test_images: int
    values: Mapping[str, Mapping[str, Sequence[float]]]
    summaries: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    transfer: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path = KEPT) -> Self:
        """Read a file of this format.

        Raises:
            ValueError: it has another one.
        """
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("format", None) != FORMAT:
            raise ValueError(f"{path}: must have format {FORMAT}; write it once more by make evidence")
        return cls(**document)

    def write(self, path: Path = KEPT) -> None:
        """Write a file that `read` reads."""
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n", encoding="utf-8")

    @property
    def recipes(self) -> tuple[str, ...]:
        """Recipes in their order on the page."""
        return tuple(dict.fromkeys((*self.transfer, *self.values, *self.summaries)))

    def summary(self, recipe: str, metric: str) -> Summary | None:
        """Return mean and standard deviation over seeds; None if they are not kept."""
        if metric == TRANSFER:
            pair = self.transfer.get(recipe, {}).get(recipe)
        elif metric in self.values.get(recipe, {}):
            own = self.values[recipe][metric]
            return Summary(*moments(own), len(own))
        else:
            pair = self.summaries.get(recipe, {}).get(metric)
        return None if pair is None else Summary.from_half_width(*pair, len(self.seeds))

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
        """Return the difference of two recipes: paired where the values of both are kept; None if either is not."""
        own, other = (self.values.get(name, {}).get(metric) for name in (recipe, control))
        if own is not None and other is not None:
            return paired_difference(own, other)
        summaries = self.summary(recipe, metric), self.summary(control, metric)
        if summaries[0] is None or summaries[1] is None:
            return None
        return unpaired_difference(summaries[0], summaries[1])
