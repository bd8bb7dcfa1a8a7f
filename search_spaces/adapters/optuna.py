"""Adapter to Optuna: ask a trial for a point, and convert points to the params of a study and back.

Optuna receives coordinates, which differ from values in four cases:

- `ZeroOr` is a float `<name>.gate` in [0, 1), off below the probability, and then, only when on, its domain;
- `SymLog` is its signed-log coordinate;
- an ordered `Choice` is the index of its option, an int, so that neighbours are similar for a sampler too;
- a `Choice` of values that are equal in Python (1, 1.0, True) is the JSON text of its options.

A `Fixed` parameter is never asked. A sampler cannot draw within constraints: a trial whose answers break one is given
the violation and pruned.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, TypeAlias

from search_spaces.conditions.definition import is_active
from search_spaces.domains.types import Choice, Domain, Fixed, Float, Int, Scalar, SymLog, ZeroOr
from search_spaces.domains.values import identity
from search_spaces.errors import MissingExtraError, Problem, SpaceError, cut, quoted
from search_spaces.sampling.points import point_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType

    import optuna

    from search_spaces.conditions.definition import SpaceLike

Trial: TypeAlias = "optuna.trial.BaseTrial"
Study: TypeAlias = "optuna.Study"
_Distributions: TypeAlias = "dict[str, optuna.distributions.BaseDistribution]"
# (name, distribution) to the value in Optuna's coordinates.
_Ask: TypeAlias = "Callable[[str, Any], Any]"


def suggest(trial: Trial, space: SpaceLike) -> dict[str, Scalar]:
    """Ask the trial for each active parameter, parents first; an inactive one is never asked.

    Each constraint of the space becomes a constraint of the trial (`Trial.set_constraint`: 0 satisfied, 1 broken), from
    which Optuna's samplers learn to avoid points that are not feasible.

    Raises:
        optuna.TrialPruned: the answers break a constraint; `Study.optimize` then continues with the next trial.

    >>> import optuna
    >>> from search_spaces import catalog
    >>> suggest(optuna.trial.FixedTrial({"mixup.alpha.gate": 0.1}), catalog.mixup())
    {'mixup.alpha': 0.0}
    """
    point = _answered(space, functools.partial(_ask, trial))
    broken = [constraint.text for constraint in space.constraints if not constraint.holds(point)]
    existing = trial.constraints  # a trial may be asked twice, but takes each constraint once
    for constraint in space.constraints:
        if constraint.text not in existing:
            trial.set_constraint(constraint.text, float(constraint.text in broken))
    if broken:
        raise _optuna().TrialPruned(f"breaks {cut(' and '.join(map(quoted, broken)), 320)}")
    return point


def from_optuna(space: SpaceLike, params: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return the point of these params of a trial; constraints are not checked.

    Raises:
        SpaceError: a param is missing, unknown, or outside its distribution.

    >>> from search_spaces import catalog
    >>> from_optuna(catalog.mixup(), {"mixup.alpha.gate": 0.25})
    {'mixup.alpha': 0.0}
    """
    read: set[str] = set()
    point = _answered(space, functools.partial(_look_up, params, read))
    unused = [name for name in params if name not in read]
    if unused:
        raise SpaceError(*(Problem(str(name), "is not a param at this point of the space") for name in unused))
    return point


def to_optuna(space: SpaceLike, point: Mapping[str, Scalar]) -> tuple[dict[str, Any], _Distributions]:
    """Return the params and distributions of this point for `optuna.trial.create_trial`.

    A gate that is off becomes half its probability p, a gate that is on becomes (1 + p) / 2.

    Raises:
        SpaceError: the space does not contain the point.

    >>> from search_spaces import catalog
    >>> to_optuna(catalog.mixup(), {"mixup.alpha": 0.0})[0]
    {'mixup.alpha.gate': 0.25}
    """
    problems = point_problems(space, point)
    if problems:
        raise SpaceError(*problems)
    answers = [
        answer
        for name, domain in space.parameters.items()
        if name in point
        for answer in _answers(name, domain, point[name])
    ]
    params = {name: value for name, _, value in answers}
    return params, {name: distribution for name, distribution, _ in answers}


def distributions(space: SpaceLike) -> _Distributions:
    """Return the distribution of every param that a trial may be asked for, in Optuna's coordinates.

    >>> from search_spaces import Float, SearchSpace, ZeroOr
    >>> for name, distribution in distributions(SearchSpace({"a": ZeroOr(Float(0.1, 4.0))})).items():
    ...     print(name, distribution.low, distribution.high)
    a.gate 0.0 1.0
    a 0.1 4.0
    """
    by_name: _Distributions = {}
    for name, domain in space.parameters.items():
        if isinstance(domain, ZeroOr):
            by_name[_gate(name)] = _gate_distribution()
        inner = domain.domain if isinstance(domain, ZeroOr) else domain
        if not isinstance(inner, Fixed):
            by_name[name] = _distribution(inner)
    return by_name


