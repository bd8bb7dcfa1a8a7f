"""How often a sweep without any effect leads to a claim: by its best trial alone, and by its confirmation.

Every configuration is as good as the control. A trial classifies an image rightly by its difficulty, and by a shift
that its seed causes; the configurations of a confirmation share part of it, as they share their seeds. Each simulated
sweep is searched on the validation images, its best trials are trained once more with fresh seeds, evaluated on the
test images, and compared by `orchestrator.analysis.claims`, the code of `ravel confirm`. Nothing is trained, no Ray.

    python benchmarks/null_sweeps.py --sweeps 500
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from scipy import stats

from orchestrator.analysis.claims.claim import CONTROL, claim
from trainables.evaluation.core.intervals import wilson

LEVEL = 0.05
SEED_SPREAD = 0.15
"""Standard deviation of the shift of a seed, in log odds: 0.7 points at an accuracy of 93 %."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a sweep and its confirmation; by default those of the demo."""

    trials: int = 48
    top: int = 3
    seeds: int = 5
    val_images: int = 360
    test_images: int = 359


@dataclass(frozen=True)
class Found:
    """What one sweep without any effect is taken for."""

    naive: bool
    """McNemar's test finds its best trial better than the baseline, on the images that chose it."""
    naive_on_test: bool
    """McNemar's test finds its best trial better than the baseline, both trained once, on the test images."""
    differs: bool
    """The confirmation finds a configuration that differs from the control, better or worse."""
    gain: bool
    """The confirmation claims a gain."""
    best_is_known: bool
    """The control, as good as any, is not among those that may be the best."""


def simulated(rng: np.random.Generator, sizes: Sizes) -> Found:
    """Search, confirm and claim once."""
    val, test = (rng.normal(4.0, 2.0, images) for images in (sizes.val_images, sizes.test_images))
    shifts = rng.normal(0, SEED_SPREAD, sizes.trials)
    searched = rng.random((sizes.trials, len(val))) < _logistic(val + shifts[:, None])
    scores = searched.mean(axis=1)
    order = np.argsort(-scores[1:], kind="stable") + 1  # the first trial is the baseline
    once = rng.random((2, len(test))) < _logistic(test + shifts[[0, order[0]], None])
    shared = rng.normal(0, SEED_SPREAD / 2**0.5, sizes.seeds)
    names = [CONTROL, *(f"t{index:03d}" for index in order[: sizes.top])]
    values = {name: _accuracies(rng, test, shared) for name in names}
    gains = {f"t{index:03d}": float(scores[index] - scores[0]) for index in order[: sizes.top]}
    found = claim(values, metric="test/accuracy", mode="max", searched=gains, resamples=99)
    corrected = [row.p_corrected for row in found.rows if row.p_corrected is not None]
    return Found(
        naive=_mcnemar(searched[order[0]], searched[0]) <= LEVEL,
        naive_on_test=_mcnemar(once[1], once[0]) <= LEVEL,
        differs=min(corrected) <= LEVEL,
        gain=any(row.is_claimed for row in found.rows),
        best_is_known=not found.rows[0].may_be_best,
    )


def rates(sizes: Sizes, *, sweeps: int, seed: int) -> dict[str, int]:
    """Return how many of so many sweeps were taken for an effect, by procedure."""
    outcomes = [simulated(np.random.default_rng([seed, index]), sizes) for index in range(sweeps)]
    return {name: sum(getattr(outcome, name) for outcome in outcomes) for name in Found.__dataclass_fields__}


def _accuracies(rng: np.random.Generator, test: np.ndarray, shared: np.ndarray) -> dict[int, float]:
    shifts = shared + rng.normal(0, SEED_SPREAD / 2**0.5, len(shared))
    right = rng.random((len(shared), len(test))) < _logistic(test + shifts[:, None])
    return {seed: float(accuracy) for seed, accuracy in enumerate(right.mean(axis=1))}


def _mcnemar(one: np.ndarray, other: np.ndarray) -> float:
    """Return the exact two-sided p-value of the images that one model alone classifies rightly."""
    won, lost = int((one & ~other).sum()), int((other & ~one).sum())
    return float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0


def _logistic(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--sweeps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    for name, field in Sizes.__dataclass_fields__.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=field.default)
    options = vars(parser.parse_args())
    sweeps, seed = options.pop("sweeps"), options.pop("seed")
    sizes = Sizes(**options)
    print(f"{sweeps} sweeps without any effect, {sizes}")
    labels = {
        "naive": "best trial against the baseline, on the validation images",
        "naive_on_test": "best trial against the baseline, one seed each, on the test images",
        "differs": "confirmation: a configuration differs from the control",
        "gain": "confirmation: a gain is claimed",
        "best_is_known": "confirmation: the control is distinguished from the best",
    }
    for name, hits in rates(sizes, sweeps=sweeps, seed=seed).items():
        low, high = wilson(hits, sweeps)
        print(f"{hits / sweeps:7.1%} (95 % {low:.1%} to {high:.1%})  {labels[name]}")


if __name__ == "__main__":
    main()
