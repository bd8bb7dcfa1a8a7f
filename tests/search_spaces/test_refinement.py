import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import (
    Choice,
    DomainError,
    Fixed,
    Float,
    Int,
    SearchSpace,
    SpaceError,
    SymLog,
    When,
    ZeroOr,
    catalog,
    refine,
)

ANY_SPACE = st.from_type(SearchSpace)
SEEDS = st.integers(0, 2**32)


def one(domain):
    return SearchSpace({"x": domain})


def len_of(domain):
    """The length of a range in its own coordinate."""
    if isinstance(domain, SymLog):
        low, high = domain.coordinate_bounds
        return high - low
    return math.log(domain.high / domain.low) if domain.log else domain.high - domain.low


def refined(domain, score, *, n=200, seed=0, **options):
    """The domain after a sweep of n random points, and what was said."""
    points = one(domain).sample_many(n, seed)
    found = refine(one(domain), points, [score(point["x"]) for point in points], **options)
    return found.space.parameters["x"], found.notes


@given(ANY_SPACE, SEEDS, st.floats(0.05, 1.0))
def test_every_best_point_is_in_the_refined_space(space, seed, quantile):
    rng = random.Random(seed)
    points = space.sample_many(30, seed)
    found = refine(space, points, [rng.random() for _ in points], quantile=quantile)
    assert all(found.space.problems(point) == [] for point in found.best)
    assert found.space.names == space.names
    assert found.space.when == space.when
    assert found.space.constraints == space.constraints


@given(SEEDS)
def test_the_same_sweep_is_refined_alike(seed):
    space = catalog.regularizers()
    points = space.sample_many(40, seed)
    scores = [random.Random(str(point)).random() for point in points]
    assert refine(space, points, scores) == refine(space, points, scores)


@pytest.mark.parametrize(
    ("domain", "optimum", "inside"),
    [
        (Float(0.0, 10.0), 4.0, (3.5, 4.5)),
        (Float(1e-5, 1.0, log=True), 1e-2, (5e-3, 2e-2)),
        (Float(0.0, 10.0, step=0.5), 4.0, (3.5, 4.5)),
        (Int(1, 100), 40, (35, 45)),
        (Int(1, 1000, log=True), 30, (25, 35)),
        (Int(0, 100, step=4), 40, (36, 44)),
        (SymLog(-1.0, 1.0, gap=1e-3), -0.1, (-0.15, -0.07)),
    ],
)
def test_a_range_closes_in_on_an_optimum_inside_it(domain, optimum, inside):
    coordinate = domain.to_coordinate if isinstance(domain, SymLog) else math.log if domain.log else float
    found, notes = refined(domain, lambda x: -abs(coordinate(x) - coordinate(optimum)))
    assert type(found) is type(domain)
    assert domain.low < found.low <= inside[0] < inside[1] <= found.high < domain.high
    assert len_of(found) < len_of(domain) / 2
    assert notes == (f"x: {domain.describe()} -> {found.describe()}",)


def test_a_parameter_that_does_not_matter_is_hardly_ever_narrowed_much():
    shares = []
    for seed in range(40):
        found, _ = refined(Float(0.0, 10.0), lambda x: random.Random(x).random(), n=60, seed=seed)
        shares.append((found.high - found.low) / 10)
    assert sum(share < 0.75 for share in shares) <= 2
    assert min(shares) > 0.5


@pytest.mark.parametrize(
    ("domain", "direction", "edge", "beyond"),
    [
        (Float(1.0, 5.0), 1, "high", 6.0),
        (Float(1e-4, 1.0, log=True), -1, "low", 1e-5),
        (Float(1.0, 3.0, step=0.1), 1, "high", 3.5),
        (Int(10, 50), -1, "low", 1.0),
        (SymLog(-1.0, 1.0, gap=1e-3), -1, "low", -31.0),
    ],
)
def test_best_points_that_crowd_at_an_edge_widen_it_and_say_so(domain, direction, edge, beyond):
    found, notes = refined(domain, lambda x: direction * x)
    bound = getattr(found, edge)
    assert (bound < domain.low) if edge == "low" else (bound > domain.high)
    assert bound == pytest.approx(beyond, rel=0.05)
    assert any("crowd at the" in note and "widened to" in note for note in notes)


@pytest.mark.parametrize(
    ("domain", "direction", "options", "kept"),
    [
        (Float(0.0, 1.0), 1, {}, 1.0),
        (Float(0.0, 5.0), -1, {}, 0.0),
        (Int(1, 9), -1, {}, 1),
        (Float(1.0, 5.0), 1, {"limits": {"x": (0.0, 5.0)}}, 5.0),
        (SymLog(-1.0, -1e-3, gap=1e-3), 1, {}, -1e-3),
    ],
)
def test_no_edge_is_widened_past_its_limit_and_that_is_said(domain, direction, options, kept):
    found, notes = refined(domain, lambda x: direction * x, **options)
    assert kept in {found.low, found.high}
    assert any(note.endswith("which is the limit") for note in notes)


