"""Write comparison_vectors.json, and check claims_vectors.json, with statsmodels; run in an environment that has it.

python -m venv /tmp/statistics && /tmp/statistics/bin/pip install statsmodels
/tmp/statistics/bin/python tests/vectors/make_comparison_vectors.py
"""

import json
from pathlib import Path

import numpy as np
import scipy
import statsmodels
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

HERE = Path(__file__).parent
IMAGES = (40, 360, 10_000)
RIVALS = (1, 7, 47)
LEVEL = 0.05


def separated(best, hits, images, rivals):
    """Both bounds of `images.is_apart` by statsmodels: Newcombe's interval, and the most favourable paired test."""
    level = LEVEL / rivals
    low, high = confint_proportions_2indep(
        best, images, hits, images, method="newcomb", compare="diff", alpha=2 * level
    )
    alone = best - hits
    paired = mcnemar([[hits, alone], [0, images - best]], exact=True).pvalue / 2 if alone else 1.0
    return {
        "best": best,
        "hits": hits,
        "images": images,
        "rivals": rivals,
        "newcombe": [low, high],
        "p_paired": paired,
        "is_apart": bool(low > 0 and paired <= level),
    }


def comparison_vectors():
    rng = np.random.default_rng(20261129)
    cases = []
    for images in IMAGES:
        for rivals in RIVALS:
            for best in rng.integers(int(0.8 * images), images + 1, 6).tolist():
                hits = next(hits for hits in range(best, -1, -1) if separated(best, hits, images, rivals)["is_apart"])
                cases += [separated(best, near, images, rivals) for near in (hits, hits + 1)]  # the two at the edge
    wilson = [
        {"hits": hits, "images": images, "level": level, "interval": list(ends)}
        for hits, images in ((0, 40), (38, 40), (351, 360), (360, 360), (9876, 10_000))
        for level in (0.05, 0.05 / 7, 0.05 / 47)
        for ends in [proportion_confint(hits, images, alpha=2 * level, method="wilson")]
    ]
    effects = []
    for size in (2, 5, 12, 40):
        values = rng.normal(0.01, 0.01, size).tolist()
        ends = stats.bootstrap(
            (values,), np.mean, n_resamples=200_000, method="percentile", rng=rng
        ).confidence_interval
        effects.append({"values": values, "interval": [ends.low, ends.high]})
    made_by = "confint_proportions_2indep(method='newcomb'), mcnemar(exact), proportion_confint(method='wilson'); "
    meta = {
        "statsmodels": statsmodels.__version__,
        "scipy": scipy.__version__,
        "numpy": np.__version__,
        "made_by": f"{made_by}scipy.stats.bootstrap(method='percentile', n_resamples=200000); {Path(__file__).name}",
    }
    return {"meta": meta, "separated": cases, "wilson": wilson, "effects": effects}


def check_claims():
    """Raise an AssertionError if a number of claims_vectors.json is not what statsmodels computes from its inputs."""
    vectors = json.loads((HERE / "claims_vectors.json").read_text())
    for case in vectors["pairs"]:
        own, differences = DescrStatsW(case["values"]), DescrStatsW(np.subtract(case["values"], case["control"]))
        np.testing.assert_allclose(own.tconfint_mean(), case["mean_interval"], rtol=1e-10)
        np.testing.assert_allclose(differences.tconfint_mean(), case["difference_interval"], rtol=1e-10)
        np.testing.assert_allclose(differences.mean, case["difference"], rtol=1e-10)
        np.testing.assert_allclose(differences.ttest_mean()[1], case["p"], rtol=1e-10)
        np.testing.assert_allclose(differences.ttest_mean(alternative="larger")[1], case["p_greater"], rtol=1e-10)
        spread = np.std(np.subtract(case["values"], case["control"]), ddof=1)
        np.testing.assert_allclose(differences.mean / spread, case["d_z"], rtol=1e-10)
    for case in vectors["holm"]:
        np.testing.assert_allclose(multipletests(case["p"], method="holm")[1], case["corrected"], rtol=1e-12)
    for case in vectors["wilson"]:
        ends = proportion_confint(case["hits"], case["images"], method="wilson")
        np.testing.assert_allclose(ends, case["interval"], rtol=1e-9, atol=1e-12)
    return sum(len(vectors[name]) for name in ("pairs", "holm", "wilson"))


if __name__ == "__main__":
    print(f"claims_vectors.json: {check_claims()} cases as computed by statsmodels {statsmodels.__version__}")  # noqa: T201
    vectors = comparison_vectors()
    (HERE / "comparison_vectors.json").write_text(json.dumps(vectors, indent=1) + "\n")
