"""Making a domain smaller: what `SearchSpace.narrow` allows, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from search_spaces.domains import Choice, Domain, Fixed, Float, Int, Scalar, SymLog, ZeroOr
from search_spaces.numeric import intervals
from search_spaces.values import broken, is_number

# (low, high), a list of options, or a whole domain.
Narrowing: TypeAlias = Domain | tuple[float, float] | Sequence[Scalar]


def narrowed(domain: Domain, to: Narrowing) -> Domain:
    """Return the smaller domain.

    A tuple (low, high) moves the bounds, a list keeps these options, a domain replaces. Of a `ZeroOr`
    a tuple or list narrows the domain inside, and its probability stays.

    Raises:
        DomainError: the result would hold a value that the domain does not.

    >>> narrowed(Float(1e-4, 1.0, log=True), (1e-3, 1.0))
    Float(low=0.001, high=1.0, log=True)
    >>> narrowed(Float(1e-4, 1.0, log=True), (1e-3, 3.0))
    Traceback (most recent call last):
    search_spaces.errors.DomainError: narrow: must lie within a float in [0.0001, 1], log, got (0.001, 3.0)
    """
    smaller = _result(domain, to)
    if not is_within(smaller, domain):
        raise broken("narrow", f"must lie within {domain.describe()}, got {to!r}")
    return smaller


def is_within(inner: Domain, outer: Domain) -> bool:
    """Whether every value of `inner` is a value of `outer`.

    >>> is_within(SymLog(-0.5, 0.5, gap=0.01), SymLog(-1.0, 1.0, gap=0.001))
    True
    >>> is_within(Float(-0.5, 0.5), SymLog(-1.0, 1.0, gap=0.001))
    False
    """
    match inner:
        case Fixed(value=value):
            return outer.contains(value)
        case Choice(options=options):
            return all(outer.contains(option) for option in options)
        case ZeroOr(domain=domain, zero=zero):
            return outer.contains(zero) and is_within(domain, outer)
        case _:
            return _intervals_within(inner, outer.domain if isinstance(outer, ZeroOr) else outer)


def _result(domain: Domain, to: Narrowing) -> Domain:
    match domain, to:
        case _, Domain():
            return to
        case ZeroOr(domain=inner, probability=probability), _:
            return ZeroOr(narrowed(inner, to), probability)
        case _, tuple():
            return _bounded(domain, to)
        case _, str():
            raise broken("narrow", f"must be (low, high), a list or a domain, got {to!r}; write [{to!r}]")
        case _:
            return Choice(to)


def _bounded(domain: Domain, to: tuple[object, ...]) -> Domain:
    if len(to) != 2 or not isinstance(domain, Float | Int | SymLog):
        raise broken("narrow", f"(low, high) fits a Float, an Int or a SymLog, got {to!r} for {domain!r}")
    low, high = to
    match domain:
        case Float(log=log):
            return Float(low, high, log=log)  # type: ignore[arg-type]  # the constructor checks
        case Int(log=log):
            return Int(low, high, log=log)  # type: ignore[arg-type]  # the constructor checks
        case SymLog(gap=gap) if is_number(low) and low >= gap:
            return Float(low, high, log=True)  # type: ignore[arg-type]  # the constructor checks
        case SymLog(gap=gap):
            return SymLog(low, high, gap=gap)  # type: ignore[arg-type]  # the constructor checks


def _intervals_within(inner: Domain, outer: Domain) -> bool:
    if isinstance(outer, Int) and not isinstance(inner, Int):
        return False
    return all(
        any(low <= mine_low and mine_high <= high for low, high in intervals(outer))
        for mine_low, mine_high in intervals(inner)
    )
