"""Surrogate of a table: the learning curve that any point of its space would have, with and without noise.

A random forest for each metric, over the encoded points, predicts the whole curve at once: it is taken for the truth.
The noise of a trial is a whole curve of every metric too, so that it is correlated over epochs and metrics: the
difference of one recorded trial to the mean of its point over training seeds, of a point that learns alike. Where a
table has one seed for each point, it is the residual of the forest instead. A further forest predicts the chance to
diverge, and the seconds of an epoch.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from orchestrator.planning.seeds import derive_seed
from orchestrator.simulation.encoding import Encoding
from orchestrator.simulation.forest import Forests
from orchestrator.simulation.tables import SECONDS
from orchestrator.spec.trial_costs import NUM_SAMPLED, SAMPLED_SEED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from orchestrator.simulation.objective_value import Value
    from orchestrator.simulation.tables import Recorded, Table

ALIKE = 8
"""Noise is that of one of so many recorded points, those whose predicted curves are nearest."""
OPTIMUM_POINTS = 4096
"""Random points among which, and among those of the table, the optimum is looked for."""
CACHED = 4096
OUTLIER, MAD = 5.0, 1.4826
"""Noise is left out beyond so many deviations, estimated by the median."""
TINY = 1e-12
EARLY = 3
"""Epoch at which the quality of a surrogate is stated besides the last."""


@dataclass(frozen=True, slots=True)
class TrialCurve:
    """One trial as it would run to its end.

    ``measured`` and ``true`` hold each metric by epoch, with and without noise. A trial that diverges does so after
    ``epochs``, fewer than those of a whole run. ``seconds`` and ``passes`` are those of one epoch.
    """

    measured: Mapping[str, Sequence[float]]
    true: Mapping[str, Sequence[float]]
    epochs: int
    seconds: float
    passes: int


@dataclass(frozen=True, slots=True)
class Quality:
    """Agreement of a surrogate with recorded points that it did not see, for one metric at one epoch."""

    metric: str
    epoch: int
    r2: float
    spearman: float


class Surrogate:
    """Surrogate of a table; a function of the table alone. Fitting takes about a second.

    Raises:
        ImportError: scikit-learn or numpy is not installed.
    """

    def __init__(self, table: Table) -> None:
        import numpy as np  # noqa: PLC0415  the simulator alone needs it

        self.table = table
        self._encoding = Encoding(table.space)
        whole = [[trial for trial in trials if not trial.diverged] for trials in table.by_point]
        points = [trials[0].point for trials in whole if trials]
        self._rows = np.array([self._encoding.row(point) for point in points])
        curves = [np.stack([self._curves_of(trial) for trial in trials]) for trials in whole if trials]
        self._means = np.stack([of_point.mean(axis=0) for of_point in curves])
        self._scales = np.maximum(self._means.std(axis=(0, 2)), TINY)[:, None]
        every_row, costs, self._seconds_scale = self._costs()
        scaled = (self._means / self._scales).swapaxes(0, 1)
        self._forests = Forests.fit([*((self._rows, targets) for targets in scaled), (every_row, costs)])
        self._predicted, _ = self._predict(self._rows)
        self._noise, self._noise_of = self._donors(curves)
        self._bounds = _bounds(np.concatenate(curves))
        self._lost_after = [len(next(iter(trial.curves.values()))) for trial in table.trials if trial.diverged]
        self._optima: dict[Value, float] = {}
        self._truth = lru_cache(maxsize=CACHED)(self._truth_of)

    def curve(self, point: Mapping[str, Any], seed: int) -> TrialCurve:
        """Return the curve of a point under a training seed, of which its noise is a function."""
        import numpy as np  # noqa: PLC0415

        true, lost, seconds, passes, alike = self._truth(_Point(point, tuple(self._encoding.row(point))))
        rng = random.Random(seed)  # noqa: S311  no secret
        donors = self._noise_of[alike[rng.randrange(len(alike))]]
        measured = np.clip(true + self._noise[donors[rng.randrange(len(donors))]], *self._bounds)
        diverges = bool(self._lost_after) and rng.random() < lost
        epochs = rng.choice(self._lost_after) if diverges else self.table.epochs
        return TrialCurve(
            measured=dict(zip(self.table.metrics, measured.tolist(), strict=True)),
            true=dict(zip(self.table.metrics, true.tolist(), strict=True)),
            epochs=epochs,
            seconds=seconds * passes,
            passes=passes,
        )

    def true_final(self, point: Mapping[str, Any]) -> dict[str, float]:
        """Return the noise-free value of each metric at the last epoch."""
        true = self._truth(_Point(point, tuple(self._encoding.row(point))))[0]
        return dict(zip(self.table.metrics, true[:, -1].tolist(), strict=True))

    def optimum(self, value: Value) -> float:
        """Return the best noise-free final value of an objective over the candidates."""
        if value not in self._optima:
            finals = [value.final(candidate) for candidate in self.candidates]
            self._optima[value] = max(finals, key=lambda final: value.sign * final)
        return self._optima[value]

    @cached_property
    def candidates(self) -> list[dict[str, float]]:
        """Noise-free final values of many random points, and of those of the table, that are likely to end."""
        import numpy as np  # noqa: PLC0415

        sampled = self.table.space.sample_many(OPTIMUM_POINTS, seed=derive_seed(0, "optimum"))
        rows = np.concatenate([[self._encoding.row(point) for point in sampled], self._rows])
        curves, costs = self._predict(rows)
        finals = curves[:, :, -1][costs[:, 0] <= 0.5]
        return [dict(zip(self.table.metrics, values, strict=True)) for values in finals.tolist()]

    @cached_property
    def mean_passes(self) -> float:
        """Mean cost of an epoch over random points of the space, in gradient evaluations of each training example."""
        points = self.table.space.sample_many(NUM_SAMPLED, seed=SAMPLED_SEED)
        return sum(map(self.table.passes, points)) / len(points)

    @cached_property
    def quality(self) -> tuple[Quality, ...]:
        """Quality for each metric at an early and at the last epoch, predicted by trees that did not see a point."""
        epochs = sorted({min(EARLY, self.table.epochs), self.table.epochs})
        predictions = [
            out_of_bag * scale for out_of_bag, scale in zip(self._forests.out_of_bag[:-1], self._scales, strict=True)
        ]
        return tuple(
            Quality(metric, epoch, *_agreement(means[:, epoch - 1], predicted[:, epoch - 1]))
            for metric, means, predicted in zip(
                self.table.metrics, self._means.swapaxes(0, 1), predictions, strict=True
            )
            for epoch in epochs
        )

    @property
    def has_seeds(self) -> bool:
        """True if noise is what training seeds differ by, False if it is the forest's residual."""
        return any(len(trials) > 1 for trials in self.table.by_point)

    def _curves_of(self, trial: Recorded) -> NDArray[np.float64]:
        """Return the curves of a trial, metrics by epochs."""
        import numpy as np  # noqa: PLC0415

        return np.array([trial.curves[metric] for metric in self.table.metrics])

    def _costs(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Return all rows, their share of diverged trials and scaled seconds of a pass, and the scale of the latter."""
        import numpy as np  # noqa: PLC0415

        table = self.table
        rows = np.array([self._encoding.row(trials[0].point) for trials in table.by_point])
        lost = [sum(trial.diverged for trial in trials) / len(trials) for trials in table.by_point]
        seconds = np.array([_seconds_of(trials) / table.passes(trials[0].point) for trials in table.by_point])
        scale = max(float(seconds.max()), TINY)
        return rows, np.stack([lost, seconds / scale], axis=1), scale

    def _predict(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the noise-free curves of rows (rows by metrics by epochs), and their costs."""
        import numpy as np  # noqa: PLC0415

        *curves, costs = self._forests.predict(rows)
        return np.stack(curves, axis=1) * self._scales, costs

    def _truth_of(self, point: _Point) -> tuple[NDArray[np.float64], float, float, int, tuple[int, ...]]:
        """Return the noise-free curves of a point, its chance to diverge, seconds and passes, and points alike."""
        import numpy as np  # noqa: PLC0415

        *curves, (lost, seconds) = self._forests.predict_one(np.array(point.row, np.float32))
        true = np.stack(curves) * self._scales
        seconds = max(0.0, float(seconds) * self._seconds_scale)
        return true, float(lost), seconds, self.table.passes(point.point), self._alike(true)

    def _alike(self, true: NDArray[np.float64]) -> tuple[int, ...]:
        """Return the recorded points whose predicted curves are nearest, the nearest first."""
        distance = (((self._predicted - true) / self._scales) ** 2).sum(axis=(1, 2))
        return tuple(distance.argsort(kind="stable")[:ALIKE].tolist())

    def _donors(self, curves: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float64], list[list[int]]]:
        """Return whole curves of noise, and the numbers of those of each point; all where it has none of its own.

        A curve whose last value is far beyond the usual is left out: a seed that collapsed would make the other seeds
        of its point look as lucky.
        """
        import numpy as np  # noqa: PLC0415

        noise = [
            self._noise_of_point(mean, predicted, of_point)
            for mean, predicted, of_point in zip(self._means, self._predicted, curves, strict=True)
        ]
        finals = np.abs(np.concatenate(noise)[:, :, -1])
        most = OUTLIER * MAD * np.median(finals, axis=0) + TINY if len(finals) else TINY
        kept: list[NDArray[np.float64]] = []
        numbers: list[list[int]] = []
        for own in noise:
            usual = [curve for curve in own if (np.abs(curve[:, -1]) <= most).all()]
            numbers.append(list(range(len(kept), len(kept) + len(usual))))
            kept += usual
        kept = kept or [np.zeros_like(self._means[0])]
        everything = list(range(len(kept)))
        return np.stack(kept), [own or everything for own in numbers]

    def _noise_of_point(
        self, mean: NDArray[np.float64], predicted: NDArray[np.float64], curves: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the differences of a point's seeds to their mean, widened for its error; or the forest's residual."""
        if not self.has_seeds:
            residual: NDArray[np.float64] = (mean - predicted)[None]
            return residual
        seeds = len(curves)
        differences: NDArray[np.float64] = (curves - mean) * (seeds / max(1, seeds - 1)) ** 0.5
        return differences if seeds > 1 else differences[:0]


@dataclass(frozen=True, slots=True)
class _Point:
    """A point, and its row: points of one row are the same."""

    point: Mapping[str, Any] = field(compare=False)
    row: tuple[float, ...]


def _seconds_of(trials: Sequence[Recorded]) -> float:
    """Return the median seconds of an epoch of a point; 1 where they were not recorded."""
    import numpy as np  # noqa: PLC0415

    seconds = [second for trial in trials for second in trial.curves.get(SECONDS, ())]
    return float(np.median(seconds)) if seconds else 1.0


def _bounds(curves: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the bounds of each metric: 0 and 1 where all recorded values are between, 0 for positive ones."""
    import numpy as np  # noqa: PLC0415

    lowest, highest = curves.min(axis=(0, 2)), curves.max(axis=(0, 2))
    low = np.where(lowest >= 0, 0.0, -np.inf)
    high = np.where((lowest >= 0) & (highest <= 1), 1.0, np.inf)
    return low[:, None], high[:, None]


def _agreement(recorded: NDArray[np.float64], predicted: NDArray[np.float64]) -> tuple[float, float]:
    """Return the explained share of variance, and the rank correlation."""
    import numpy as np  # noqa: PLC0415
    from scipy.stats import spearmanr  # type: ignore[import-untyped]  # noqa: PLC0415

    total = float(((recorded - recorded.mean()) ** 2).sum())
    if not total or not np.ptp(predicted):
        return 0.0, 0.0
    r2 = 1 - float(((recorded - predicted) ** 2).sum()) / total
    return r2, float(spearmanr(recorded, predicted).statistic)
