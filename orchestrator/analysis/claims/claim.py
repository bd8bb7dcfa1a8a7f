"""Claim of a confirmation: each configuration against the control over paired seeds, and what its search promised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.analysis.claims.comparisons import (
    SIGNIFICANCE,
    PairedDifference,
    best_candidates,
    holm,
    paired_difference,
)
from orchestrator.analysis.claims.intervals import (
    RESAMPLES,
    Interval,
    bootstrap_interval,
    image_interval,
    moments,
    student_interval,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Row:
    """Numbers of one configuration; in the units of the metric, and gains so that more is better.

    ``searched`` is the gain over the baseline that the search reported, on the validation split; ``lost`` is what the
    confirmation did not find of it (the selection bias), and ``survived`` the share that it found, of a gain above 0.
    """

    name: str
    values: Mapping[int, float]
    """Value of each seed."""
    mean: float
    interval: Interval
    bootstrap: Interval
    images: Interval | None
    """Wilson's interval over the test images, of a share; null for any other metric."""
    gain: PairedDifference | None
    """Null for the control."""
    p_corrected: float | None
    is_claimed: bool
    may_be_best: bool
    searched: float | None

    @property
    def lost(self) -> float | None:
        """Selection bias: the gain that the search reported, less the confirmed one."""
        return None if self.gain is None or self.searched is None else self.searched - self.gain.mean

    @property
    def survived(self) -> float | None:
        """Share of the reported gain that was confirmed; null where the search reported none."""
        return self.gain.mean / self.searched if self.gain and self.searched and self.searched > 0 else None


@dataclass(frozen=True, slots=True)
class Claim:
    """Rows of a confirmation, the control first; and the configurations that some seed is missing of."""

    metric: str
    mode: str
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    incomplete: Mapping[str, tuple[int, ...]]
    """Seeds without a value, because they failed or diverged; such a configuration is left out of all comparisons."""


def claim(
    values: Mapping[str, Mapping[int, float]],
    *,
    metric: str,
    mode: str,
    searched: Mapping[str, float | None],
    num_images: int | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Claim:
    """Compare configurations over paired seeds.

    A gain is claimed if it is above 0 and its p-value, corrected for the number of configurations, is at most 5 %. A
    configuration that lacks the value of a seed is compared with nothing: the mean of the seeds that did not fail
    would favour it.

    Args:
        values: by configuration and seed; one configuration is ``control``.
        metric: name of what was measured.
        mode: ``max`` or ``min``.
        searched: gain that the search reported, by configuration, more is better.
        num_images: number of test images, if the metric is a share of them.
        seed: seed of the bootstrap.
        resamples: number of its resamples.

    Raises:
        ValueError: the control lacks a value of a seed, or there are fewer than two seeds.

    >>> found = claim({"control": {1: 0.90, 2: 0.91, 3: 0.93}, "t007": {1: 0.93, 2: 0.95, 3: 0.95}},
    ...               metric="test/accuracy", mode="max", searched={"t007": 0.05})
    >>> row = found.rows[1]
    >>> row.is_claimed, row.may_be_best, f"{row.gain.mean:.3f} {row.lost:.3f} {row.survived:.0%}"
    (True, True, '0.030 0.020 60%')
    """
    seeds = tuple(sorted({seed for measured in values.values() for seed in measured}))
    incomplete = {
        name: missing for name, own in values.items() if (missing := tuple(seed for seed in seeds if seed not in own))
    }
    if CONTROL not in values or CONTROL in incomplete or len(seeds) < 2:
        raise ValueError(f"values: must have a {CONTROL} with all of two seeds or more, got {values}")
    sign = 1.0 if mode == "max" else -1.0
    paired = {name: [sign * own[seed] for seed in seeds] for name, own in values.items() if name not in incomplete}
    gains = {
        name: paired_difference(own, paired[CONTROL], seed=seed, resamples=resamples)
        for name, own in paired.items()
        if name != CONTROL
    }
    corrected = holm({name: gain.p for name, gain in gains.items()})
    best = best_candidates(paired)
    rows = tuple(
        _row(
            name,
            values[name],
            gain=gains.get(name),
            p_corrected=corrected.get(name),
            may_be_best=name in best,
            searched=searched.get(name),
            num_images=num_images,
            bootstrap=(seed, resamples),
        )
        for name in sorted(paired, key=lambda name: name != CONTROL)
    )
    return Claim(metric, mode, seeds, rows, incomplete)


def _row(
    name: str,
    values: Mapping[int, float],
    *,
    gain: PairedDifference | None,
    p_corrected: float | None,
    may_be_best: bool,
    searched: float | None,
    num_images: int | None,
    bootstrap: tuple[int, int],
) -> Row:
    measured: Sequence[float] = [values[seed] for seed in sorted(values)]
    seed, resamples = bootstrap
    mean, _ = moments(measured)
    is_better = gain is not None and gain.mean > 0
    return Row(
        name=name,
        values=dict(sorted(values.items())),
        mean=mean,
        interval=student_interval(measured),
        bootstrap=bootstrap_interval(measured, seed=seed, resamples=resamples),
        images=None if num_images is None else image_interval(mean, num_images),
        gain=gain,
        p_corrected=p_corrected,
        is_claimed=is_better and p_corrected is not None and p_corrected <= SIGNIFICANCE,
        may_be_best=may_be_best,
        searched=searched,
    )