def test_a_limit_short_of_a_quarter_stops_the_widening_there():
    found, notes = refined(Float(1.0, 5.0), lambda x: x, limits={"x": (0.0, 5.5)})
    assert found.high == 5.5
    assert "x: the best points crowd at the upper edge 5: widened to 5.5" in notes


@pytest.mark.parametrize("domain", [Float(1.0, 5.0), Int(1, 5), Float(1.0, 5.0, step=0.5)])
def test_limits_that_the_best_points_are_past_shut_none_of_them_out(domain):
    points = one(domain).sample_many(50)
    found = refine(one(domain), points, [point["x"] for point in points], limits={"x": (2.0, 3.0)})
    assert all(found.space.contains(point) for point in found.best)


def test_one_sign_goes_when_all_the_best_are_of_the_other():
    found, _ = refined(SymLog(-1.0, 1.0, gap=1e-3), lambda x: -abs(math.log10(abs(x)) + 1) + 9 * (x < 0))
    assert found.high <= -1e-3
    assert found.gap == 1e-3


def test_an_option_goes_with_evidence_only():
    options = ["a", "b", "c", "d"]
    points = [{"x": option} for option in ["a"] * 30 + ["b"] * 30 + ["c"] * 30 + ["d"]]
    scores = [{"a": 2.0, "b": 1.5, "c": 0.0, "d": 0.0}[point["x"]] + index / 1000 for index, point in enumerate(points)]
    found = refine(one(Choice(options)), points, scores, quantile=0.5).space.parameters["x"]
    assert found == Choice(["a", "b", "d"])  # d was tried once: its absence says nothing


def test_a_single_option_left_is_fixed():
    found, _ = refined(Choice(["sgd", "adamw"]), lambda x: float(x == "sgd"))
    assert found == Fixed("sgd")


def test_an_ordered_choice_stays_in_one_piece():
    points = [{"x": size} for size in (16, 32, 64, 128, 256) for _ in range(20)]
    scores = [float(point["x"] in {32, 128}) for point in points]
    found = refine(one(Choice([16, 32, 64, 128, 256], ordered=True)), points, scores, quantile=0.4).space.parameters[
        "x"
    ]
    assert found == Choice([32, 64, 128], ordered=True)


def test_a_switch_that_is_never_off_among_the_best_loses_its_zero():
    found, _ = refined(ZeroOr(Float(0.1, 4.0)), lambda x: -abs(x - 2.0))
    assert isinstance(found, Float)


def test_a_switch_that_is_always_off_among_the_best_is_off():
    found, _ = refined(ZeroOr(Float(0.1, 4.0)), lambda x: -x)
    assert found == Fixed(0.0)


def test_a_switch_takes_the_share_of_zeros_among_the_best():
    found, _ = refined(ZeroOr(Float(0.1, 4.0), 0.5), lambda x: random.Random(x).random() if x else 0.9)
    assert isinstance(found, ZeroOr)
    assert found.probability == 0.9


def test_what_few_of_the_best_have_is_left_as_it_is():
    space = SearchSpace({"a": Choice([0, 1]), "b": Float(0.0, 1.0)}, when={"b": When("a", 1)})
    points = space.sample_many(100)
    found = refine(space, points, [float(point["a"] == 0) for point in points])
    assert found.space.parameters["b"] == Float(0.0, 1.0)
    assert "b: left as it is, only 0 of the best points have it" in found.notes


def test_diverged_points_are_tried_and_not_good():
    domain = Float(0.0, 10.0)
    found, _ = refined(domain, lambda x: math.nan if x > 5 else x)
    assert found.high == 5.0 or found.high < 6.0


def test_a_smaller_score_is_better_where_the_mode_says_so():
    assert refined(Float(0.0, 10.0), lambda x: abs(x - 5), mode="min")[0].high < 7


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"scores": [1.0]}, SpaceError, "refine.scores: must be one for each of 20 points, got 1"),
        ({"scores": [math.nan] * 20}, SpaceError, "refine.scores: must have at least 10 finite scores"),
        (
            {"scores": [None] * 20},
            SpaceError,
            "refine.scores.0: must be a number, nan for a point that diverged, got None",
        ),
        ({"quantile": 0.0}, DomainError, "refine.quantile: must be in (0, 1], got 0.0"),
        ({"points": [{"x": 7.0}] * 20}, SpaceError, "refine.points.0: x: must be a float in [0, 1], got 7.0; adopt()"),
    ],
)
def test_a_sweep_that_says_nothing_is_refused(change, error, says):
    given = {"points": one(Float(0.0, 1.0)).sample_many(20), "scores": [float(i) for i in range(20)]} | change
    with pytest.raises(error) as caught:
        refine(one(Float(0.0, 1.0)), **given)
    assert says in str(caught.value)
