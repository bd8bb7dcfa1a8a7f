import itertools
import math
import random
import sys
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Choice, Domain, DomainError, Fixed, Float, Int, SymLog, ZeroOr, parse_space
from search_spaces.operations.narrowing import is_within

UNIT = st.floats(0.0, 1.0)
ANY_DOMAIN = st.from_type(Domain)
DISCRETE = ANY_DOMAIN.filter(lambda domain: domain.values() is not None)
NAN, INF = math.nan, math.inf


@given(ANY_DOMAIN, UNIT)
def test_every_quantile_is_a_value_of_the_domain(domain, u):
    assert domain.contains(domain.from_unit(u))


@given(ANY_DOMAIN, UNIT)
def test_values_are_plain_python_scalars(domain, u):
    assert type(domain.from_unit(u)) in {type(None), bool, int, float, str}


@given(ANY_DOMAIN, UNIT)
def test_value_survives_its_own_quantile(domain, u):
    value = domain.from_unit(u)
    again = domain.from_unit(domain.to_unit(value))
    inner = domain.domain if isinstance(domain, ZeroOr) else domain
    if isinstance(inner, SymLog) and value:
        # Compared where the axis has no hole: -gap and +gap are neighbouring quantiles.
        value, again = inner.to_coordinate(value), inner.to_coordinate(again)
    if type(value) is float:
        assert again == pytest.approx(value, rel=1e-9, abs=1e-9)
    else:
        assert (type(again), again) == (type(value), value)


@given(st.from_type(Float) | st.from_type(Int) | st.from_type(SymLog), UNIT, UNIT)
def test_numeric_quantiles_are_monotonic(domain, u, v):
    low, high = sorted((u, v))
    assert domain.from_unit(low) <= domain.from_unit(high)


@given(ANY_DOMAIN)
def test_document_of_a_domain_is_read_back_as_the_same_domain(domain):
    space = parse_space({"parameters": {"x": domain.to_dict()}})
    assert space.parameters["x"] == domain
    assert hash(space.parameters["x"]) == hash(domain)


@given(ANY_DOMAIN, st.integers())
def test_sampling_consumes_one_uniform_draw(domain, seed):
    rng, twin = random.Random(seed), random.Random(seed)
    assert domain.sample(rng) == domain.from_unit(twin.random())
    assert rng.getstate() == twin.getstate()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Float(low=1, high=0), "Float: low < high must hold, got low=1.0, high=0.0"),
        (lambda: Float(1, 1), "Float: low < high must hold, got low=1.0, high=1.0; use Fixed for one value"),
        (lambda: Float(0, INF), "Float.high: must be a finite number, got inf"),
        (lambda: Float(NAN, 1), "Float.low: must be a finite number, got nan"),
        (lambda: Float("1", 2), "Float.low: must be a finite number, got '1'"),
        (lambda: Float(False, 1), "Float.low: must be a finite number, got False"),
        (lambda: Float(0, 10**400), "Float.high: must be a finite number, got"),
        (lambda: Float(0, 1, log=True), "Float: low > 0 must hold with log=True, got low=0.0"),
        (lambda: Float(0, 1, log=1), "Float.log: must be True or False, got 1"),
        (lambda: Int(0, 3, log=True), "Int: low >= 1 must hold with log=True, got low=0"),
        (lambda: Int(0, 2.0), "Int.high: must be an int within 2**53, got 2.0"),
        (lambda: Int(False, 2), "Int.low: must be an int within 2**53, got False"),
        (lambda: Int(0, 2**53 + 1), "Int.high: must be an int within 2**53"),
        (lambda: SymLog(0.05, 1, gap=0.1), "SymLog: low must not be between -gap and gap, got low=0.05"),
        (lambda: SymLog(-1, -0.05, gap=0.1), "SymLog: high must not be between -gap and gap"),
        (lambda: SymLog(-0.1, -0.1, gap=0.1), "SymLog: low < high must hold"),
        (lambda: SymLog(-1, 1, gap=0), "SymLog: gap > 0 must hold"),
        (lambda: Float(0, 1, step=0.3), "Float: high must be low and a whole number of steps, got low=0.0, high=1.0"),
        (lambda: Float(0.1, 1, step=0.1, log=True), "Float.step: must not be combined with log=True"),
        (lambda: Float(0, 1, step=0), "Float.step: must be > 0"),
        (lambda: Float(0, 1, step=True), "Float.step: must be a finite number"),
        (
            lambda: Int(0, 9, step=2),
            "Int: high must be low and a whole number of steps, got low=0, high=9, step=2; the nearest: high=8 or",
        ),
        (
            lambda: Int(0, 9, step=20),
            "Int: high must be low and a whole number of steps, got low=0, high=9, step=20; the nearest: high=20",
        ),
        (lambda: Int(0, 9, step=1.5), "Int.step: must be an int"),
        (lambda: Int(0, 9, step=-1), "Int.step: must be > 0"),
        (lambda: Choice([1], ordered=1), "Choice.ordered: must be True or False"),
        (lambda: SymLog(-1, 1, gap=1), "SymLog: holds two values only"),
        (lambda: Choice([]), "Choice.options: must have at least one value, got none"),
        (lambda: Choice("sgd"), "Choice.options: must be a list, got 'sgd'; write Choice(['sgd'])"),
        (lambda: Choice([1, 1]), "Choice.options: must differ from each other, got [1, 1]"),
        (lambda: Choice([0.0, -0.0]), "Choice.options: must differ from each other"),
        (lambda: Choice([[1]]), "Choice.options: must be None, a bool, an int, a float or a str"),
        (lambda: Choice([NAN]), "Choice.options: must be finite, got nan"),
        (lambda: Fixed((1, 2)), "Fixed.value: must be None, a bool, an int, a float or a str, got (1, 2)"),
        (lambda: ZeroOr(Float(0, 1)), "ZeroOr.domain: must not contain 0 itself"),
        (lambda: ZeroOr(Fixed(0.0)), "ZeroOr.domain: must not contain 0 itself"),
        (lambda: ZeroOr(ZeroOr(Int(1, 2))), "ZeroOr.domain: must be a domain of numbers"),
        (lambda: ZeroOr(Choice(["a"])), "ZeroOr.domain: must be a domain of numbers"),
        (lambda: ZeroOr(0.5), "ZeroOr.domain: must be a domain of numbers, got 0.5"),
        (lambda: ZeroOr(Int(1, 2), 1.0), "ZeroOr.probability: must be in (0, 1), got 1.0; use"),
    ],
)
def test_illegal_domain_cannot_be_constructed(build, message):
    with pytest.raises(DomainError) as caught:
        build()
    assert str(caught.value).startswith(message)


