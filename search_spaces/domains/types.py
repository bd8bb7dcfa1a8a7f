"""Parameter domains: value objects that are valid by construction.

Every domain maps the unit interval onto its values (the quantile mapping of its sampling distribution):
`from_unit(u)` for u in [0, 1] and its inverse `to_unit(value)`, exact for discrete domains and up to float
rounding for continuous ones. Sampling is `from_unit` of one uniform draw.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from search_spaces.domains.numeric import Float, Int, finite_float, read_number
from search_spaces.domains.quantiles import check_unit, position
from search_spaces.domains.symlog import SymLog
from search_spaces.domains.values import Domain, Scalar, broken, check_scalar, identity, is_number
from search_spaces.errors import cut, quoted

__all__ = ["Choice", "Domain", "Fixed", "Float", "Int", "Scalar", "SymLog", "ZeroOr", "intervals"]


@final
@dataclass(frozen=True, slots=True, eq=False, init=False)
class Choice(Domain):
    """One of several values, each equally likely; the order is part of the definition.

    The type is part of a value's identity: `Choice([1, True])` has two options. `ordered` means that neighbours
    are similar, as 16, 32 and 64 are and 'sgd' and 'adamw' are not; it does not change sampling.

    Raises:
        DomainError: no option, an option twice, or one that is not a plain scalar.

    >>> Choice(["sgd", "adamw"]).contains("sgd")
    True
    >>> Choice([1, 2]).contains(True)
    False
    """

    options: tuple[Scalar, ...]
    ordered: bool

    def __init__(self, options: Iterable[Scalar], *, ordered: bool = False) -> None:
        if isinstance(options, str) or not isinstance(options, Iterable):
            raise broken("Choice.options", f"must be a list, got {quoted(options)}; write Choice([{quoted(options)}])")
        values = tuple(options)
        if not values:
            raise broken("Choice.options", "must have at least one value, got none")
        for value in values:
            check_scalar("Choice.options", value)
        seen = [identity(value) for value in values]
        if len(set(seen)) < len(seen):
            raise broken("Choice.options", f"must differ from each other, got {quoted(list(values))}")
        if type(ordered) is not bool:
            raise broken("Choice.ordered", f"must be True or False, got {quoted(ordered)}")
        object.__setattr__(self, "options", values)
        object.__setattr__(self, "ordered", ordered)

    def __repr__(self) -> str:
        return f"Choice({list(self.options)!r}" + (", ordered=True)" if self.ordered else ")")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Choice) and (self._key(), self.ordered) == (other._key(), other.ordered)

    def __hash__(self) -> int:
        return hash((self._key(), self.ordered))

    def contains(self, value: object) -> bool:
        """Return True if `value` is one of the options, type included."""
        return identity(value) in self._key()

    def from_unit(self, u: float) -> Scalar:
        """Return the option at quantile `u`."""
        check_unit(u)
        return self.options[min(int(u * len(self.options)), len(self.options) - 1)]

    def to_unit(self, value: Scalar) -> float:
        """Return the quantile in the middle of the option's bin."""
        self.check(value)
        return (self._key().index(identity(value)) + 0.5) / len(self.options)

    def values(self) -> tuple[Scalar, ...]:
        """Return the options."""
        return self.options

    def read(self, text: str) -> Scalar:
        """Return the option of which this text is the `str`.

        Raises:
            DomainError: no option has this text, or several have.

        >>> Choice([None, False, 16]).read("False")
        False
        """
        matches = [option for option in self.options if str(option) == text]
        if len(matches) > 1:
            raise broken("Choice", f"the text {quoted(text)} may mean {cut(' or '.join(map(repr, matches)))}")
        if not matches:
            raise broken("Choice", self.refusal(f"the text {quoted(text)}"))
        return matches[0]

    def describe(self) -> str:
        """Return the domain in words.

        >>> Choice(["sgd", "adamw"]).describe()
        "one of 'sgd', 'adamw'"
        """
        return "one of " + ", ".join(map(repr, self.options)) + (", in this order" if self.ordered else "")

    def to_dict(self) -> dict[str, object]:
        """Return the domain as an entry of a space document.

        >>> Choice([32, 64]).to_dict()
        {'choice': [32, 64]}
        """
        return {"choice": list(self.options)} | ({"ordered": True} if self.ordered else {})

    def _key(self) -> tuple[tuple[type, object], ...]:
        return tuple(identity(option) for option in self.options)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Fixed(Domain):
    """One value.

    Raises:
        DomainError: the value is not a plain scalar.

    >>> Fixed("linf").from_unit(0.3)
    'linf'
    >>> Fixed(True) == Fixed(1)
    False
    """

    value: Scalar

    def __post_init__(self) -> None:
        check_scalar("Fixed.value", self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed) and identity(self.value) == identity(other.value)

    def __hash__(self) -> int:
        return hash(identity(self.value))

    def contains(self, value: object) -> bool:
        """Return True if `value` equals the value, type included."""
        return identity(value) == identity(self.value)

    def from_unit(self, u: float) -> Scalar:
        """Return the value."""
        check_unit(u)
        return self.value

    def to_unit(self, value: Scalar) -> float:
        """Return 1/2: the whole unit interval is one bin."""
        self.check(value)
        return 0.5

    def values(self) -> tuple[Scalar, ...]:
        """Return the one value."""
        return (self.value,)

    def read(self, text: str) -> Scalar:
        """Return the value, if this text is its `str`."""
        if text != str(self.value):
            raise broken("Fixed", self.refusal(f"the text {quoted(text)}"))
        return self.value

    def describe(self) -> str:
        """Return the domain in words.

        >>> Fixed("linf").describe()
        "always 'linf'"
        """
        return f"always {self.value!r}"

    def to_dict(self) -> dict[str, object]:
        """Return the domain as an entry of a space document.

        >>> Fixed("linf").to_dict()
        {'fixed': 'linf'}
        """
        return {"fixed": self.value}


