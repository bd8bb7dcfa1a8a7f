"""Gaussian process over the rows of points, for the scores of a sweep's trials (Rasmussen and Williams 2006).

The kernel is a squared exponential with a weight for each column. Weights, variance and noise are the most probable
ones under a log-normal prior, after a few steps of resilient propagation (Riedmiller and Braun 1993), which needs
the signs of the gradient alone. The prior has every column matter a little: with a few dozen trials the data say more
than that about two or three of them.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

WEIGHT, VARIANCE, NOISE = 0.3, 1.0, 0.15
"""Medians of the prior: of a column's weight (the inverse of a squared length), of the variance, of the noise."""
SPREADS = (1.5, 0.7, 0.7)
"""Standard deviations of their logarithms."""
STEPS, FIRST_STEP, LARGEST_STEP, SMALLEST_STEP = 8, 0.4, 1.0, 1e-3
FASTER, SLOWER = 1.3, 0.5
JITTER = 1e-6


@final
class GaussianProcess:
    """Gaussian process that was fitted to ``scores`` of ``rows``.

    >>> rows = np.linspace(0, 1, 9)[:, None]
    >>> means, deviations = GaussianProcess(rows, -((rows[:, 0] - 0.7) ** 2)).predicted(np.array([[0.7], [0.1], [9.0]]))
    >>> bool(means[0] > means[1]), bool(deviations[2] > deviations[0])
    (True, True)
    """

    def __init__(self, rows: Array, scores: Array) -> None:
        self._rows = rows
        self._weights, self._variance, noise = _fitted(rows, scores)
        self._inverse = np.linalg.inv(self._kernel(rows, rows) + (noise + JITTER) * np.eye(len(rows)))
        self._dual = self._inverse @ scores

    def predicted(self, rows: Array) -> tuple[Array, Array]:
        """Return the mean and the standard deviation of the score of each row."""
        across = self._kernel(rows, self._rows)
        variances = self._variance - np.einsum("ij,jk,ik->i", across, self._inverse, across)
        return across @ self._dual, np.sqrt(np.maximum(variances, 0.0))

    def sample(self, rows: Array, rng: np.random.Generator) -> Array:
        """Return the scores of the rows in one function that is sampled from the posterior."""
        across = self._kernel(rows, self._rows)
        covariance = self._kernel(rows, rows) - across @ self._inverse @ across.T
        jitter = 10 * JITTER * self._variance * np.eye(len(rows))
        sampled: Array = across @ self._dual + np.linalg.cholesky(covariance + jitter) @ rng.standard_normal(len(rows))
        return sampled

    def _kernel(self, one: Array, other: Array) -> Array:
        scale = np.sqrt(self._weights)
        one, other = one * scale, other * scale
        squared = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
        kernel: Array = self._variance * np.exp(-np.maximum(squared, 0.0) / 2)
        return kernel


def best_of(candidates: Sequence[Sequence[float]], ranked: Sequence[Sequence[float]], *, seed: int) -> int:
    """Return the candidate that is best in a function sampled from the posterior; trials are ranked, best first.

    >>> best_of([[0.9], [0.1]], [[place / 20] for place in range(20)], seed=0)
    1
    """
    model = GaussianProcess(np.array(ranked, dtype=float), normal_scores(len(ranked)))
    return int(model.sample(np.array(candidates, dtype=float), np.random.default_rng(seed)).argmax())


def normal_scores(count: int) -> Array:
    """Return the normal score of each place, that of the best one first.

    >>> normal_scores(4).round(2).tolist()
    [1.15, 0.32, -0.32, -1.15]
    """
    normal = NormalDist()
    return np.array([-normal.inv_cdf((place + 0.5) / count) for place in range(count)])


def _fitted(rows: Array, scores: Array) -> tuple[Array, float, float]:
    """Return the weight of each column, the variance and the noise."""
    columns = rows.shape[1]
    squared = (rows[:, None, :] - rows[None, :, :]) ** 2
    prior = np.log([*[WEIGHT] * columns, VARIANCE, NOISE])
    spreads = np.array([*[SPREADS[0]] * columns, *SPREADS[1:]])
    logs, steps, last = prior.copy(), np.full(columns + 2, FIRST_STEP), np.zeros(columns + 2)
    for _ in range(STEPS):
        slope = _slope(squared, scores, logs) - (logs - prior) / spreads**2
        agrees = np.sign(slope * last)
        factor = np.where(agrees > 0, FASTER, np.where(agrees < 0, SLOWER, 1.0))
        steps = np.clip(steps * factor, SMALLEST_STEP, LARGEST_STEP)
        logs, last = logs + np.sign(slope) * steps, slope
    return np.exp(logs[:-2]), math.exp(logs[-2]), math.exp(logs[-1])


def _slope(squared: Array, scores: Array, logs: Array) -> Array:
    """Return the gradient of the log likelihood by the logarithms of weights, variance and noise."""
    weights, variance, noise = np.exp(logs[:-2]), math.exp(logs[-2]), math.exp(logs[-1])
    kernel = variance * np.exp(-(squared @ weights) / 2)
    inverse = np.linalg.inv(kernel + (noise + JITTER) * np.eye(len(scores)))
    dual = inverse @ scores
    outer = np.outer(dual, dual) - inverse
    by_kernel: Any = outer * kernel
    by_weight = -weights * np.einsum("ij,ijk->k", by_kernel, squared) / 4
    return np.array([*by_weight, by_kernel.sum() / 2, noise * np.trace(outer) / 2])