def test_type_is_part_of_the_identity_of_an_option():
    mixed = Choice([1, True, 1.0])
    assert [mixed.from_unit(mixed.to_unit(option)) for option in mixed.options] == [1, True, 1.0]
    assert [type(mixed.from_unit(mixed.to_unit(option))) for option in mixed.options] == [int, bool, float]
    assert Choice([1]) != Choice([True])
    assert Fixed(1) != Fixed(1.0)


@pytest.mark.parametrize("value", [True, NAN, INF, "0.5", None, 2])
def test_float_contains_only_finite_numbers_within_its_bounds(value):
    assert not Float(0.0, 1.5).contains(value)


def test_array_scalars_are_refused():
    numpy = pytest.importorskip("numpy")
    assert not Float(0.0, 1.0).contains(numpy.float64(0.5))
    assert not Int(0, 1).contains(numpy.int64(1))
    with pytest.raises(DomainError, match="of type float64"):
        Choice([numpy.float64(0.5)])


def test_integer_bounds_make_the_same_float_domain():
    assert Float(0, 1) == Float(0.0, 1.0)
    assert type(Float(0, 1).low) is float


@given(st.from_type(SymLog), UNIT)
def test_symlog_coordinate_inverts(domain, u):
    value = domain.from_unit(u)
    assert domain.from_coordinate(domain.to_coordinate(value)) == pytest.approx(value, rel=1e-9)


@given(st.floats(1e-300, 1.0))
def test_symlog_coordinate_is_exact_at_the_gap_and_positive_at_zero(gap):
    domain = SymLog(-3.0, 3.0, gap=gap)
    assert domain.from_coordinate(domain.to_coordinate(-gap)) == -gap
    assert domain.from_coordinate(domain.to_coordinate(gap)) == gap
    assert domain.from_coordinate(0.0) == domain.from_coordinate(-0.0) == gap


def test_symlog_is_log_uniform_in_magnitude_on_each_side():
    domain = SymLog(-1.0, 1.0, gap=1e-4)
    draws = [domain.from_unit((i + 0.5) / 10_000) for i in range(10_000)]
    decades = [sum(10.0**-k <= value < 10.0 ** (1 - k) for value in draws) for k in range(1, 5)]
    assert decades == pytest.approx([1250] * 4, abs=2)
    assert sum(value < 0 for value in draws) == 5000


def test_one_sided_symlog_never_draws_the_point_side():
    domain = SymLog(-0.1, 10.0, gap=0.1)
    assert all(domain.from_unit(u / 100) >= 0.1 for u in range(1, 101))


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_zero_or_is_zero_with_its_probability(probability):
    domain = ZeroOr(Float(0.1, 4.0, log=True), probability)
    off = sum(domain.from_unit((i + 0.5) / 1000) == 0 for i in range(1000))
    assert off == round(1000 * probability)


