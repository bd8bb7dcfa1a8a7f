"""Structure of a space: names without clashes, conditions and constraints on known names, no circular dependency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from search_spaces.conditions.condition import Condition, all_of
from search_spaces.conditions.constraints import Constraint, as_constraints
from search_spaces.conditions.definition import Definition
from search_spaces.domains.types import Domain, Fixed, ZeroOr
from search_spaces.errors import PathError, Problem, SpaceError, cut, quoted, raise_all, suggestion
from search_spaces.paths import check_clashes, check_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Condition of each conditional parameter, or several that must all hold.
Conditions: TypeAlias = Mapping[str, Condition | Sequence[Condition]]


def definition(
    parameters: Mapping[str, Domain], when: Conditions, constraints: Iterable[Constraint | str]
) -> Definition:
    """Return the definition of a space, checked, parents before children.

    Raises:
        SpaceError: with every problem.

    >>> from search_spaces import Fixed, When
    >>> parameters = {"momentum": Fixed(0.9), "name": Fixed("sgd")}
    >>> list(definition(parameters, {"momentum": When("name", "sgd")}, ()).parameters)
    ['name', 'momentum']
    """
    listed = {name: tuple(part) if isinstance(part, list | tuple) else (part,) for name, part in when.items()}
    checked = as_constraints(constraints)
    raise_all([*name_problems(parameters), *condition_problems(parameters, listed)])
    raise_all(constraint_problems(parameters, checked))
    conditions = {name: all_of(*parts) for name, parts in listed.items() if parts}
    order = parents_first(list(parameters), conditions)
    return Definition(
        MappingProxyType({name: parameters[name] for name in order}),
        MappingProxyType({name: conditions[name] for name in order if name in conditions}),
        checked,
    )


def name_problems(parameters: Mapping[str, object]) -> Iterator[Problem]:
    """Yield the problems of the names and of their domains.

    >>> from search_spaces import Fixed
    >>> [str(problem) for problem in name_problems({"snnl": Fixed(1), "snnl.weight": Fixed(1)})]
    ["snnl.weight: clashes with 'snnl', which holds a value; rename one of them"]
    """
    for name, domain in parameters.items():
        try:
            check_name(name)
        except PathError as error:
            yield from error.problems
        if not isinstance(domain, Domain):
            remedy = f"use Fixed({quoted(domain)}) for one value"
            yield Problem(str(name), f"must be a domain such as Float(0.0, 1.0), got {quoted(domain)}; {remedy}")
        elif isinstance(domain, ZeroOr) and f"{name}.gate" in parameters:
            yield Problem(
                cut(f"{name}.gate"), f"is the name of the gate of {quoted(name)} in a sampler; choose another"
            )
    try:
        check_clashes(str(name) for name in parameters)
    except PathError as error:
        yield from error.problems


def condition_problems(parameters: Mapping[str, object], when: Mapping[str, Sequence[object]]) -> Iterator[Problem]:
    """Yield the problems of the conditions: a child or a parent that is not a parameter.

    >>> from search_spaces import Fixed, When
    >>> parameters = {"name": Fixed("sgd"), "momentum": Fixed(0.9)}
    >>> [str(problem) for problem in condition_problems(parameters, {"momentum": [When("nam", "sgd")]})]
    ["momentum: depends on 'nam', which is not a parameter; did you mean 'name'?"]
    """
    for name, conditions in when.items():
        if name not in parameters:
            yield Problem(name, f"has a condition but is not a parameter{suggestion(name, parameters)}")
        for condition in conditions:
            if not isinstance(condition, Condition):
                yield Problem(name, f"a condition must be a When(parent, predicate), got {quoted(condition)}")
                continue
            for parent in dict.fromkeys(leaf.parent for leaf in condition.leaves()):
                if parent not in parameters:
                    known = suggestion(parent, parameters)
                    yield Problem(name, f"depends on {quoted(parent)}, which is not a parameter{known}")


def constraint_problems(parameters: Mapping[str, object], constraints: Sequence[Constraint]) -> Iterator[Problem]:
    """Yield the problems of the constraints: a name that is not a parameter, a constraint that fixed values break.

    >>> from search_spaces import Constraint, Fixed
    >>> [str(problem) for problem in constraint_problems({"a": Fixed(1), "b": Fixed(2)}, [Constraint("a > b")])]
    ["constraint 'a > b': no point satisfies it: a is always 1, b is always 2"]
    """
    for constraint in constraints:
        for name in constraint.names:
            if name not in parameters:
                known = suggestion(name, parameters)
                yield Problem(constraint.place, f"names {quoted(name)}, which is not a parameter{known}")
        fixed = {name: domain.value for name in constraint.names if isinstance(domain := parameters.get(name), Fixed)}
        try:
            broken = len(fixed) == len(constraint.names) and not constraint.holds(fixed)
        except SpaceError as error:
            yield from error.problems
            continue
        if broken:
            values = cut(", ".join(f"{name} is always {value!r}" for name, value in fixed.items()), 160)
            yield Problem(constraint.place, f"no point satisfies it: {values}")


def parents_first(names: Sequence[str], conditions: Mapping[str, Condition]) -> list[str]:
    """Sort the names so that each follows its parents; otherwise keep their order.

    Raises:
        SpaceError: a parameter depends on itself.

    >>> from search_spaces import When
    >>> parents_first(["momentum", "name"], {"momentum": When("name", "sgd")})
    ['name', 'momentum']
    """
    parents = {name: _parents(conditions.get(name)) for name in names}
    ordered: dict[str, None] = {}
    remaining = list(names)
    while remaining:
        ready = next((name for name in remaining if parents[name] <= ordered.keys()), None)
        if ready is None:
            circle = _circle(remaining[0], parents, frozenset(remaining))
            path = cut(" -> ".join([*circle, circle[0]]), 240)
            raise SpaceError(*(Problem(name, f"depends on itself: {path}") for name in circle))
        ordered[ready] = None
        remaining.remove(ready)
    return list(ordered)


def _parents(condition: Condition | None) -> frozenset[str]:
    return frozenset() if condition is None else frozenset(leaf.parent for leaf in condition.leaves())


def _circle(start: str, parents: Mapping[str, frozenset[str]], remaining: frozenset[str]) -> list[str]:
    """Return a circular dependency: walk from child to parent until a name repeats."""
    path = [start]
    while (parent := min(parents[path[-1]] & remaining)) not in path:
        path.append(parent)
    return path[path.index(parent) :]
