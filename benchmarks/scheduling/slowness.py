"""Dependence of the best first rung on how slowly trials learn, where curves follow a formula.

The ranking at epoch s predicts that at epoch t with correlation exp(-c (1/s - 1/t)), as it nearly does on recorded
curves: values are drawn from normal distributions so correlated, and halved synchronously by every rung
schedule of a budget. Regret is in standard deviations of the final value.

Prediction, written before the first run: a slow objective (large c) is best with a later first rung. Result: no. A
later rung is paid for with a harsher cut, and the best cut lies between 1.6 and 2.8 for every c, and is flat there.

    python benchmarks/scheduling/slowness.py
"""

import math

import numpy as np

from orchestrator.scheduling.budgeted.rung_schedule import places
from orchestrator.scheduling.rungs import rungs

EPOCHS, TRIALS, DRAWS = 27, 64, 1_500
BUDGETS, SLOWNESS = (0.2, 0.3, 0.4), (0.5, 1.6, 3.2, 6.0, 12.0)


def regret(levels: tuple[int, ...], kept: tuple[int, ...], c: float) -> float:
    """Return the mean shortfall of the best that is kept to the end."""
    chance = np.random.default_rng(0)
    value_DN = chance.standard_normal((DRAWS, TRIALS))
    alive_DN = np.ones_like(value_DN, dtype=bool)
    for level, following, count in zip(levels, (*levels[1:], EPOCHS), kept, strict=True):
        ranked_DN = np.where(alive_DN, value_DN, -np.inf)
        alive_DN &= ranked_DN >= np.sort(ranked_DN, axis=1)[:, -count, None]
        correlation = math.exp(-c * (1 / level - 1 / following))
        noise_DN = chance.standard_normal((DRAWS, TRIALS))
        value_DN = correlation * value_DN + math.sqrt(1 - correlation**2) * noise_DN
    return float((value_DN.max(1) - np.where(alive_DN, value_DN, -np.inf).max(1)).mean())


def main() -> None:
    """Print the regret of every schedule of every budget."""
    for budget in BUDGETS:
        schedules = {first: rungs(first, 2, EPOCHS) for first in range(1, EPOCHS)}
        solved = {
            first: places(levels, TRIALS, EPOCHS, budget * TRIALS * EPOCHS) for first, levels in schedules.items()
        }
        within = {first: kept for first, kept in solved.items() if kept is not None and kept[1] < TRIALS / 4}
        print(f"budget {budget}  first rung (cut):", *(f"{first:4} ({kept[1]:.2f})" for first, kept in within.items()))
        for c in SLOWNESS:
            row = (f"{regret(schedules[first], kept[0], c):11.3f}" for first, kept in within.items())
            print(f"  c {c:4}                    ", *row)


if __name__ == "__main__":
    main()