@pytest.mark.parametrize(("inner", "kind"), [(Int(1, 3), int), (Float(0.5, 1.0), float)])
def test_zero_has_the_type_of_the_domain(inner, kind):
    assert type(ZeroOr(inner).from_unit(0.0)) is kind


@given(st.integers(1, 10**6), st.integers(1, 1000), st.booleans())
def test_int_round_trips_exactly_through_its_quantile(low, width, log):
    domain = Int(low, low + width, log=log)
    middle = low + width // 2
    assert [domain.from_unit(domain.to_unit(v)) for v in (low, middle, low + width)] == [
        low,
        middle,
        low + width,
    ]


def test_linear_int_gives_every_value_the_same_share():
    draws = [Int(2, 10).from_unit((i + 0.5) / 900) for i in range(900)]
    assert [draws.count(value) for value in range(2, 11)] == [100] * 9


def test_bounds_whose_logarithms_are_one_make_a_domain():
    domain = Float(1e-9, math.nextafter(1e-9, 1), log=True)
    assert domain.to_unit(1e-9) == 0.0
    assert domain.contains(domain.from_unit(0.5))


def test_widest_float_does_not_overflow():
    domain = Float(-1.7e308, 1.7e308)
    assert domain.from_unit(0.5) == 0.0
    assert domain.to_unit(0.0) == 0.5


@given(ANY_DOMAIN)
def test_quantile_outside_the_unit_interval_is_refused(domain):
    for u in (-0.1, 1.1, NAN):
        with pytest.raises(DomainError, match=r"must be in \[0, 1\]"):
            domain.from_unit(u)


def test_quantile_of_a_stranger_is_refused_with_the_law_and_the_value():
    with pytest.raises(DomainError, match=r"Choice: must be one of 'sgd', 'adamw', got 'adam'"):
        Choice(["sgd", "adamw"]).to_unit("adam")


