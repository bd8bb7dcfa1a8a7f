"""Translation of spaces to ConfigSpace, the language of SMAC and of the AutoML benchmarks, and back.

`to_configspace` is exact, or raises an error that names what ConfigSpace cannot express. `configspace_domains` lists
the hyperparameter of each domain. `point_of` reads a configuration back. A parameter that no point has is left out.
"""

from __future__ import annotations

import ast
import functools
import itertools
import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from configspace_conditions import ALWAYS, NEVER, Claim, Terms, both, condition, existence, switched_on
from configspace_domains import (
    gate,
    gate_name,
    hyperparameter,
    inner_of,
    is_shown_as_it_is,
    library,
    value_at,
)
from configspace_reading import from_configspace

from search_spaces.conditions.definition import is_active
from search_spaces.documents.problems import Problems, wrong
from search_spaces.domains.types import Choice, Domain, Fixed, Scalar, ZeroOr
from search_spaces.domains.values import is_number
from search_spaces.errors import Problem, SpaceError, raise_all
from search_spaces.sampling.points import point_problems
from search_spaces.sampling.random_sampling import sample_many

if TYPE_CHECKING:
    from collections.abc import Mapping

    from search_spaces.conditions.constraints import Constraint
    from search_spaces.conditions.definition import SpaceLike

__all__ = ["from_configspace", "point_of", "to_configspace"]

# Two names, and the relations between them that are forbidden.
_Relation: TypeAlias = tuple[str, tuple[str, ...], str]
# Relations to forbid, for the relation that a constraint requires.
_OPPOSITES: Mapping[type[ast.cmpop], tuple[str, ...]] = MappingProxyType(
    {
        ast.Lt: ("GreaterThanEquals",),
        ast.LtE: ("GreaterThan",),
        ast.Gt: ("LessThanEquals",),
        ast.GtE: ("LessThan",),
        ast.Eq: ("LessThan", "GreaterThan"),
        ast.NotEq: ("Equals",),
    }
)


def to_configspace(space: SpaceLike, *, seed: int = 0) -> Any:
    """Return the `ConfigSpace.ConfigurationSpace` whose samples are, by `point_of`, samples of the space.

    Raises:
        ImportError: ConfigSpace is not installed.
        SpaceError: with everything that ConfigSpace cannot express.

    >>> from search_spaces import catalog
    >>> for name in to_configspace(catalog.mixup()):
    ...     print(name)
    mixup.alpha.gate
    mixup.alpha
    mixup.layers
    mixup.per_sample
    """
    library()
    problems, defaults = Problems(), _defaults(space)
    relations = [
        problems.attempt(constraint.place, functools.partial(_relation, space, constraint))
        for constraint in space.constraints
    ]
    children = [
        problems.attempt(name, functools.partial(_children, name, domain, terms, defaults))
        for name, terms in existence(space).items()
        if terms != NEVER
        for domain in [space.parameters[name]]
    ]
    raise_all(problems.collected)
    return _assembled(list(itertools.chain(*filter(None, children))), list(filter(None, relations)), seed=seed)


def point_of(space: SpaceLike, configuration: Any) -> dict[str, Scalar]:
    """Return the point of a configuration from `to_configspace` of this space.

    The values are exact; ConfigSpace displays them rounded to 13 decimals.

    Raises:
        SpaceError: the configuration is of another space.

    >>> from search_spaces import Float, SearchSpace, ZeroOr
    >>> space = SearchSpace({"mixup.alpha": ZeroOr(Float(0.1, 4.0), probability=0.999)})
    >>> point_of(space, to_configspace(space, seed=1).sample_configuration())
    {'mixup.alpha': 0.0}
    """
    numbers = {
        name: float(configuration.get_array()[place]) for name, place in configuration.config_space.index_of.items()
    }
    unread = {name: number for name, number in numbers.items() if not math.isnan(number)}
    point: dict[str, Scalar] = {}
    for name, domain in space.parameters.items():
        if is_active(space, name, point):
            point[name] = _read(name, domain, unread)
    problems = [Problem(name, "is in the configuration, but in no such point of the space") for name in unread]
    problems += point_problems(space, point)
    if problems:
        raise SpaceError(*problems)
    return point


def _read(name: str, domain: Domain, unread: dict[str, float]) -> Scalar:
    """Return the value of one parameter, and remove its numbers from `unread`."""
    try:
        if isinstance(domain, ZeroOr) and unread.pop(gate_name(name)) == 0:
            return domain.zero
        return value_at(inner_of(domain), unread.pop(name))
    except KeyError as error:
        raise SpaceError(Problem(str(error.args[0]), "is missing from the configuration")) from None


def _defaults(space: SpaceLike) -> Mapping[str, Scalar]:
    """Return the default point for ConfigSpace, which must satisfy the constraints."""
    return sample_many(space, 1, seed=0)[0] if space.constraints else {}


def _children(
    name: str, domain: Domain, terms: Terms[Claim], defaults: Mapping[str, Scalar]
) -> list[tuple[Any, Terms[Claim]]]:
    """Return the hyperparameters of one parameter, with the terms of which each exists."""
    default = [defaults[name]] if name in defaults else []
    if not isinstance(domain, ZeroOr):
        return [(hyperparameter(name, domain, *default), terms)]
    inner = hyperparameter(name, domain, *(value for value in default if value != 0))
    return [(gate(name, domain, *default), terms), (inner, both(terms, switched_on(name)))]


def _assembled(children: list[tuple[Any, Terms[Claim]]], relations: list[_Relation], *, seed: int) -> Any:
    known = library()
    by_name = {child.name: child for child, _ in children}
    result = known.ConfigurationSpace(seed=seed)
    result.add([*by_name.values(), *(condition(child, terms, by_name) for child, terms in children if terms != ALWAYS)])
    for left, kinds, right in relations:
        if {left, right} <= by_name.keys():  # a parameter that never exists breaks no constraint
            result.add([getattr(known, f"Forbidden{kind}Relation")(by_name[left], by_name[right]) for kind in kinds])
    return result


def _relation(space: SpaceLike, constraint: Constraint) -> _Relation:
    """Return the two names that a constraint compares, and the relations between them that it forbids."""
    match ast.parse(constraint.text, mode="eval").body:
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPPOSITES:
            names = ast.unparse(left), ast.unparse(right)
            if set(names) == set(constraint.names) and _are_comparable(space, names):
                return names[0], _OPPOSITES[type(op)], names[1]
    raise wrong(
        "ConfigSpace knows only relations of two parameters, both numbers or both texts, whose values it stores"
    )


def _are_comparable(space: SpaceLike, names: tuple[str, str]) -> bool:
    kinds = {kind for name in names for kind in _kinds(space.parameters[name])}
    return kinds in ({"number"}, {"text"}) and all(is_shown_as_it_is(space.parameters[name]) for name in names)


def _kinds(domain: Domain) -> set[str]:
    listed = domain.options if isinstance(domain, Choice) else (domain.value,) if isinstance(domain, Fixed) else (0,)
    return {"number" if is_number(item) else "text" if isinstance(item, str) else "other" for item in listed}
