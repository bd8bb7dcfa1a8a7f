"""Translation of domains to hyperparameters of ConfigSpace, and of its vectors to values.

ConfigSpace draws a vector of numbers, one for each hyperparameter: the quantile in [0, 1] of a range, the index of an
option in a list. It displays the values of a range rounded to 13 decimals; this module reads the vector, which is
exact. Domains without a counterpart are translated as follows:

- `ZeroOr`: a categorical `<name>.gate` of 'off' and 'on', weighted, and its domain if that is 'on';
- `SymLog`: the signed-log coordinate, a uniform float;
- a log `Int`: a log float from low - 1/2 to high + 1/2, to be rounded (ConfigSpace's own gives each end half the
  probability of its neighbour);
- a range with a step: the ordinal of its values;
- a `Choice` of values that numpy confuses or changes (True and 1, 1 and 0.5): the JSON text of its options.

Each of these carries the domain in the hyperparameter's `meta`.
"""

from __future__ import annotations

import functools
import json
import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from search_spaces.documents.entries import read_domain
from search_spaces.documents.problems import wrong
from search_spaces.domains.quantiles import clip
from search_spaces.domains.types import Choice, Domain, Fixed, Float, Int, Scalar, SymLog, ZeroOr
from search_spaces.errors import SpaceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

OFF, ON = "off", "on"
META = "search_spaces.domain"
# ConfigSpace compares each value of an ordinal with all before it: so many take a second.
MOST_VALUES = 10_000
_DECIMALS = 13
# Fraction of a bound, or of a uniform range, by which ConfigSpace may round.
_ROUNDING = 1e-9
_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "CategoricalHyperparameter": "categorical with unequal weights",
        "UniformIntegerHyperparameter": "log integer, whose ends have half the probability of other values",
    }
)
_SMALLEST_INT, _LARGEST_INT = -(2**63), 2**63 - 1


def library() -> ModuleType:
    """Return ConfigSpace.

    Raises:
        ImportError: it is not installed.

    >>> library().__name__
    'ConfigSpace'
    """
    try:
        import ConfigSpace  # noqa: PLC0415 - an optional library
    except ImportError as error:
        raise ImportError("ConfigSpace is not installed: pip install ConfigSpace", name="ConfigSpace") from error
    return ConfigSpace


def gate_name(name: str) -> str:
    """Return the name of the hyperparameter that switches a `ZeroOr` on.

    >>> gate_name("snnl.weight")
    'snnl.weight.gate'
    """
    return f"{name}.gate"


def gate(name: str, domain: ZeroOr, *default: Scalar) -> Any:
    """Return the categorical that switches a `ZeroOr` on, with an optional default.

    >>> from search_spaces import Float
    >>> gate("mixup.alpha", ZeroOr(Float(0.1, 4.0), 0.25)).weights
    (0.25, 0.75)
    """
    weights = [domain.probability, 1 - domain.probability]
    keywords = {"default_value": OFF if default[0] == 0 else ON} if default else {}
    return library().CategoricalHyperparameter(gate_name(name), [OFF, ON], weights=weights, **keywords)


def hyperparameter(name: str, domain: Domain, *default: Scalar) -> Any:
    """Return the hyperparameter of a domain (of a `ZeroOr`: of its inner domain), with an optional default value.

    Raises:
        SpaceError: ConfigSpace cannot represent the domain; at the path ''.

    >>> print(hyperparameter("lr", Float(1e-4, 1.0, log=True)))
    lr, Type: UniformFloat, Range: [0.0001, 1.0], Default: 0.01, on log-scale
    """
    known = library()
    inner = inner_of(domain)
    keywords = {"default_value": shown(inner, default[0])} if default else {}
    meta = None if isinstance(inner, Choice) and is_shown_as_it_is(inner) else {META: inner.to_dict()}
    match inner:
        case Fixed(value=value):
            return known.Constant(name, value)
        case Choice(ordered=False):
            return known.CategoricalHyperparameter(name, labels(inner), meta=meta, **keywords)
        case Int(low=low, high=high, log=False, step=1):
            return known.UniformIntegerHyperparameter(name, low, high, **keywords)
        case _ if (listed := options(inner)) is not None:
            if len(listed) > MOST_VALUES:
                limit = f"ConfigSpace lists the values of {inner.describe()} one by one, at most {MOST_VALUES:,}"
                raise wrong(f"{limit}; take a larger step")
            return known.OrdinalHyperparameter(name, labels(inner), meta=meta, **keywords)
        case _:
            return _range(name, inner, keywords)


def inner_of(domain: Domain) -> Domain:
    """Return the domain of the values that are not 0.

    >>> inner_of(ZeroOr(Int(1, 3)))
    Int(low=1, high=3, log=False)
    """
    return domain.domain if isinstance(domain, ZeroOr) else domain


def options(domain: Domain) -> Sequence[Scalar] | None:
    """Return the values that ConfigSpace lists one by one; None for a range.

    >>> list(options(Int(2, 10, step=4))), options(Int(2, 10))
    ([2, 6, 10], None)
    """
    match domain:
        case Choice(options=listed):
            return listed
        case Float(step=float()):
            return domain.values()
        case Int(step=step) if step > 1:
            return domain.values()
        case _:
            return None


def labels(domain: Domain) -> tuple[Scalar, ...]:
    """Return the listed values in the form that ConfigSpace takes.

    >>> labels(Choice([16, 32])), labels(Choice([1, True]))
    ((16, 32), ('1', 'true'))
    """
    listed = tuple(options(domain) or ())
    return listed if _is_plain(listed) else tuple(json.dumps(option) for option in listed)


