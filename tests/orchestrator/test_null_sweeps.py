"""Sweeps without any effect: a confirmation is wrong at its nominal rate, the best trial far more often."""

import importlib
from pathlib import Path

import pytest

from orchestrator.analysis.claims import claim as claims
from trainables.evaluation.core.intervals import binomial_tail

SWEEPS = 400


@pytest.fixture(scope="module")
def null_sweeps():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
        return importlib.import_module("null_sweeps")


@pytest.fixture(scope="module")
def hits(null_sweeps):
    """Number of sweeps that each procedure takes for an effect."""
    return null_sweeps.rates(null_sweeps.Sizes(top=5), sweeps=SWEEPS, seed=1)


@pytest.mark.parametrize("procedure", ["differs", "gain", "best_is_known"])
def test_a_confirmation_claims_what_is_not_at_no_more_than_its_nominal_rate(hits, procedure):
    assert binomial_tail(hits[procedure], SWEEPS, rate=0.05) > 0.01


def test_a_confirmation_is_not_right_by_never_claiming_a_difference(hits):
    assert hits["differs"] > 0.01 * SWEEPS


def test_the_best_trial_on_the_images_that_chose_it_is_wrong_far_more_often(hits):
    assert binomial_tail(hits["naive"], SWEEPS, rate=0.05) < 1e-9


def test_without_the_correction_the_rate_is_not_nominal(null_sweeps, monkeypatch):
    monkeypatch.setattr(claims, "holm", dict)
    uncorrected = null_sweeps.rates(null_sweeps.Sizes(top=5), sweeps=SWEEPS, seed=1)
    assert binomial_tail(uncorrected["differs"], SWEEPS, rate=0.05) < 0.01
