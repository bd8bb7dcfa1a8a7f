"""Narrowing of a domain, for `SearchSpace.narrow`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from search_spaces.domains.types import Choice, Domain, Float, Int, Scalar, SymLog, ZeroOr, intervals
from search_spaces.domains.values import broken, identity
from search_spaces.errors import cut, quoted

# (low, high), a list of options, or a whole domain.
Narrowing: TypeAlias = Domain | tuple[Scalar, Scalar] | Sequence[Scalar]

# Up to this many values are compared one by one; of more, the ends and the first step are enough.
_FEW = 10_000


def narrowed(domain: Domain, to: Narrowing) -> Domain:
    """Return the smaller domain.

    A tuple (low, high) moves the bounds, or keeps the options of an ordered `Choice` between the two. A list keeps
    these options. A domain replaces the old one. For a `ZeroOr`, a tuple or list narrows the inner domain; the
    probability does not change.

    Raises:
        DomainError: the result would contain a value that the domain does not.

    >>> narrowed(Float(1e-4, 1.0, log=True), (1e-3, 1.0))
    Float(low=0.001, high=1.0, log=True)
    >>> narrowed(SymLog(-1.0, 1.0, gap=1e-3), (-1.0, -0.01)).describe()
    'a float in [-1, -0.01], signed log'
    >>> narrowed(Float(1e-4, 1.0, log=True), (1e-3, 3.0))
    Traceback (most recent call last):
    search_spaces.errors.DomainError: narrow: must be within a float in [0.0001, 1], log, got (0.001, 3.0)
    """
    smaller = _result(domain, to)
    if not is_within(smaller, domain):
        raise broken("narrow", f"must be within {cut(domain.describe(), 160)}, got {quoted(to)}")
    return smaller


def is_within(inner: Domain, outer: Domain) -> bool:
    """Return True if every value of `inner` is a value of `outer`.

    >>> is_within(SymLog(-0.5, 0.5, gap=0.01), SymLog(-1.0, 1.0, gap=0.001))
    True
    >>> is_within(Int(2, 10, step=4), Int(0, 20, step=2)), is_within(Int(2, 10, step=4), Int(0, 20, step=4))
    (True, False)
    """
    if isinstance(inner, ZeroOr):
        return outer.contains(inner.zero) and is_within(inner.domain, outer)
    values = inner.values()
    if values is None:
        return outer.values() is None and _intervals_within(inner, outer)
    # Both are equally spaced: if the first two and the last are contained, so are all between.
    few = values if len(values) <= _FEW else (values[0], values[1], values[-1])
    return all(outer.contains(value) for value in few)


def _result(domain: Domain, to: Narrowing) -> Domain:
    match domain, to:
        case _, Domain():
            return to
        case ZeroOr(domain=inner, probability=probability), _:
            return ZeroOr(narrowed(inner, to), probability)
        case _, tuple():
            return _bounded(domain, to)
        case _, str():
            raise broken("narrow", f"must be (low, high), a list or a domain, got {quoted(to)}; write [{quoted(to)}]")
        case Choice(ordered=True), _:
            return _in_order(domain, Choice(to, ordered=True))
        case _:
            return Choice(to)


def _bounded(domain: Domain, to: tuple[object, ...]) -> Domain:
    if len(to) == 2:
        low, high = to
        match domain:
            case Float(log=log, step=step):
                return Float(low, high, log=log, step=step)  # type: ignore[arg-type]  # the constructor checks
            case Int(log=log, step=step):
                return Int(low, high, log=log, step=step)  # type: ignore[arg-type]  # the constructor checks
            case SymLog(gap=gap):
                return SymLog(low, high, gap=gap)  # type: ignore[arg-type]  # the constructor checks
            case Choice(ordered=True):
                return _between(domain, low, high)
    kinds = "a Float, an Int, a SymLog or an ordered Choice"
    remedy = f"; write {quoted(list(to))} to keep these options" if isinstance(domain, Choice) else ""
    raise broken("narrow", f"(low, high) fits {kinds}, got {quoted(to)} for {quoted(domain)}{remedy}")


def _between(domain: Choice, low: object, high: object) -> Choice:
    places = [[identity(option) for option in domain.options].index(identity(end)) for end in _known(domain, low, high)]
    if places[0] > places[1]:
        raise broken("narrow", f"{quoted(low)} must not come after {quoted(high)} in {quoted(list(domain.options))}")
    return Choice(domain.options[places[0] : places[1] + 1], ordered=True)


def _known(domain: Choice, *ends: object) -> tuple[object, ...]:
    for end in ends:
        if not domain.contains(end):
            raise broken("narrow", f"must be within {cut(domain.describe(), 160)}, got {quoted(end)}")
    return ends


def _in_order(domain: Choice, kept: Choice) -> Choice:
    order = [option for option in domain.options if kept.contains(option)]
    if len(order) == len(kept.options) and order != list(kept.options):
        raise broken(
            "narrow", f"must keep the order of {quoted(list(domain.options))}, got {quoted(list(kept.options))}"
        )
    return kept


def _intervals_within(inner: Domain, outer: Domain) -> bool:
    within = intervals(outer.domain if isinstance(outer, ZeroOr) else outer)
    return all(
        any(low <= inner_low and inner_high <= high for low, high in within)
        for inner_low, inner_high in intervals(inner)
    )
