"""Write conclusion_vectors.json with statsmodels; run in an environment that has it.

python -m venv /tmp/statistics && /tmp/statistics/bin/pip install statsmodels
/tmp/statistics/bin/python tests/vectors/make_conclusion_vectors.py
"""

import json
from pathlib import Path

import numpy as np
import scipy
import statsmodels
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import confint_proportions_2indep
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

SEED = 20261130
# Of three pairs at 1 % its noncentral t has no upper tail, and it returns an effect of far too little power.
LEVELS = tuple(
    (pairs, *level) for pairs in (3, 5, 10, 30) for level in ((0.05, 0.8), (0.01, 0.9)) if pairs > 3 or level[0] > 0.01
)


def power(pairs, alpha, power):
    effect = TTestPower().solve_power(nobs=pairs, alpha=alpha, power=power, alternative="two-sided")
    return {"pairs": pairs, "alpha": alpha, "power": power, "effect": float(effect)}


def welch(rng, count, other, spread):
    values, control = rng.normal(0.4, 1, count).round(4), rng.normal(0, spread, other).round(4)
    both = CompareMeans(DescrStatsW(values), DescrStatsW(control))
    _, p, degrees = both.ttest_ind(usevar="unequal")
    interval = [float(end) for end in both.tconfint_diff(usevar="unequal")]
    return {
        "values": values.tolist(),
        "control": control.tolist(),
        "p": float(p),
        "degrees": float(degrees),
        "interval": interval,
    }


def newcombe(hits, control, images):
    interval = confint_proportions_2indep(hits, images, control, images, method="newcomb", compare="diff")
    return {"hits": hits, "control": control, "images": images, "interval": [float(end) for end in interval]}


def main():
    rng = np.random.default_rng(SEED)
    document = {
        "meta": {
            "statsmodels": statsmodels.__version__,
            "scipy": scipy.__version__,
            "numpy": np.__version__,
            "made_by": "TTestPower.solve_power; CompareMeans with usevar='unequal'; confint_proportions_2indep newcomb",
        },
        "power": [power(*level) for level in LEVELS],
        "welch": [welch(rng, *sizes) for sizes in ((3, 3, 1.0), (3, 5, 9.0), (8, 4, 0.2))],
        "newcombe": [newcombe(*shares) for shares in ((933, 985, 1000), (50, 49, 50), (7, 0, 20))],
    }
    (Path(__file__).parent / "conclusion_vectors.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
