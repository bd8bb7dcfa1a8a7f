"""Conclusions on predictions: equal to statsmodels and scipy where they have it, and none without a manipulation."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats

from orchestrator.analysis.claims.comparisons import (
    Summary,
    UnpairedDifference,
    paired_difference,
    unpaired_difference,
)
from orchestrator.analysis.claims.conclusions import AGREES, DISAGREES, UNKNOWN, Prediction, conclude
from orchestrator.analysis.claims.intervals import (
    Interval,
    image_bootstrap,
    image_difference_interval,
    moments,
    student_interval,
)
from orchestrator.analysis.claims.power import noncentrality, smallest_difference, smallest_effect

ROOT = Path(__file__).parents[2]
VECTORS = json.loads((ROOT / "tests/vectors/conclusion_vectors.json").read_text())
"""Made with statsmodels; `meta` says how."""
FEW = 199


def summary(values):
    return Summary(*moments(values), len(values))


def paired(*differences):
    return paired_difference(differences, [0.0] * len(differences), resamples=FEW)


UP, DOWN, NONE = paired(1.0, 1.1, 0.9), paired(-1.0, -1.1, -0.9), paired(0.1, -0.2, 0.15)
PASSED = {"conv1": Prediction(UP, "higher")}


@pytest.mark.parametrize("case", VECTORS["power"], ids=lambda case: f"{case['pairs']} pairs at {case['alpha']}")
def test_the_smallest_effect_is_that_of_statsmodels(case):
    found = smallest_effect(case["pairs"], power=case["power"], alpha=case["alpha"])
    assert found == pytest.approx(case["effect"], rel=1e-4)


@pytest.mark.parametrize("case", VECTORS["welch"], ids=lambda case: f"{len(case['values'])} and {len(case['control'])}")
def test_a_difference_of_summaries_is_welchs_of_statsmodels_and_scipy(case):
    found = unpaired_difference(summary(case["values"]), summary(case["control"]))
    assert found.interval == pytest.approx(case["interval"], rel=1e-9)
    assert (found.p, found.degrees) == (pytest.approx(case["p"], rel=1e-9), pytest.approx(case["degrees"], rel=1e-9))
    assert found.p == pytest.approx(stats.ttest_ind(case["values"], case["control"], equal_var=False).pvalue, rel=1e-9)


@pytest.mark.parametrize("case", VECTORS["newcombe"], ids=lambda case: f"{case['hits']} of {case['images']}")
def test_the_difference_over_images_is_newcombes_of_statsmodels(case):
    images = case["images"]
    found = image_difference_interval(case["hits"] / images, case["control"] / images, images)
    assert found == pytest.approx(case["interval"], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("count", [3, 4, 10, 40])
def test_the_corrected_effect_size_has_the_exact_factor_of_hedges(count):
    found = paired_difference(np.random.default_rng(count).normal(1, 1, count).tolist(), [0.0] * count, resamples=FEW)
    degrees = count - 1
    exact = special.gamma(degrees / 2) / (math.sqrt(degrees / 2) * special.gamma((degrees - 1) / 2))
    assert found.g_z == pytest.approx(found.d_z * exact, rel=1e-12)
    assert exact == pytest.approx(1 - 3 / (4 * degrees - 1), abs=0.02)
    assert paired_difference([1.0, 3.0], [0.0, 0.0], resamples=FEW).g_z is None


def test_error_and_degrees_of_a_paired_difference_are_those_of_its_test():
    found, values = NONE, [0.1, -0.2, 0.15]
    assert found.error == pytest.approx(stats.sem(values), rel=1e-12)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(found.mean) / found.error, found.degrees), rel=1e-9)
    assert smallest_difference(found) == pytest.approx(smallest_effect(3) * np.std(values, ddof=1), rel=1e-9)


@pytest.mark.parametrize(("pairs", "alpha", "power"), [(2, 0.05, 0.8), (3, 0.01, 0.9), (5, 0.05, 0.8)])
def test_the_test_finds_the_smallest_effect_as_often_as_its_power_says(pairs, alpha, power):
    rng = np.random.default_rng(0)
    samples = rng.normal(smallest_effect(pairs, power=power, alpha=alpha), 1, (20_000, pairs))
    assert (stats.ttest_1samp(samples, 0, axis=1).pvalue <= alpha).mean() == pytest.approx(power, abs=0.01)


@pytest.mark.parametrize("wrong", [{"power": 0.04}, {"power": 1.0}, {"alpha": 0.0}])
def test_a_power_that_is_no_power_is_refused(wrong):
    with pytest.raises(ValueError, match=r"must be in \(alpha, 1\)"):
        noncentrality(2, **wrong)


def test_a_summary_gives_back_the_interval_that_it_was_read_from():
    values = [0.361, 0.33, 0.4]
    low, high = student_interval(values)
    found = Summary.from_half_width((low + high) / 2, (high - low) / 2, 3)
    assert (found.mean, found.spread) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))


def test_a_bootstrap_over_images_resamples_whole_images_and_is_as_wide_as_their_normal_interval():
    rng = np.random.default_rng(1)
    easy = rng.normal(0, 1, 400)
    values = (easy + rng.normal(0, 0.5, (3, 400))).tolist()
    found = image_bootstrap(values, seed=0, resamples=4_000)
    means = np.mean(values, axis=0)
    half = 1.96 * stats.sem(means)
    assert found == pytest.approx((means.mean() - half, means.mean() + half), abs=0.1 * half)
    assert found == image_bootstrap(values, seed=0, resamples=4_000)
    assert found != image_bootstrap(values, seed=1, resamples=4_000)


@pytest.mark.parametrize("values", [[], [[1.0]], [[1.0, 2.0], [1.0]], [[1.0, math.nan]]])
def test_a_bootstrap_over_unequal_or_missing_images_is_refused(values):
    with pytest.raises(ValueError, match="values: must"):
        image_bootstrap(values, seed=0)


@pytest.mark.parametrize(
    ("prediction", "conclusion"),
    [
        (Prediction(UP, "higher"), AGREES),
        (Prediction(UP, "lower"), DISAGREES),
        (Prediction(DOWN, "lower"), AGREES),
        (Prediction(NONE, "higher"), UNKNOWN),
        (Prediction(NONE, "equal", margin=2.0), AGREES),
        (Prediction(NONE, "equal", margin=0.1), UNKNOWN),
        (Prediction(UP, "equal", margin=0.1), DISAGREES),
        (Prediction(UP, "higher", images=Interval(0.2, 1.8)), AGREES),
        (Prediction(UP, "higher", images=Interval(-0.1, 2.1)), UNKNOWN),
        (Prediction(UP, "lower", images=Interval(-0.1, 2.1)), UNKNOWN),
        (Prediction(NONE, "equal", margin=2.0, images=Interval(-3.0, 3.0)), UNKNOWN),
    ],
)
def test_a_prediction_is_concluded_on_by_its_direction_its_p_and_its_images(prediction, conclusion):
    finding = conclude({"it": prediction}, checks=PASSED)["it"]
    assert finding.conclusion == conclusion
    if prediction.margin is None:
        assert finding.smallest == smallest_difference(prediction.difference)


def test_the_smallest_difference_is_one_that_is_found_after_correction():
    """Among other predictions that show nothing, it is found with the power that is said, and not at 5 %."""
    rng, family, pairs = np.random.default_rng(0), 5, 5
    errors = rng.normal(0, 1, (20_000, pairs))
    scale = errors.std(1, ddof=1) / math.sqrt(pairs)
    said = conclude(
        {name: Prediction(paired(*errors[number]), "higher") for number, name in enumerate("abcde")}, checks=PASSED
    )["a"].smallest
    effect = said / (errors[0].std(ddof=1) / math.sqrt(pairs)) / math.sqrt(pairs)
    p = 2 * stats.t.sf(np.abs(errors.mean(1) + effect) / scale, pairs - 1)
    assert (p <= 0.05 / family).mean() == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("pairs", [3, 5])
def test_the_smallest_difference_of_an_equality_is_one_beyond_the_margin_that_is_found(pairs):
    rng, margin = np.random.default_rng(0), 3.0
    one = paired(*rng.normal(0, 1, pairs))
    said = conclude({"it": Prediction(one, "equal", margin=margin)}, checks=PASSED)["it"].smallest
    effect = margin + (said - margin) / one.error / math.sqrt(pairs)
    samples = rng.normal(effect, 1, (20_000, pairs))
    p = stats.ttest_1samp(samples, margin, axis=1, alternative="greater").pvalue
    assert (p <= 0.05).mean() == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("pairs", [3, 5, 10])
def test_no_more_than_5_percent_of_other_seeds_on_other_images_are_concluded_on_by_chance(pairs):
    """A test over seeds and one over images, each at 5 %, find what both sources do by chance in up to 11 %."""
    rng, repeats = np.random.default_rng(0), 1_000
    both = separately = 0
    for of_images in rng.normal(0, 1, repeats):
        by_seed = of_images + rng.normal(0, math.sqrt(pairs), pairs)
        difference = UnpairedDifference(by_seed.mean(), stats.sem(by_seed), pairs - 1)
        images = Interval(difference.mean - 1.96, difference.mean + 1.96)
        prediction = Prediction(difference, "higher", images=images)
        separately += prediction.p <= 0.05 and not images.low <= 0 <= images.high
        both += prediction.p <= 0.05 and not prediction.may_be_of_these_images()
    assert both / repeats <= 0.05
    assert separately > both


def test_other_images_have_to_show_it_at_the_level_of_holms_correction():
    sure = UnpairedDifference(1.0, 0.01, 100)  # over seeds; over images 0 is 2.2 standard errors away
    prediction = Prediction(sure, "higher", images=Interval(1 - 0.89, 1 + 0.89))
    others = {str(number): Prediction(NONE, "higher") for number in range(4)}
    alone = conclude({"it": prediction}, checks=PASSED)["it"]
    among = conclude({"it": prediction, **others}, checks=PASSED)["it"]
    assert (alone.conclusion, among.conclusion) == (AGREES, UNKNOWN)
    assert among.reason == "other images may not show it"
    assert conclude({"it": replace(prediction, images=None), **others}, checks=PASSED)["it"].conclusion == AGREES


def test_images_that_show_the_opposite_withhold_a_conclusion():
    assert (
        conclude({"it": Prediction(UP, "higher", images=Interval(-3, -2))}, checks=PASSED)["it"].conclusion == UNKNOWN
    )
    beyond = Prediction(UP, "equal", margin=4.0, images=Interval(5.0, 6.0))
    assert conclude({"it": beyond}, checks=PASSED)["it"].conclusion == UNKNOWN


def test_equal_differences_within_a_margin_are_worth_their_number_and_no_more():
    assert Prediction(paired(0.1, 0.1, 0.1), "equal", margin=0.2).p == 0.125
    assert (
        conclude({"it": Prediction(paired(*[0.1] * 3), "equal", margin=0.2)}, checks=PASSED)["it"].conclusion == UNKNOWN
    )


@pytest.mark.parametrize("check", [Prediction(NONE, "higher"), Prediction(DOWN, "higher")])
def test_nothing_is_concluded_from_a_treatment_whose_check_failed(check):
    finding = conclude({"it": Prediction(UP, "higher")}, checks={**PASSED, "conv2": check})["it"]
    assert (finding.conclusion, finding.reason) == (UNKNOWN, "the manipulation check failed: conv2")


def test_a_question_without_a_check_is_refused():
    with pytest.raises(ValueError, match="must have a manipulation check"):
        conclude({"it": Prediction(UP, "higher")}, checks={})


def test_holms_correction_is_over_the_predictions_of_one_question():
    one = paired(1.0, 1.3, 0.7)  # p = 0.03
    alone = conclude({"a": Prediction(one, "higher")}, checks=PASSED)["a"]
    among = conclude({"a": Prediction(one, "higher"), "b": Prediction(NONE, "higher")}, checks=PASSED)["a"]
    assert (alone.conclusion, among.conclusion) == (AGREES, UNKNOWN)
    assert among.p_corrected == pytest.approx(2 * alone.p_corrected)


def test_two_one_sided_tests_are_those_of_scipy():
    values, margin = [0.1, -0.2, 0.15], 0.4
    sides = [
        stats.ttest_1samp(values, edge, alternative=side).pvalue
        for edge, side in ((-margin, "greater"), (margin, "less"))
    ]
    assert Prediction(NONE, "equal", margin=margin).p == pytest.approx(max(sides), rel=1e-9)


@pytest.mark.parametrize(("direction", "margin"), [("equal", None), ("higher", 0.1), ("equal", 0.0)])
def test_a_margin_belongs_to_equal_alone(direction, margin):
    with pytest.raises(ValueError, match="margin: must be"):
        Prediction(NONE, direction, margin=margin)
