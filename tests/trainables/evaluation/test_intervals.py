"""Intervals of shares by their score tests and by SciPy, and counts beyond chance by their sums."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from scipy.stats import binomtest

from trainables.evaluation.core.intervals import Proportion, binomial_tail, mcnemar_test, plausible, wilson


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    # From Brown, Cai and DasGupta's formula, worked with z = 1.959964.
    [(0, 10, 0.0, 0.277533), (1, 10, 0.017876, 0.404150), (5, 10, 0.236593, 0.763407), (10, 10, 0.722467, 1.0)],
)
def test_a_proportion_has_wilsons_interval(hits, trials, low, high):
    share = Proportion(hits, trials)
    assert (share.low, share.value, share.high) == pytest.approx((low, hits / trials, high), abs=1e-6)


@given(trials=st.integers(1, 5000), data=st.data())
def test_the_ends_of_an_interval_are_those_rates_whose_score_is_z(trials, data):
    share = Proportion(data.draw(st.integers(0, trials)), trials)
    assert 0 <= share.low <= share.value <= share.high <= 1
    for end in {share.low, share.high} - {0.0, 1.0}:
        score = (share.value - end) / math.sqrt(end * (1 - end) / trials)
        assert abs(score) == pytest.approx(1.959964, rel=1e-5)


@pytest.mark.parametrize(("hits", "trials"), [(3, 2), (-1, 2), (0, 0)])
def test_an_impossible_proportion_cannot_be_made(hits, trials):
    with pytest.raises(ValueError, match=f"0 <= hits <= trials and 0 < trials must hold, got {hits} of {trials}"):
        Proportion(hits, trials)


@pytest.mark.parametrize(
    ("weaker", "stronger", "failed"), [(1, 0, False), (6, 0, False), (7, 0, True), (20, 12, False)]
)
def test_the_weaker_attack_must_win_beyond_chance(weaker, stronger, failed):
    holds_weaker, holds_stronger = torch.ones(100, dtype=torch.bool), torch.ones(100, dtype=torch.bool)
    holds_weaker[:weaker] = False
    holds_stronger[weaker : weaker + stronger] = False
    assert mcnemar_test(holds_weaker, holds_stronger) == ((weaker, stronger), failed)


def test_one_odd_image_refuses_nothing_and_many_do():
    assert plausible(1, 60, rate=0.002)
    assert plausible(1, 1000, rate=0.002)
    assert not plausible(3, 100, rate=0.002)
    assert not plausible(20, 1000, rate=0.002)


@pytest.mark.parametrize(
    ("hits", "trials", "rate"), [(0, 5, 0.3), (2, 5, 0.3), (5, 5, 0.3), (7, 12, 0.5), (3, 40, 0.01)]
)
def test_the_binomial_tail_is_the_sum_of_its_terms(hits, trials, rate):
    terms = (math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(hits, trials + 1))
    assert binomial_tail(hits, trials, rate=rate) == pytest.approx(sum(terms), rel=1e-12)


@pytest.mark.parametrize("hits", [0, 1, 37, 99, 100])
def test_wilson_ends_where_the_score_test_does(hits):
    z, trials = 1.959963984540054, 100
    low, high = wilson(hits, trials)
    assert 0 <= low <= hits / trials <= high <= 1
    for end in {low, high} - {0.0, 1.0}:
        assert abs(hits / trials - end) / math.sqrt(end * (1 - end) / trials) == pytest.approx(z)


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (1, 10), (5, 10), (10, 10), (37, 1000)])
@pytest.mark.parametrize("confidence", [0.95, 0.975])
def test_wilsons_interval_is_that_of_scipy(hits, trials, confidence):
    z = {0.95: 1.959963984540054, 0.975: 2.241402727604947}[confidence]
    expected = binomtest(hits, trials).proportion_ci(confidence_level=confidence, method="wilson")
    assert wilson(hits, trials, z=z) == pytest.approx(tuple(expected), rel=1e-9, abs=1e-12)


@given(trials=st.integers(0, 10**9), z=st.floats(1e-9, 40))
def test_none_of_all_and_all_of_all_end_exactly_at_the_edges(trials, z):
    low, high = wilson(0, trials, z=z)
    assert low == 0.0
    assert 0 <= high <= 1
    assert wilson(trials, trials, z=z)[1] == 1.0
