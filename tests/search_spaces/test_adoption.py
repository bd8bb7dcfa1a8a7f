import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Choice, DomainError, Fixed, Float, Int, SearchSpace, SymLog, When, ZeroOr, adopt, catalog
from search_spaces.domains.values import identity

ANY_SPACE = st.from_type(SearchSpace)
SEEDS = st.integers(0, 2**32)


@given(ANY_SPACE, SEEDS)
def test_points_of_the_same_space_are_kept_as_they_are(space, seed):
    points = space.sample_many(5, seed)
    adoption = adopt(space, points)
    assert all(report.outcome in {"kept", "merged"} for report in adoption.reports)
    keys = [[(name, *identity(value)) for name, value in point.items()] for point in points]
    assert list(adoption.points) == [point for index, point in enumerate(points) if keys[index] not in keys[:index]]


@given(ANY_SPACE, ANY_SPACE, SEEDS)
def test_whatever_is_given_what_is_adopted_is_in_the_space(space, other, seed):
    mixed = [
        {**other_point, **point}
        for other_point, point in zip(other.sample_many(4, seed), space.sample_many(4), strict=True)
    ]
    adoption = adopt(space, [*other.sample_many(4, seed), *mixed])
    assert all(space.problems(point) == [] for point in adoption.points)
    assert len(adoption.reports) == 8
    assert [report.index for report in adoption.reports] == list(range(8))
    assert len(adoption.points) == sum(report.outcome in {"kept", "clipped"} for report in adoption.reports)


@given(ANY_SPACE, SEEDS)
def test_texts_mean_what_they_were_written_for(space, seed):
    point = space.sample(seed)
    texts = {name: str(value) for name, value in point.items()}
    ambiguous = any(
        (isinstance(domain, Choice) and len({str(option) for option in domain.options}) < len(domain.options))
        or domain.contains(texts.get(name)) is not isinstance(point.get(name), str)
        for name, domain in space.parameters.items()
    )
    if not ambiguous:
        assert adopt(space, [texts]).points == (point,)


SPACE = SearchSpace(
    {
        "lr": Float(1e-3, 0.1, log=True),
        "drop": Float(0.0, 0.5, step=0.1),
        "size": Choice([16, 32, 64], ordered=True),
        "depth": Int(2, 8, step=2),
        "weight": SymLog(-1.0, -0.01, gap=0.01),
        "alpha": ZeroOr(Float(0.1, 4.0)),
        "beta": Float(0.5, 0.9),
        "name": Choice(["sgd", "adamw"]),
        "epochs": Fixed(9),
    },
    when={"beta": When("name", "sgd")},
)
GOOD = {
    "lr": 0.01,
    "drop": 0.2,
    "size": 32,
    "depth": 4,
    "weight": -0.1,
    "alpha": 0.0,
    "beta": 0.6,
    "name": "sgd",
    "epochs": 9,
}


@pytest.mark.parametrize(
    ("name", "value", "moved"),
    [
        ("lr", 1.0, 0.1),
        ("lr", 1e-9, 1e-3),
        ("drop", 0.33, 0.3),
        ("drop", 7, 0.5),
        ("size", 100, 64),
        ("size", 17, 16),
        ("depth", 5.2, 6),
        ("depth", -3, 2),
        ("depth", 2**60, 8),
        ("weight", -7.0, -1.0),
        ("weight", -0.001, -0.01),
        ("alpha", 9.0, 4.0),
        ("alpha", 0.01, 0.1),
        ("epochs", 27, 9),
    ],
)
def test_a_number_outside_is_moved_to_the_nearest_value_and_reported(name, value, moved):
    adoption = adopt(SPACE, [{**GOOD, name: value}])
    assert adoption.points == ({**GOOD, name: moved},)
    assert adoption.reports[0].outcome == "clipped"
    assert adoption.reports[0].notes[0].startswith(f"{name}: {value!r} moved to {moved!r}")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "lion"}, "name: must be one of 'sgd', 'adamw', got 'lion'"),
        ({"weight": 0.3}, "weight: must be a float in [-1, -0.01], signed log, got 0.3"),
        ({"weight": 0.0}, "weight: must be a float in [-1, -0.01], signed log, got 0.0"),
        ({"lr": 0.0}, "lr: must be a float in [0.001, 0.1], log, got 0.0"),
        ({"lr": "fast"}, "lr: must be a float in [0.001, 0.1], log, got 'fast'"),
        ({"lr": None}, "lr: must be a float in [0.001, 0.1], log, got None"),
        ({"lr": True}, "lr: must be a float in [0.001, 0.1], log, got True"),
        ({"lr": float("nan")}, "lr: must be a float in [0.001, 0.1], log, got nan"),
    ],
)
def test_what_no_nearby_value_means_drops_the_point(change, says):
    adoption = adopt(SPACE, [{**GOOD, **change}])
    assert adoption.points == ()
    assert adoption.reports[0].outcome == "dropped"
    assert adoption.reports[0].notes == (says,)


def test_a_missing_value_drops_the_point_unless_there_is_one_to_fill_in():
    lacking = {name: value for name, value in GOOD.items() if name != "lr"}
    assert adopt(SPACE, [lacking]).reports[0].notes == ("lr: no value is given, and none to fill in",)
    filled = adopt(SPACE, [lacking], fill={"lr": 0.02})
    assert filled.points == ({**GOOD, "lr": 0.02},)
    assert filled.reports[0].notes == ("lr: filled with 0.02",)


def test_what_the_space_does_not_have_or_has_no_use_for_is_left_out():
    adoption = adopt(SPACE, [{**GOOD, "name": "adamw", "stranger": 1}])
    assert adoption.points == ({name: value for name, value in {**GOOD, "name": "adamw"}.items() if name != "beta"},)
    assert adoption.reports[0].outcome == "kept"
    assert adoption.reports[0].notes == (
        "stranger: left out, the space has no such parameter",
        "beta: left out, it exists only when name = 'sgd'",
    )


def test_points_that_become_one_are_merged():
    adoption = adopt(SPACE, [{**GOOD, "lr": 5.0}, {**GOOD, "lr": 7.0}, GOOD])
    assert [report.outcome for report in adoption.reports] == ["clipped", "merged", "kept"]
    assert len(adoption.points) == 2


def test_a_point_that_breaks_a_constraint_is_dropped():
    space = SearchSpace({"a": Int(1, 9), "b": Int(1, 9)}, constraints=["a < b"])
    adoption = adopt(space, [{"a": 3, "b": 12}, {"a": 12, "b": 3}])
    assert adoption.points == ({"a": 3, "b": 9},)
    assert adoption.reports[1].notes[-1] == "a, b: must satisfy 'a < b', got a = 9, b = 3"


def test_a_fill_that_is_no_value_is_refused():
    with pytest.raises(DomainError, match=r"fill\.lr: must be a float in \[0\.001, 0\.1\], log, got 1\.0"):
        adopt(SPACE, [], fill={"lr": 1.0})


def test_a_sweep_over_one_sign_starts_from_a_sweep_over_both():
    old = catalog.snnl().sample_many(50, seed=1)
    adoption = adopt(catalog.entangle(), old)
    assert all(point["snnl.weight"] <= 0 for point in adoption.points)
    assert {report.outcome for report in adoption.reports} >= {"kept", "dropped"}
    assert str(adoption).startswith("50 points: ")


def test_what_is_no_point_is_refused():
    with pytest.raises(DomainError, match=r"adopt\.points\.1: must be a mapping from names to values, got 3"):
        adopt(SPACE, [GOOD, 3])
