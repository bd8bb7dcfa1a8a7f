"""Hypothesis strategies for domains and spaces, registered for `st.from_type`."""

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
    all_of,
    any_of,
    equals,
    greater_than,
    less_than,
    not_equal,
    one_of,
)
from search_spaces.domains.values import identity, is_number

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
STEPPED = st.builds(
    lambda low, step, count: Float(low / 1000, (low + step * count) / 1000, step=step / 1000),
    st.integers(-5000, 5000),
    st.integers(1, 500),
    st.integers(1, 40),
)
STEPPED_INTS = st.builds(
    lambda low, step, count: Int(low, low + step * count, step=step),
    st.integers(-50, 50),
    st.integers(1, 7),
    st.integers(1, 20),
)
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
ONE_SIDED = st.builds(
    lambda gap, near, far: SymLog(-gap * near * far, -gap * near, gap=gap),
    st.floats(1e-6, 10.0),
    st.floats(1.0, 1e3),
    st.floats(1.01, 1e3),
)
SYMLOGS |= ONE_SIDED
FLOATS |= STEPPED
INTS |= STEPPED_INTS
CHOICES = st.builds(
    lambda options, ordered: Choice(options, ordered=ordered),
    st.lists(SCALARS, min_size=1, max_size=4, unique_by=identity),
    st.booleans(),
)
FIXED = SCALARS.map(Fixed)
NONZERO = st.one_of(FLOATS, INTS, SYMLOGS, st.just(Choice([0.1, 1])), st.just(Fixed(0.5))).filter(
    lambda domain: not domain.contains(0)
)
ZERO_ORS = st.builds(ZeroOr, NONZERO, st.floats(0.01, 0.99))
DOMAINS = st.one_of(FLOATS, INTS, SYMLOGS, CHOICES, FIXED, ZERO_ORS)


@st.composite
def leaves(draw, parameters):
    parent = draw(st.sampled_from(sorted(parameters)))
    value = parameters[parent].from_unit(draw(st.floats(0, 1)))
    options = [equals(value), not_equal(value), one_of(value, "other")]
    if is_number(value):
        options += [greater_than(value), less_than(value)]
    return When(parent, draw(st.sampled_from(options)))


def conditions(parameters):
    """Conditions on these parameters, nested."""
    joined = st.lists(leaves(parameters), min_size=1, max_size=3)
    return st.recursive(
        leaves(parameters),
        lambda parts: st.lists(parts, min_size=1, max_size=3).flatmap(
            lambda chosen: st.sampled_from([all_of(*chosen), any_of(*chosen)])
        ),
        max_leaves=4,
    ) | joined.map(lambda chosen: all_of(*chosen))


@st.composite
def constraints(draw, parameters):
    """A constraint that a fair share of the draws satisfy: a bound on one number, or on the smaller of two."""
    numeric = sorted(name for name, domain in parameters.items() if is_only_numbers(domain))
    if not numeric:
        return []
    name, other = draw(st.sampled_from(numeric)), draw(st.sampled_from(numeric))
    bound = parameters[name].from_unit(draw(st.floats(0.3, 1)))
    return [draw(st.sampled_from([f"{name} <= {bound!r}", f"min({name}, {other}) <= {bound!r}"]))]


def is_only_numbers(domain):
    match domain:
        case Choice(options=options):
            return all(is_number(option) for option in options)
        case Fixed(value=value):
            return is_number(value)
        case _:
            return True


@st.composite
def spaces(draw):
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    parameters = {name: draw(DOMAINS) for name in names}
    when = {}
    for position, name in enumerate(names):
        if position and draw(st.booleans()):
            when[name] = draw(conditions({parent: parameters[parent] for parent in names[:position]}))
    order = draw(st.permutations(names))
    texts = draw(constraints(parameters)) if draw(st.booleans()) else []
    return SearchSpace({name: parameters[name] for name in order}, when, texts)


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
