"""Hypothesis strategies for domains and spaces, registered for `st.from_type`."""

from hypothesis import settings
from hypothesis import strategies as st

from search_spaces import (
    Choice,
    Domain,
    Fixed,
    Float,
    Int,
    SearchSpace,
    SymLog,
    When,
    ZeroOr,
    equals,
    greater_than,
    not_equal,
    one_of,
)
from search_spaces.values import identity, is_number

# The machine may be shared: a slow example is no failure.
settings.register_profile("shared", deadline=None, max_examples=60)
settings.load_profile("shared")

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(-1e6, 1e6, allow_nan=False),
    st.text(max_size=4),
    st.sampled_from(["no", "on", "1e-3", "null", "010", "2024-01-01", "~", ""]),
)
NAMES = ("a", "b.c", "b.d", "e_1", "g")


def bounds(low, high):
    pairs = st.tuples(st.floats(low, high), st.floats(low, high))
    return pairs.map(sorted).filter(lambda pair: pair[0] < pair[1] and pair[0] + 0.0 < pair[1])


FLOATS = bounds(-1e6, 1e6).map(lambda pair: Float(*pair)) | bounds(1e-9, 1e6).map(lambda pair: Float(*pair, log=True))
INTS = st.builds(
    lambda low, width, log: Int(low, low + width, log=log),
    st.integers(1, 50),
    st.integers(1, 10**6),
    st.booleans(),
) | st.builds(lambda low, width: Int(low, low + width), st.integers(-50, 50), st.integers(1, 9))
SYMLOGS = st.builds(
    lambda gap, below, above: SymLog(-gap * below, gap * above, gap=gap),
    st.floats(1e-6, 10.0),
    st.just(1.0) | st.floats(1.0, 1e4),
    st.floats(1.01, 1e4),
)
CHOICES = st.lists(SCALARS, min_size=1, max_size=4, unique_by=identity).map(Choice)
FIXED = SCALARS.map(Fixed)
NONZERO = st.one_of(FLOATS, INTS, SYMLOGS, st.just(Choice([0.1, 1])), st.just(Fixed(0.5))).filter(
    lambda domain: not domain.contains(0)
)
ZERO_ORS = st.builds(ZeroOr, NONZERO, st.floats(0.01, 0.99))
DOMAINS = st.one_of(FLOATS, INTS, SYMLOGS, CHOICES, FIXED, ZERO_ORS)


@st.composite
def predicates(draw, parent):
    value = parent.from_unit(draw(st.floats(0, 1)))
    options = [st.just(equals(value)), st.just(not_equal(value)), st.just(one_of(value, "other"))]
    if is_number(value):
        options.append(st.just(greater_than(value)))
    return draw(st.one_of(options))


@st.composite
def spaces(draw):
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    parameters = {name: draw(DOMAINS) for name in names}
    when = {}
    for position, name in enumerate(names):
        if position and draw(st.booleans()):
            parents = draw(st.lists(st.sampled_from(names[:position]), min_size=1, max_size=2, unique=True))
            when[name] = [When(parent, draw(predicates(parameters[parent]))) for parent in parents]
    order = draw(st.permutations(names))
    return SearchSpace({name: parameters[name] for name in order}, when)


for kind, strategy in {
    Domain: DOMAINS,
    Float: FLOATS,
    Int: INTS,
    SymLog: SYMLOGS,
    Choice: CHOICES,
    ZeroOr: ZERO_ORS,
}.items():
    st.register_type_strategy(kind, strategy)
st.register_type_strategy(SearchSpace, spaces())
