"""The laws of a space as a whole: names that fit together, conditions and constraints on known names, no circle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from search_spaces.conditions.condition import Condition, all_of
from search_spaces.conditions.constraints import Constraint, as_constraints
from search_spaces.conditions.definition import Definition
from search_spaces.domains.types import Domain, Fixed, ZeroOr
from search_spaces.errors import PathError, Problem, SpaceError, raise_all, suggestion
from search_spaces.paths import check_clashes, check_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# For each conditional parameter its condition, or several that must all hold.
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
    """Yield what is wrong with the names, and what is no domain.

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
            remedy = f"use Fixed({domain!r}) for one value"
            yield Problem(str(name), f"must be a domain such as Float(0.0, 1.0), got {domain!r}; {remedy}")
        elif isinstance(domain, ZeroOr) and f"{name}.gate" in parameters:
            yield Problem(f"{name}.gate", f"is the name of the gate of {name!r} in a sampler; choose another")
    try:
        check_clashes(str(name) for name in parameters)
    except PathError as error:
        yield from error.problems


def condition_problems(parameters: Mapping[str, object], given: Mapping[str, Sequence[object]]) -> Iterator[Problem]:
    """Yield what is wrong with the conditions: a child or a parent that is no parameter.

    >>> from search_spaces import Fixed, When
    >>> parameters = {"name": Fixed("sgd"), "momentum": Fixed(0.9)}
    >>> [str(problem) for problem in condition_problems(parameters, {"momentum": [When("nam", "sgd")]})]
    ["momentum: depends on 'nam', which is no parameter; did you mean 'name'?"]
    """
    for name, conditions in given.items():
        if name not in parameters:
            yield Problem(name, f"has a condition but is no parameter{suggestion(name, parameters)}")
        for condition in conditions:
            if not isinstance(condition, Condition):
                yield Problem(name, f"a condition must be a When(parent, predicate), got {condition!r}")
                continue
            for parent in dict.fromkeys(leaf.parent for leaf in condition.leaves()):
                if parent not in parameters:
                    known = suggestion(parent, parameters)
                    yield Problem(name, f"depends on {parent!r}, which is no parameter{known}")


def constraint_problems(parameters: Mapping[str, object], constraints: Sequence[Constraint]) -> Iterator[Problem]:
    """Yield what is wrong with the constraints: a name that is no parameter, a law that fixed values break.

    >>> from search_spaces import Constraint, Fixed
    >>> [str(problem) for problem in constraint_problems({"a": Fixed(1), "b": Fixed(2)}, [Constraint("a > b")])]
    ["constraint 'a > b': no point satisfies it: a is always 1, b is always 2"]
    """
    for constraint in constraints:
        where = f"constraint {constraint.text!r}"
        strangers = [name for name in constraint.names if name not in parameters]
        for name in strangers:
            yield Problem(where, f"names {name!r}, which is no parameter{suggestion(name, parameters)}")
        fixed = {name: domain.value for name in constraint.names if isinstance(domain := parameters.get(name), Fixed)}
        try:
            broken = len(fixed) == len(constraint.names) and not constraint.holds(fixed)
        except SpaceError as error:
            yield from error.problems
            continue
        if broken:
            told = ", ".join(f"{name} is always {value!r}" for name, value in fixed.items())
            yield Problem(where, f"no point satisfies it: {told}")


def parents_first(names: Sequence[str], conditions: Mapping[str, Condition]) -> list[str]:
    """Order the names so that each follows its parents, keeping the given order otherwise.

    Raises:
        SpaceError: a parameter depends on itself.

    >>> from search_spaces import When
    >>> parents_first(["momentum", "name"], {"momentum": When("name", "sgd")})
    ['name', 'momentum']
    """
    parents = {name: _parents(conditions.get(name)) for name in names}
    ordered: dict[str, None] = {}
    waiting = list(names)
    while waiting:
        ready = next((name for name in waiting if parents[name] <= ordered.keys()), None)
        if ready is None:
            circle = _circle(waiting[0], parents, frozenset(waiting))
            told = " -> ".join([*circle, circle[0]])
            raise SpaceError(*(Problem(name, f"depends on itself: {told}") for name in circle))
        ordered[ready] = None
        waiting.remove(ready)
    return list(ordered)


def _parents(condition: Condition | None) -> frozenset[str]:
    return frozenset() if condition is None else frozenset(leaf.parent for leaf in condition.leaves())


def _circle(start: str, parents: Mapping[str, frozenset[str]], waiting: frozenset[str]) -> list[str]:
    """Walk from child to waiting parent until a name comes again: what lies between is the circle."""
    walked = [start]
    while (parent := min(parents[walked[-1]] & waiting)) not in walked:
        walked.append(parent)
    return walked[walked.index(parent) :]