def shown(domain: Domain, value: Scalar) -> Scalar:
    """Return the form of a value that ConfigSpace displays.

    >>> shown(SymLog(-1.0, 1.0, gap=0.1), 0.1), shown(Choice([1, True]), True)
    (0.0, 'true')
    """
    if (listed := options(domain)) is not None:
        place = round(domain.to_unit(value) * len(listed) - 0.5)
        return labels(domain)[place] if isinstance(domain, Choice) else listed[place]
    return domain.to_coordinate(value) if isinstance(domain, SymLog) else value


def value_at(domain: Domain, vector: float) -> Scalar:
    """Return the value of a number of a vector.

    >>> value_at(Choice(["a", "b"]), 1.0), value_at(Int(1, 9), 0.5), value_at(Float(0.0, 4.0), 0.5)
    ('b', 5, 2.0)
    """
    if (listed := options(domain)) is not None:
        return listed[round(vector)]
    if isinstance(domain, Int) and not domain.log:
        return domain.low + round(vector * (domain.high - domain.low))
    return domain.from_unit(clip(vector, 0.0, 1.0))


def bounds(domain: Domain) -> tuple[float, float]:
    """Return the ends of the range in ConfigSpace.

    >>> bounds(Int(1, 100, log=True))
    (0.5, 100.5)
    """
    match domain:
        case SymLog(coordinate_bounds=ends):
            return ends
        case Int(low=low, high=high):
            return low - 0.5, high + 0.5
        case Float(low=low, high=high):
            return low, high
    raise AssertionError(domain)


def domain_of(source: Any) -> Domain:
    """Return the domain with exactly the distribution of a hyperparameter.

    Raises:
        SpaceError: no domain has the same distribution, at the path ''.

    >>> domain_of(library().OrdinalHyperparameter("size", [16, 32]))
    Choice([16, 32], ordered=True)
    """
    if (marked := _marked(source)) is not None:
        return marked
    match type(source).__name__:
        case "Constant":
            return Fixed(source.value)
        case "CategoricalHyperparameter" if len(set(map(float, source.probabilities))) == 1:
            return Choice(source.choices)
        case "OrdinalHyperparameter":
            return Choice(source.sequence, ordered=True)
        case "UniformFloatHyperparameter":
            return Float(source.lower, source.upper, log=source.log)
        case "UniformIntegerHyperparameter" if not source.log:
            return Int(source.lower, source.upper)
        case kind:
            raise wrong(f"no domain has the distribution of this {_WORDS.get(kind, kind)}; give its domain in domains")


def listed_by(source: Any) -> tuple[Any, ...] | None:
    """Return the values that a hyperparameter lists one by one, in ConfigSpace's form; None for a range.

    >>> listed_by(library().Constant("c", 3))
    (3,)
    """
    match type(source).__name__:
        case "Constant":
            return (source.value,)
        case "CategoricalHyperparameter":
            return tuple(source.choices)
        case "OrdinalHyperparameter":
            return tuple(source.sequence)
        case _:
            return None


def is_shown_as_it_is(domain: Domain) -> bool:
    """Return True if ConfigSpace compares the values themselves, not a code of them.

    >>> is_shown_as_it_is(Int(1, 9)), is_shown_as_it_is(SymLog(-1.0, 1.0, gap=0.1))
    (True, False)
    """
    if isinstance(domain, ZeroOr | SymLog) or (isinstance(domain, Int) and domain.log):
        return False
    return not isinstance(domain, Choice) or labels(domain) == domain.options


def _is_plain(listed: tuple[Scalar, ...]) -> bool:
    """Return True if numpy neither confuses nor changes the values."""
    kinds = {type(option) for option in listed}
    if len(kinds) > 1 or len(set(listed)) < len(listed):
        return False
    if kinds == {int}:
        return all(isinstance(option, int) and _SMALLEST_INT <= option <= _LARGEST_INT for option in listed)
    return kinds in ({float}, {bool}) or (kinds == {str} and not any("\0" in str(option) for option in listed))


def _marked(source: Any) -> Domain | None:
    """Return the domain that `hyperparameter` stored, if the hyperparameter still has its shape."""
    document = (source.meta or {}).get(META)
    if document is None:
        return None
    try:
        domain = read_domain(document)
        return domain if _shape(hyperparameter(source.name, domain)) == _shape(source) else None
    except SpaceError:
        return None


def _shape(source: Any) -> tuple[object, ...]:
    ends = tuple(getattr(source, name, None) for name in ("lower", "upper", "log"))
    return type(source), listed_by(source), ends


def _range(name: str, domain: Domain, keywords: Mapping[str, Any]) -> Any:
    """Return a uniform float over the bounds, which stores the domain if the bounds alone do not define it."""
    low, high = bounds(domain)
    log = isinstance(domain, Float | Int) and domain.log
    make = functools.partial(library().UniformFloatHyperparameter, name, low, high, log=log, **keywords)
    refusal = wrong(f"ConfigSpace keeps {_DECIMALS} decimals, too few for {domain.describe()}; scale the parameter")
    if not math.isfinite((high - low) * 10.0**_DECIMALS):
        raise refusal
    try:
        uniform = make()
    except ValueError:  # after rounding the bounds are equal, or a bound of a logarithm is 0
        raise refusal from None
    spans = (low, high) if log else (high - low, high - low)
    rounded = (uniform.lower, uniform.upper)
    errors = [abs(new - old) / span for new, old, span in zip(rounded, (low, high), spans, strict=True)]
    if max(errors) > _ROUNDING:
        raise refusal
    is_complete = isinstance(domain, Float) and max(errors) == 0
    return uniform if is_complete else make(meta={META: domain.to_dict()})