@final
@dataclass(frozen=True, slots=True)
class ZeroOr(Domain):
    """Exactly 0 with a probability, else a value of the domain: a method that may be switched off.

    The zero is an int if the lowest value of the domain is an int, else a float.

    Raises:
        DomainError: the domain contains 0 or values that are not numbers, or the probability is not in (0, 1).

    >>> strength = ZeroOr(Float(0.1, 4.0, log=True), probability=0.25)
    >>> strength.from_unit(0.2), strength.from_unit(0.25), strength.from_unit(1.0)
    (0.0, 0.1, 4.0)
    """

    domain: Domain
    probability: float = 0.5

    def __post_init__(self) -> None:
        if not (isinstance(self.domain, Domain) and _is_numeric(self.domain)):
            raise broken("ZeroOr.domain", f"must be a domain of numbers, got {quoted(self.domain)}")
        if self.domain.contains(0) or self.domain.contains(0.0):
            raise broken("ZeroOr.domain", f"must not contain 0 itself, got {quoted(self.domain)}")
        probability = finite_float("ZeroOr.probability", self.probability)
        object.__setattr__(self, "probability", probability)
        if not 0 < self.probability < 1:
            remedy = "use the domain itself for never 0, Fixed(0) for always"
            raise broken("ZeroOr.probability", f"must be in (0, 1), got {self.probability!r}; {remedy}")

    @property
    def zero(self) -> int | float:
        """Zero, of the type of the domain's numbers."""
        return 0 if type(self.domain.from_unit(0.0)) is int else 0.0

    def contains(self, value: object) -> bool:
        """Return True if `value` is 0 or in the domain."""
        return (is_number(value) and value == 0) or self.domain.contains(value)

    def from_unit(self, u: float) -> Scalar:
        """Return 0 for `u` below the probability, else the value of the domain at the rescaled quantile."""
        check_unit(u)
        if u < self.probability:
            return self.zero
        return self.domain.from_unit(position(u, self.probability, 1.0))

    def to_unit(self, value: Scalar) -> float:
        """Return the quantile of `value`; for 0, half the probability."""
        self.check(value)
        if value == 0:
            return self.probability / 2
        inner = self.domain.to_unit(value)
        return min(self.probability + inner * (1 - self.probability), 1.0)

    def values(self) -> tuple[Scalar, ...] | None:
        """Return 0 and the values of the domain; None if the domain is continuous."""
        inner = self.domain.values()
        return None if inner is None else (self.zero, *inner)

    def read(self, text: str) -> Scalar:
        """Return 0 or the value of the domain that this text represents."""
        return self.zero if read_number(self, text) == 0 else self.domain.read(text)

    def describe(self) -> str:
        """Return the domain in words.

        >>> ZeroOr(Float(0.1, 4.0)).describe()
        '0 (probability 0.5) or a float in [0.1, 4]'
        """
        return f"0 (probability {self.probability:g}) or {self.domain.describe()}"

    def to_dict(self) -> dict[str, object]:
        """Return the domain as an entry of a space document.

        >>> ZeroOr(Float(0.1, 4.0)).to_dict()
        {'zero_or': {'float': [0.1, 4.0]}, 'probability': 0.5}
        """
        return {"zero_or": self.domain.to_dict(), "probability": self.probability}


def intervals(domain: Domain) -> tuple[tuple[float, float], ...]:
    """Return the closed intervals that a domain of numbers covers; an empty tuple for any other domain.

    >>> intervals(SymLog(-1.0, 1.0, gap=0.1)), intervals(Choice([1]))
    (((-1.0, -0.1), (0.1, 1.0)), ())
    """
    match domain:
        case Float(low=low, high=high) | Int(low=low, high=high):
            return ((low, high),)
        case SymLog():
            return domain.intervals()
        case _:
            return ()


def _is_numeric(domain: Domain) -> bool:
    match domain:
        case Choice(options=options):
            return all(is_number(option) for option in options)
        case Fixed(value=value):
            return is_number(value)
        case _:
            return isinstance(domain, Float | Int | SymLog)