@given(DISCRETE)
def test_every_value_of_a_discrete_domain_has_a_quantile_of_its_own(domain):
    values = [values[place] for values in [domain.values()] for place in range(0, len(values), 1 + len(values) // 200)]
    assert [domain.from_unit(domain.to_unit(value)) for value in values] == values
    assert len({domain.to_unit(value) for value in values}) == len(values)


@given(st.floats(-1e3, 1e3).map(lambda x: round(x, 3)), st.sampled_from([0.1, 0.25, 0.001, 3.0]), st.integers(1, 300))
def test_a_step_gives_the_floats_that_a_person_would_write(low, step, count):
    high = float(Decimal(repr(low)) + count * Decimal(repr(step)))
    domain = Float(low, high, step=step)
    assert len(domain.values()) == count + 1
    assert domain.values()[-1] == high == domain.from_unit(1.0)
    assert all(len(repr(value)) < 12 for value in domain.values())
    assert all(domain.contains(low + k * step) for k in range(1, count))  # as a sampler computes them
    assert not domain.contains(low + step / 2)


@given(DISCRETE)
def test_what_str_writes_is_read_back(domain):
    values = list(itertools.islice(domain.values(), 50))
    texts = [str(value) for value in values]
    for value in values:
        if texts.count(str(value)) == 1:
            assert domain.read(str(value)) == value


@given(st.from_type(Float) | st.from_type(SymLog), UNIT)
def test_a_float_is_read_back_exactly(domain, u):
    assert domain.read(str(domain.from_unit(u))) == domain.from_unit(u)


@pytest.mark.parametrize(
    ("domain", "text", "says"),
    [
        (Float(0.0, 1.0), "high", "got the text 'high'"),
        (Float(0.0, 1.0), "2", "must be a float in [0, 1], got 2"),
        (Float(0.0, 1.0), "nan", "got nan"),
        (Int(1, 3), "2.0", "must be an int in [1, 3], got 2.0"),
        (Choice(["a"]), "b", "got the text 'b'"),
        (Choice([1, "1"]), "1", "may mean 1 or '1'"),
        (Fixed("a"), "b", "must be always 'a'"),
        (ZeroOr(Float(0.1, 1.0)), "0.05", "must be a float in [0.1, 1]"),
    ],
)
def test_a_text_that_is_no_value_is_refused(domain, text, says):
    with pytest.raises(DomainError) as caught:
        domain.read(text)
    assert says in str(caught.value)


def test_zero_is_read_in_any_form():
    assert ZeroOr(Float(0.1, 1.0)).read("0") == ZeroOr(Float(0.1, 1.0)).read("0.0") == 0.0


@given(st.floats(1e-4, 1.0), st.floats(1.0, 100.0), st.floats(1.01, 100.0), UNIT)
def test_one_side_of_a_symlog_mirrors_the_other(gap, near, far, u):
    right = SymLog(gap * near, gap * near * far, gap=gap)
    left = SymLog(-gap * near * far, -gap * near, gap=gap)
    assert left.contains(left.from_unit(u))
    assert math.isclose(left.from_unit(u), -right.from_unit(1 - u), rel_tol=1e-9)
    assert left.intervals() == tuple((-high, -low) for low, high in right.intervals())


SMALL_LATTICES = st.builds(
    lambda low, step, count: Int(low, low + step * count, step=step),
    st.integers(-20, 20),
    st.integers(1, 5),
    st.integers(1, 20),
)


@given(SMALL_LATTICES, SMALL_LATTICES)
def test_one_lattice_is_within_another_exactly_where_its_values_are(inner, outer):
    assert is_within(inner, outer) is (set(inner.values()) <= set(outer.values()))


def test_order_is_part_of_a_choice():
    assert Choice([1, 2], ordered=True) != Choice([1, 2])
    assert repr(Choice([1, 2], ordered=True)) == "Choice([1, 2], ordered=True)"
    assert Choice([1, 2], ordered=True).to_dict() == {"choice": [1, 2], "ordered": True}


def test_a_step_near_the_rounding_of_its_floats_contains_its_own_values():
    domain = Float(1e6, 1e6 + 1, step=0.001)
    assert all(domain.contains(value) for value in domain.values())


ANYTHING = st.one_of(
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.sampled_from(
        [0, 1, -1, 0.1, -0.1, 5, True, False, None, "1", 2**53, 2**53 + 1, 1e308, 10**400, 5e-324, 2.0**-1022]
    ),
)


def accepts(build):
    try:
        build()
    except DomainError:
        return False
    return True


def finite(value):
    return type(value) in {int, float} and abs(value) <= sys.float_info.max


@given(ANYTHING, ANYTHING, ANYTHING)
def test_a_float_accepts_exactly_what_its_documentation_says(low, high, log):
    legal = finite(low) and finite(high) and float(low) < float(high) and type(log) is bool
    legal = legal and (not log or float(low) >= sys.float_info.min)
    assert accepts(lambda: Float(low, high, log=log)) is legal


@given(ANYTHING, ANYTHING, st.booleans(), st.sampled_from([1, 2, 3, 0, -1, True, 1.0, None]))
def test_an_int_accepts_exactly_what_its_documentation_says(low, high, log, step):
    legal = all(type(x) is int and abs(x) <= 2**53 for x in (low, high, step))
    legal = legal and low < high and (not log or low >= 1) and step >= 1
    legal = legal and (step == 1 or (not log and (high - low) % step == 0 and (high - low) // step < 2**53))
    assert accepts(lambda: Int(low, high, log=log, step=step)) is legal


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-3, 12), st.sampled_from([1, 10, 1000]))
def test_a_step_is_accepted_exactly_where_it_divides_the_range_in_decimals(low, high, step, scale):
    legal = step > 0 and low < high and (high - low) % step == 0
    assert accepts(lambda: Float(low / scale, high / scale, step=step / scale)) is legal


@given(ANYTHING, ANYTHING, ANYTHING)
def test_a_symlog_accepts_exactly_what_its_documentation_says(low, high, gap):
    legal = finite(low) and finite(high) and finite(gap) and float(gap) > 0 and float(low) < float(high)
    legal = legal and min(abs(float(low)), abs(float(high))) >= float(gap)
    legal = legal and not (-float(low) == float(gap) == float(high))
    assert accepts(lambda: SymLog(low, high, gap=gap)) is legal


@given(st.lists(ANYTHING | st.just(()) | st.text(max_size=1)), st.sampled_from([True, False, None, 1]))
def test_a_choice_accepts_exactly_what_its_documentation_says(options, ordered):
    plain = all(type(x) in {type(None), bool, int, float, str} and x == x for x in options)  # noqa: PLR0124 - nan
    legal = plain and all(type(x) is not float or math.isfinite(x) for x in options) and type(ordered) is bool
    legal = legal and 0 < len(options) == len({(type(x), x) for x in options})
    assert accepts(lambda: Choice(options, ordered=ordered)) is legal


@given(ANY_DOMAIN | st.just(3), ANYTHING)
def test_a_zero_or_accepts_exactly_what_its_documentation_says(domain, probability):
    numbers = isinstance(domain, Float | Int | SymLog) or (
        isinstance(domain, Choice | Fixed) and all(type(x) in {int, float} for x in domain.values())
    )
    legal = numbers and not domain.contains(0) and not domain.contains(0.0)
    legal = legal and finite(probability) and 0 < probability < 1
    assert accepts(lambda: ZeroOr(domain, probability)) is legal
