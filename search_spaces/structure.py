"""The laws of a space as a whole: names that fit together, conditions that can hold, no circle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.conditions import NotEqual, When
from search_spaces.domains import Domain, ZeroOr
from search_spaces.errors import PathError, Problem, SpaceError, suggestion
from search_spaces.paths import check_clashes, check_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


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


def condition_problems(parameters: Mapping[str, object], laws: Mapping[str, tuple[object, ...]]) -> Iterator[Problem]:
    """Yield what is wrong with the conditions: a child or parent that is none, a pair that contradicts.

    >>> from search_spaces import Fixed
    >>> parameters = {"name": Fixed("sgd"), "momentum": Fixed(0.9)}
    >>> laws = {"momentum": (When("nam", "sgd"),)}
    >>> [str(problem) for problem in condition_problems(parameters, laws)]
    ["momentum: depends on 'nam', which is no parameter; did you mean 'name'?"]
    """
    for name, given in laws.items():
        if name not in parameters:
            yield Problem(name, f"has a condition but is no parameter{suggestion(name, parameters)}")
        for law in given:
            if not isinstance(law, When):
                yield Problem(name, f"a condition must be a When(parent, predicate), got {law!r}")
            elif law.parent not in parameters:
                known = suggestion(law.parent, parameters)
                yield Problem(name, f"depends on {law.parent!r}, which is no parameter{known}")
        yield from _contradictions(name, [law for law in given if isinstance(law, When)])


def _contradictions(name: str, laws: list[When]) -> Iterator[Problem]:
    kinds = [(law.parent, type(law.predicate)) for law in laws if not isinstance(law.predicate, NotEqual)]
    for parent, kind in dict.fromkeys(pair for pair in kinds if kinds.count(pair) > 1):
        yield Problem(name, f"has several {kind.__name__} conditions on {parent!r}; keep the narrowest")


def parents_first(names: list[str], laws: Mapping[str, tuple[When, ...]]) -> list[str]:
    """Order the names so that each follows its parents, keeping the given order otherwise.

    Raises:
        SpaceError: a parameter depends on itself.

    >>> parents_first(["momentum", "name"], {"momentum": (When("name", "sgd"),)})
    ['name', 'momentum']
    """
    ordered: dict[str, None] = {}
    waiting = names
    while waiting:
        ready = [name for name in waiting if all(law.parent in ordered for law in laws.get(name, ()))]
        if not ready:
            circle = ", ".join(waiting)
            raise SpaceError(*(Problem(name, f"depends on itself through {circle}") for name in waiting))
        ordered[ready[0]] = None
        waiting = [name for name in waiting if name != ready[0]]
    return list(ordered)
