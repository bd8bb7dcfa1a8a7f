"""Statistics of claims: equal to statsmodels and scipy on fixed inputs, and with the symmetries that they must have."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from orchestrator.analysis.claims.claim import CONTROL, claim
from orchestrator.analysis.claims.claim_output import plain_claim, sentences
from orchestrator.analysis.claims.comparisons import best_candidates, holm, p_greater, paired_difference
from orchestrator.analysis.claims.intervals import (
    bootstrap_interval,
    image_interval,
    moments,
    student_interval,
)
from trainables.evaluation.core.intervals import binomial_tail

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/claims_vectors.json").read_text())
"""Made with statsmodels; `meta` says how."""
FEW = 199
numbers = st.floats(-1, 1).map(lambda value: round(value, 3))
samples = st.lists(st.tuples(numbers, numbers), min_size=2, max_size=8)


@pytest.mark.parametrize("case", VECTORS["pairs"], ids=lambda case: f"{len(case['values'])} seeds")
def test_means_differences_and_their_p_values_are_those_of_statsmodels(case):
    found = paired_difference(case["values"], case["control"], resamples=FEW)
    assert student_interval(case["values"]) == pytest.approx(case["mean_interval"], rel=1e-10)
    assert found.mean == pytest.approx(case["difference"], rel=1e-10)
    assert found.interval == pytest.approx(case["difference_interval"], rel=1e-9)
    assert found.p == pytest.approx(case["p"], rel=1e-9)
    assert found.d_z == pytest.approx(case["d_z"], rel=1e-10)
    differences = np.subtract(case["values"], case["control"]).tolist()
    assert p_greater(differences) == pytest.approx(case["p_greater"], rel=1e-9)
    assert found.p == pytest.approx(stats.ttest_rel(case["values"], case["control"]).pvalue, rel=1e-9)


@pytest.mark.parametrize("case", VECTORS["holm"], ids=lambda case: f"{len(case['p'])} claims")
def test_holms_correction_is_that_of_statsmodels(case):
    corrected = holm({str(index): p for index, p in enumerate(case["p"])})
    assert list(corrected.values()) == pytest.approx(case["corrected"], rel=1e-12)


@pytest.mark.parametrize("case", VECTORS["wilson"], ids=lambda case: f"{case['hits']} of {case['images']}")
def test_the_interval_over_images_is_that_of_statsmodels(case):
    interval = image_interval(case["hits"] / case["images"], case["images"])
    assert interval == pytest.approx(case["interval"], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("case", VECTORS["pairs"][2:], ids=lambda case: f"{len(case['values'])} seeds")
def test_the_bootstrap_is_that_of_scipy_and_a_function_of_its_seed(case):
    values = sorted(case["values"])
    expected = stats.bootstrap((values,), np.mean, n_resamples=999, method="BCa", rng=np.random.default_rng(7))
    found = bootstrap_interval(case["values"], seed=7, resamples=999)
    assert found == pytest.approx(tuple(expected.confidence_interval), rel=1e-12)
    assert found == bootstrap_interval(case["values"][::-1], seed=7, resamples=999)
    assert found != bootstrap_interval(case["values"], seed=8, resamples=999)


@settings(deadline=None)
@given(samples, st.permutations(range(8)))
def test_the_order_of_seeds_does_not_count(pairs, order):
    shuffled = [pairs[index] for index in order if index < len(pairs)]
    one, other = (paired_difference(*zip(*rows, strict=True), resamples=FEW) for rows in (pairs, shuffled))
    assert other.mean == pytest.approx(one.mean, abs=1e-12)
    assert other.p == pytest.approx(one.p, abs=1e-9)
    assert other.interval == pytest.approx(one.interval, abs=1e-9)


@settings(deadline=None)
@given(samples, st.sampled_from([0.5, 4.0, 1024.0]))
def test_another_unit_scales_differences_and_leaves_p_and_the_effect_size(pairs, scale):
    values, control = zip(*pairs, strict=True)
    one = paired_difference(values, control, resamples=FEW)
    other = paired_difference([scale * v for v in values], [scale * v for v in control], resamples=FEW)
    assert (other.p, other.d_z) == (pytest.approx(one.p), pytest.approx(one.d_z))
    assert other.mean == pytest.approx(scale * one.mean)
    assert other.interval == pytest.approx([scale * end for end in one.interval])
    assert other.bootstrap == pytest.approx([scale * end for end in one.bootstrap])


@settings(deadline=None)
@given(samples)
def test_exchanging_both_sides_changes_the_sign_alone(pairs):
    values, control = zip(*pairs, strict=True)
    one, other = (paired_difference(*sides, resamples=FEW) for sides in ((values, control), (control, values)))
    assert other.mean == -one.mean
    assert other.p == pytest.approx(one.p)
    assert other.interval == pytest.approx((-one.interval.high, -one.interval.low))
    assert other.d_z == pytest.approx(-one.d_z) if one.d_z is not None else other.d_z is None


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.permutations(range(9)))
def test_holm_never_lowers_a_p_value_and_keeps_their_order_whatever_the_order_of_claims(p_values, order):
    named = {str(index): p for index, p in enumerate(p_values)}
    corrected = holm(named)
    assert all(p <= corrected[name] <= min(1, len(named) * p) + 1e-12 for name, p in named.items())
    assert sorted(named, key=lambda name: (named[name], corrected[name])) == sorted(
        named, key=lambda name: (corrected[name], named[name])
    )
    shuffled = {str(index): named[str(index)] for index in order if str(index) in named}
    assert holm(shuffled) == corrected


def test_equal_differences_have_the_p_value_of_their_signs_and_no_effect_size():
    found = paired_difference([0.91, 0.92, 0.93], [0.90, 0.91, 0.92], resamples=FEW)
    assert (found.d_z, found.p) == (None, 0.25)
    assert found.interval.low == found.interval.high == pytest.approx(0.01)
    nothing = paired_difference([0.9, 0.8], [0.9, 0.8], resamples=FEW)
    assert (nothing.mean, nothing.p, nothing.d_z) == (0.0, 1.0, None)


@pytest.mark.parametrize("values", [[], [0.9], [0.9, math.nan], [0.9, math.inf]])
def test_too_few_values_and_those_that_are_not_finite_are_refused(values):
    with pytest.raises(ValueError, match="must be"):
        moments(values)
    with pytest.raises(ValueError, match="must be"):
        paired_difference(values, values)


def test_the_set_that_may_be_the_best_holds_the_truly_best_at_its_rate():
    rng, missed = np.random.default_rng(5), 0
    for _ in range(400):
        shared = rng.normal(0, 1, 5)
        means = {"a": 0.3, "b": 0.25, "c": 0.2, "d": 0.0}
        values = {name: (mean + shared + rng.normal(0, 0.3, 5)).tolist() for name, mean in means.items()}
        missed += "a" not in best_candidates(values)
    assert binomial_tail(missed, 400, rate=0.05) > 0.01


def test_the_set_that_may_be_the_best_shrinks_as_differences_grow():
    noise = {"a": (0.00, 0.01, 0.02), "b": (0.01, 0.02, 0.00), "c": (0.02, 0.00, 0.01)}
    apart = {name: [value - place for value in own] for place, (name, own) in enumerate(noise.items())}
    sizes = [len(best_candidates(values)) for values in (noise, apart)]
    assert sizes == [3, 1]


def test_a_gain_is_claimed_by_its_corrected_p_value_and_its_sign():
    control = {1: 0.90, 2: 0.91, 3: 0.93, 4: 0.90, 5: 0.92}
    noise = dict(zip(control, (0.001, -0.002, 0.002, 0.0, -0.001), strict=True))
    found = claim(
        {
            "better": {seed: value + 0.02 + noise[seed] for seed, value in control.items()},
            CONTROL: control,
            "worse": {seed: value - 0.02 - noise[seed] for seed, value in control.items()},
            "same": {seed: value - noise[6 - seed] for seed, value in control.items()},
        },
        metric="test/accuracy",
        mode="max",
        searched={"better": 0.05, "worse": 0.01, "same": 0.004},
        num_images=359,
        resamples=FEW,
    )
    rows = {row.name: row for row in found.rows}
    assert found.rows[0].name == CONTROL
    assert {name for name, row in rows.items() if row.is_claimed} == {"better"}
    assert {name for name, row in rows.items() if row.may_be_best} == {"better"}
    assert rows["better"].survived == pytest.approx(0.4)
    assert rows["better"].lost == pytest.approx(0.03)
    assert rows["worse"].lost == pytest.approx(0.03)
    assert rows[CONTROL].images == pytest.approx(image_interval(0.912, 359))
    assert json.loads(json.dumps(plain_claim(found)))["rows"][0]["name"] == CONTROL
    words = sentences(found, {})
    assert words[0].startswith("better is better than the control: +0.0200")
    assert any(line.startswith("worse is worse than the control") for line in words)
    assert any(line.startswith("same cannot be distinguished from the control") for line in words)


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=2, max_size=6))
def test_a_metric_to_minimise_is_its_negative_to_maximise(rows):
    names = (CONTROL, "a", "b")
    values = {name: {seed: row[index] for seed, row in enumerate(rows)} for index, name in enumerate(names)}
    negative = {name: {seed: -value for seed, value in own.items()} for name, own in values.items()}
    assume(all(len({row[index] for row in rows}) > 1 for index in range(3)))
    common = {"metric": "m", "searched": {}, "resamples": FEW}
    highest, lowest = claim(values, mode="max", **common), claim(negative, mode="min", **common)
    for one, other in zip(highest.rows, lowest.rows, strict=True):
        assert one.mean == pytest.approx(-other.mean)
        assert (one.gain, one.p_corrected, one.is_claimed, one.may_be_best) == (
            other.gain,
            other.p_corrected,
            other.is_claimed,
            other.may_be_best,
        )


def test_a_configuration_without_a_seed_is_compared_with_nothing_and_named():
    values = {CONTROL: {1: 0.90, 2: 0.91, 3: 0.93}, "a": {1: 0.99, 2: 0.98}, "b": {1: 0.90, 2: 0.92, 3: 0.93}}
    found = claim(values, metric="test/accuracy", mode="max", searched={}, resamples=FEW)
    assert [row.name for row in found.rows] == [CONTROL, "b"]
    assert found.incomplete == {"a": (3,)}
    assert "a: left out of every comparison, as it did not end with seed 3" in sentences(found, {})


def test_a_claim_needs_every_seed_of_its_control():
    with pytest.raises(ValueError, match="must have a control with all of two seeds or more"):
        claim({CONTROL: {1: 0.9}, "a": {1: 0.9, 2: 0.8}}, metric="m", mode="max", searched={})
