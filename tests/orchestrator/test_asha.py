"""The stopping rule alone: pure functions, no Ray."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.scheduling.asha import decide, rungs

VALUES = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3),
    st.none() | st.floats(allow_nan=True, allow_infinity=True),
    min_size=1,
    max_size=40,
)


@pytest.mark.parametrize(
    ("grace", "factor", "epochs", "expected"),
    [
        (3, 3, 27, (3, 9)),
        (1, 3, 243, (1, 3, 9, 27, 81)),
        (1, 10, 1000, (1, 10, 100)),
        (5, 4, 5, ()),
        (9, 3, 4, ()),
    ],
)
def test_rungs_are_exact_integers_below_the_full_budget(grace, factor, epochs, expected):
    assert rungs(grace, factor, epochs) == expected


def test_the_first_trial_at_a_rung_goes_on():
    assert decide({"a": 0.1}, "a", reduction_factor=3, mode="max").kept


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_value_that_is_not_finite_never_goes_on(value, mode):
    assert not decide({"a": value}, "a", reduction_factor=3, mode=mode).kept
    assert not decide({"a": value, "b": 0.5}, "a", reduction_factor=2, mode=mode).kept


def test_a_value_that_is_not_finite_never_raises_the_bar_for_others():
    assert decide({"a": math.inf, "b": 0.5}, "b", reduction_factor=2, mode="max").kept


def test_ties_with_the_last_kept_place_go_on():
    assert decide({"a": 0.9, "b": 0.9, "c": 0.1}, "b", reduction_factor=3, mode="max").kept


def test_the_decision_says_what_had_to_be_reached_and_by_how_many():
    decision = decide({"a": 0.2, "b": 0.4, "c": 0.3, "d": 0.5}, "c", reduction_factor=2, mode="min")
    assert (decision.kept, decision.cutoff, decision.competitors) == (True, 0.3, 4)


@given(VALUES, st.integers(2, 5), st.sampled_from(["max", "min"]))
def test_what_goes_on_is_the_best_share_and_its_ties(values, factor, mode):
    finite = sorted((v for v in values.values() if v is not None and math.isfinite(v)), reverse=mode == "max")
    kept = [name for name in values if decide(values, name, reduction_factor=factor, mode=mode).kept]
    share = max(1, len(values) // factor)
    expected = [name for name, v in values.items() if v is not None and math.isfinite(v) and v in finite[:share]]
    assert kept == expected


@given(VALUES, st.integers(2, 5))
def test_minimising_is_maximising_the_negative(values, factor):
    negative = {name: None if value is None else -value for name, value in values.items()}
    for name in values:
        least = decide(values, name, reduction_factor=factor, mode="min")
        most = decide(negative, name, reduction_factor=factor, mode="max")
        assert least.kept == most.kept


def test_in_random_order_about_one_in_eta_goes_on():
    """64 arrivals, 200 orders: the target is 1/3; the first arrivals, which face nobody, add a little."""
    generator = random.Random(0)
    shares = []
    for _ in range(200):
        seen: dict[str, float | None] = {}
        kept = 0
        for index in range(64):
            seen[str(index)] = generator.random()
            kept += decide(seen, str(index), reduction_factor=3, mode="max").kept
        shares.append(kept / 64)
    assert 0.33 < sum(shares) / len(shares) < 0.40
