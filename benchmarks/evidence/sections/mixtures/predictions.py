"""Predictions on methods: the difference of a metric, paired by seed.

A share of images also has an interval over images, paired by image; a mean has one from its spread.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from answers_by_image import unpacked
from questions import Direction, Rows, by_seed
from section import Row
from sections.mixtures.measures import MEANS

from orchestrator.analysis.claims.conclusions import Prediction
from orchestrator.analysis.claims.intervals import Interval, student_interval

NORMAL: Final = statistics.NormalDist().inv_cdf(0.975)


class Values:
    """Metrics of one data set by method, in the order of the seeds."""

    def __init__(self, rows: Sequence[Row], data: str) -> None:
        self._rows: dict[str, list[Row]] = {}
        for row in sorted(rows, key=lambda row: int(row.settings["seed"])):
            if row.settings["data"] == data:
                self._rows.setdefault(row.settings["method"], []).append(row)

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods, in the order of their units."""
        return tuple(self._rows)

    def of(self, method: str, metric: str) -> list[float]:
        """Return the values of a metric by seed.

        Raises:
            KeyError: the method is not measured, or the metric is not.
        """
        return [float("nan") if (value := row.metrics[metric]) is None else value for row in self._rows[method]]

    def lists(self, method: str, metric: str) -> list[list[float]]:
        """Return the values of a metric that is a list, by seed."""
        return [row.metrics[metric] for row in self._rows[method]]

    def mean(self, method: str, metric: str) -> float:
        """Return the mean over seeds."""
        return statistics.fmean(self.of(method, metric))

    def by_image(self, method: str, metric: str) -> np.ndarray:
        """Return the share of right answers to each image, mean over seeds and over what the metric is a mean of."""
        right = [row.metrics["by image"][name] for row in self._rows[method] for name in MEANS.get(metric, (metric,))]
        return np.mean([unpacked(text) for text in right], axis=0)

    @property
    def num_seeds(self) -> int:
        """Number of seeds, that of the first method."""
        return len(next(iter(self._rows.values())))


@dataclass(frozen=True)
class Contrast:
    """Difference of a metric of a data set between a treatment and its control, which may be a number.

    `shift` is added to the control: `lower` with a shift of 0.05 means less than 0.05 above it, so not better. With
    `by_image`, the interval over images is of answers to the same images; `spread` and `images` are metrics with the
    standard deviation over images and their number, of a mean whose values by image are not stored. `margin` is for the
    direction `equal`.
    """

    data: str
    metric: str
    direction: Direction
    treatment: str
    control: str | float
    by_image: bool = False
    spread: str | None = None
    images: str | None = None
    margin: float | None = None
    shift: float = 0.0

    def __call__(self, rows: Rows) -> Prediction:
        """Return what the rows say of it."""
        values = Values(rows, self.data)
        own = values.of(self.treatment, self.metric)
        is_method = isinstance(self.control, str)
        control = values.of(self.control, self.metric) if is_method else [self.control] * len(own)
        control = [value + self.shift for value in control]
        return by_seed(own, control, self.direction, margin=self.margin, images=self._over_images(values))

    def _over_images(self, values: Values) -> Interval | None:
        if not isinstance(self.control, str):
            return None
        methods = (self.treatment, self.control)
        if self.by_image:
            own_N, other_N = (values.by_image(method, self.metric) for method in methods)
            found = student_interval((own_N - other_N).tolist())
        elif self.spread is not None and self.images is not None:
            own, other = (values.mean(method, self.metric) for method in methods)
            spreads = [values.mean(method, self.spread) for method in methods]
            found = mean_difference_interval(own - other, spreads, int(values.mean(self.treatment, self.images)))
        else:
            return None
        return Interval(found.low - self.shift, found.high - self.shift)


def mean_difference_interval(difference: float, spreads: Sequence[float], number: int) -> Interval:
    """Return the normal interval of a difference of means over images, as if the two had met different images.

    Answers to the same images are alike, and the spread is that of single networks, which is more than that of a mean
    of several. So the interval is too wide rather than too narrow.

    >>> [round(end, 2) for end in mean_difference_interval(0.5, [0.6, 0.8], 100)]
    [0.3, 0.7]
    """
    half = NORMAL * math.hypot(*spreads) / math.sqrt(number)
    return Interval(difference - half, difference + half)