def _answered(space: SpaceLike, ask: _Ask) -> dict[str, Scalar]:
    point: dict[str, Scalar] = {}
    for name, domain in space.parameters.items():
        if is_active(space, name, point):
            point[name] = _value(name, domain, ask)
    return point


def _value(name: str, domain: Domain, ask: _Ask) -> Scalar:
    """Return the value of one parameter from the answers."""
    match domain:
        case Fixed(value=value):
            return value
        case ZeroOr(domain=inner, probability=probability, zero=zero):
            gate = ask(_gate(name), _gate_distribution())
            return zero if gate < probability else _value(name, inner, ask)
        case SymLog():
            return domain.from_coordinate(float(ask(name, _distribution(domain))))
        case Choice(options=options, ordered=True):
            return options[int(ask(name, _distribution(domain)))]
        case Choice(options=options):
            return options[_labels(domain).index(ask(name, _distribution(domain)))]
        case Int():
            return int(ask(name, _distribution(domain)))
        case _:
            answer = float(ask(name, _distribution(domain)))
            lattice = domain.values()  # Optuna's 0.1 + 2 * 0.1 is our 0.3
            return answer if lattice is None else domain.from_unit(domain.to_unit(answer))


def _answers(name: str, domain: Domain, value: Scalar) -> Iterator[tuple[str, Any, Any]]:
    """Yield the answers that give the value of one parameter: name, distribution, answer."""
    match domain:
        case Fixed():
            pass
        case ZeroOr(domain=inner, probability=probability):
            yield _gate(name), _gate_distribution(), probability / 2 if value == 0 else (1 + probability) / 2
            if value != 0:
                yield from _answers(name, inner, value)
        case SymLog():
            yield name, _distribution(domain), domain.to_coordinate(value)
        case Choice(options=options):
            index = next(i for i, option in enumerate(options) if identity(option) == identity(value))
            yield name, _distribution(domain), index if domain.ordered else _labels(domain)[index]
        case _:
            yield name, _distribution(domain), value


def _gate(name: str) -> str:
    return f"{name}.gate"


def _gate_distribution() -> Any:
    # Optuna draws from [low, high) if low < high; a 1.0 from another source is above every probability: on.
    return _optuna().distributions.FloatDistribution(0.0, 1.0)


def _distribution(domain: Domain) -> Any:
    known = _optuna().distributions
    match domain:
        case Float(low=low, high=high, log=log, step=step):
            return known.FloatDistribution(low, high, log=log, step=step)
        case Int(low=low, high=high, log=log, step=step):
            return known.IntDistribution(low, high, log=log, step=step)
        case SymLog(coordinate_bounds=(low, high)):
            return known.FloatDistribution(low, high)
        case Choice(options=options, ordered=True):
            return known.IntDistribution(0, len(options) - 1)
        case Choice():
            return known.CategoricalDistribution(_labels(domain))
    raise AssertionError(domain)


def _labels(domain: Choice) -> tuple[Scalar, ...]:
    """Return the options, or their JSON texts if two are equal for Optuna, which compares with ==."""
    options = domain.options
    return options if len(set(options)) == len(options) else tuple(json.dumps(option) for option in options)


def _ask(trial: Trial, name: str, distribution: Any) -> Any:
    known = _optuna().distributions
    match distribution:
        case known.CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
        case known.IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(name, low, high, log=log, step=step)
        case _:
            low, high, step = distribution.low, distribution.high, distribution.step
            return trial.suggest_float(name, low, high, log=distribution.log, step=step)


def _look_up(params: Mapping[str, Any], read: set[str], name: str, distribution: Any) -> Any:
    if name not in params:
        raise SpaceError(Problem(name, "is missing from the params of the trial"))
    read.add(name)
    value = params[name]
    if isinstance(distribution, _optuna().distributions.CategoricalDistribution):
        fits = value in distribution.choices
    else:
        # A sampler may return the float of an array library, which is also a float.
        fits = isinstance(value, int | float) and distribution.low <= value <= distribution.high
    if not fits:
        raise SpaceError(Problem(name, f"must be within {cut(str(distribution), 160)}, got {quoted(value)}"))
    return value


def _optuna() -> ModuleType:
    try:
        import optuna  # noqa: PLC0415 - an optional library
    except ImportError as error:
        raise MissingExtraError("optuna", extra="optuna") from error
    return optuna
