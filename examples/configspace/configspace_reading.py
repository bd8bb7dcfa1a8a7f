"""Reader of any ConfigSpace as a space: exact, or an error that names what has no counterpart."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast, final

from configspace_conditions import both, terms_of
from configspace_domains import (
    OFF,
    ON,
    domain_of,
    gate_name,
    is_shown_as_it_is,
    labels,
    listed_by,
    options,
)

from search_spaces.conditions.condition import (
    AllOf,
    AnyOf,
    Condition,
    Predicate,
    When,
    all_of,
    any_of,
    equals,
    greater_than,
    less_than,
    not_equal,
    one_of,
)
from search_spaces.documents.problems import Problems, wrong
from search_spaces.domains.types import Domain, Int, Scalar, SymLog, ZeroOr
from search_spaces.errors import raise_all, suggestion
from search_spaces.paths import check_name
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_K = TypeVar("_K")
_T = TypeVar("_T")
_Conditions: TypeAlias = "Mapping[str, Condition]"
# An operator of the language of constraints and its right side: several values only after 'in'.
_Operation: TypeAlias = "tuple[str, Sequence[Scalar]]"
_EMPTY: Mapping[str, Any] = MappingProxyType({})
# Common stems of the names of ConfigSpace's conditions, clauses and relations.
_OPERATORS: Mapping[str, str] = MappingProxyType(
    {
        "In": "in",
        "Equals": "in",
        "NotEquals": "!=",
        "LessThan": "<",
        "LessThanEquals": "<=",
        "GreaterThan": ">",
        "GreaterThanEquals": ">=",
    }
)
_NEGATED: Mapping[str, str] = MappingProxyType({"<": ">=", "<=": ">", ">": "<=", ">=": "<", "in": "!="})


def from_configspace(
    source: Any, *, rename: Mapping[str, str] = _EMPTY, domains: Mapping[str, Domain] = _EMPTY
) -> SearchSpace:
    """Return the space with the distribution of a `ConfigSpace.ConfigurationSpace`.

    Args:
        source: any ConfigurationSpace. A result of `to_configspace` is read back with its original domains.
        rename: from names in the source to dotted names, for names that are not valid ('svm:C' to 'svm.C').
        domains: by the names in the source, domains of hyperparameters whose distribution has no counterpart (normal
            and beta ones, weighted categoricals, log integers).

    Raises:
        SpaceError: with everything that has no counterpart, and every name that is not dotted.

    >>> from ConfigSpace import ConfigurationSpace, EqualsCondition
    >>> source = ConfigurationSpace({"optimizer": ["sgd", "adamw"], "svm:C": (1e-4, 1.0), "momentum": (0.5, 0.99)})
    >>> source.add(EqualsCondition(source["momentum"], source["optimizer"], "sgd"))
    >>> from_configspace(source, rename={"svm:C": "svm.C"})
    SearchSpace(
      optimizer: one of 'sgd', 'adamw'
      svm.C: a float in [0.0001, 1]
      momentum: a float in [0.5, 0.99] when optimizer = 'sgd'
    )
    """
    problems = Problems()
    for name in dict.fromkeys([*rename, *domains]):
        if name not in source:
            problems.add(name, f"is not a hyperparameter of the source{suggestion(name, source)}")
    known = {item.name: item for item in source.values()}
    raise_all(problems.collected)
    names = _each(known, lambda name: _called(name, known, rename))
    gates = _gates(known)
    plain = [name for name in known if name not in domains and name not in gates]
    reader = _Reader(known, names, {**_each(plain, lambda name: domain_of(known[name])), **domains})
    first = {name: parts[0] for name in known if (parts := source.parent_conditions_of[name])}
    conditions = _each(first, lambda name: reader.condition(first[name]))
    switched = frozenset(name for name in known if reader.is_switched(name, conditions))
    return _assembled(reader, conditions, switched, source.forbidden_clauses)


@final
@dataclass(frozen=True, slots=True)
class _Reader:
    """Reader of the hyperparameters of one ConfigurationSpace.

    Attributes:
        known: the hyperparameters, by their names.
        names: their names in the space.
        domains: their domains, without gates.
    """

    known: Mapping[str, Any]
    names: Mapping[str, str]
    domains: Mapping[str, Domain]

    def condition(self, source: Any) -> Condition:
        """Return a condition with the names of the space; a gate is a parent like any other."""
        match type(source).__name__:
            case "AndConjunction":
                return all_of(*map(self.condition, source.components))
            case "OrConjunction":
                return any_of(*map(self.condition, source.components))
            case kind:
                name = source.parent.name
                return When(
                    self.names[name], _predicate(*self.operation(name, kind, source, source.satisfied_by_value))
                )

    def operation(self, name: str, kind: str, claim: Any, holds: Callable[[dict[str, Any]], bool]) -> _Operation:
        """Return the operator and the operands of a condition or clause on one hyperparameter."""
        listed = listed_by(self.known[name])
        if listed is not None:
            domain = self.domains.get(name)
            values = options(domain) if domain is not None and labels(domain) == listed else None
            held = [value for label, value in zip(listed, values or listed, strict=True) if holds({name: label})]
            if not held:
                raise wrong(f"{claim} holds for no value")
            return "in", held
        operands = claim.values if kind in {"InCondition", "ForbiddenInClause"} else [claim.value]
        return _operator(kind), [self._value_of(name, value) for value in operands]

    def is_switched(self, name: str, conditions: _Conditions) -> bool:
        """Return True if the hyperparameter exists exactly when a gate of its name is on."""
        gate = gate_name(name)
        if gate not in _gates(self.known):
            return False
        is_on = terms_of(When(self.names[gate], ON))
        return terms_of(conditions.get(name)) == both(terms_of(conditions.get(gate)), is_on)

    def domain(self, name: str, switched: frozenset[str]) -> Domain:
        """Return the domain of a hyperparameter together with its gate."""
        if name not in switched:
            return self.domains[name] if name in self.domains else domain_of(self.known[name])
        off, _ = self.known[gate_name(name)].probabilities
        return ZeroOr(self.domains[name], float(off))

    def claim(self, forbidden: Any, switched: frozenset[str]) -> str:
        """Return a forbidden clause in the language of constraints."""
        kind = type(forbidden).__name__
        if kind == "ForbiddenAndConjunction":
            return " and ".join(f"({self.claim(part, switched)})" for part in forbidden.components)
        if kind.endswith("Relation"):
            left, right = self.compared(forbidden, switched)
            return f"{left} {_operator(kind).replace('in', '==')} {right}"
        if not kind.endswith("Clause"):
            raise wrong("has no counterpart")
        name = forbidden.hyperparameter.name
        operator, values = self.operation(name, kind, forbidden, forbidden.is_forbidden_value)
        base = name.removesuffix(gate_name(""))
        if base in switched and base != name:
            return f"{self.names[base]} {'==' if OFF in values else '!='} 0"
        text = f"{self.names[name]} {operator} {tuple(values) if operator == 'in' else values[0]!r}"
        return f"{self.names[name]} != 0 and {text}" if name in switched else text

    def compared(self, relation: Any, switched: frozenset[str]) -> tuple[str, str]:
        """Return the names of the two sides of a relation."""
        sides = relation.left.name, relation.right.name
        for name in sides:
            if name in switched or not is_shown_as_it_is(self.domains[name]):
                raise wrong(f"compares a code of {self.names[name]!r}, not its value")
        return self.names[sides[0]], self.names[sides[1]]

    def _value_of(self, name: str, shown: float) -> float:
        """Return the value that ConfigSpace displays as this number."""
        domain = self.domains[name]
        match domain:
            case SymLog():
                return domain.from_coordinate(float(shown)) if shown else 0.0
            case Int() if type(self.known[name]).__name__ == "UniformIntegerHyperparameter":
                return int(shown)
            case Int() if shown % 1 != 0.5:
                raise wrong(f"{shown!r} is inside the range that is rounded to one value of {name!r}")
            case _:
                return float(shown)


def _assembled(
    reader: _Reader, conditions: _Conditions, switched: frozenset[str], forbidden: Sequence[Any]
) -> SearchSpace:
    gates = {gate_name(name): name for name in switched}
    parameters = _each([name for name in reader.known if name not in gates], lambda name: reader.domain(name, switched))
    clauses = {str(clause): clause for item in forbidden for clause in _alternatives(item)}
    texts = _each(clauses, lambda text: _constraint(reader, clauses[text], switched))
    by_gate = {reader.names[gate]: reader.names[name] for gate, name in gates.items()}
    when: dict[str, Condition] = {}
    for name in parameters:
        condition = conditions.get(gate_name(name) if name in switched else name)
        if condition is not None:
            when[reader.names[name]] = _shortened(_ungated(condition, by_gate), when)
    return SearchSpace({reader.names[name]: domain for name, domain in parameters.items()}, when, texts.values())


def _gates(known: Mapping[str, Any]) -> set[str]:
    """Return the names of possible gates, by their names and values."""
    gates = {gate_name(name) for name in known} & known.keys()
    return {gate for gate in gates if listed_by(known[gate]) == (OFF, ON)}


def _called(name: str, known: Mapping[str, Any], rename: Mapping[str, str]) -> str:
    """Return the name in the space of a hyperparameter; a gate is named after the parameter that it switches."""
    base = name.removesuffix(gate_name(""))
    if base != name and base in known:
        return gate_name(_called(base, known, rename))
    return check_name(rename.get(name, name))


def _each(keys: Iterable[_K], build: Callable[[_K], _T]) -> dict[_K, _T]:
    """Return the result of `build` for each key, or raise with all problems."""
    problems, built = Problems(), {}
    for key in keys:
        if (result := problems.attempt(str(key), functools.partial(build, key))) is not None:
            built[key] = result
    raise_all(problems.collected)
    return built


def _operator(kind: str) -> str:
    return _OPERATORS[re.sub("^Forbidden|(Condition|Clause|Relation)$", "", kind)]


def _predicate(operator: str, values: Sequence[Scalar]) -> Predicate:
    if operator == "in":
        return equals(values[0]) if len(values) == 1 else one_of(*values)
    if operator == "!=":
        return not_equal(values[0])
    return (less_than if operator == "<" else greater_than)(cast("float", values[0]))


def _ungated(condition: Condition, by_gate: Mapping[str, str]) -> Condition:
    """Return the condition on a gate as a condition on the parameter that it switches."""
    match condition:
        case When(parent=parent, predicate=predicate) if parent in by_gate:
            off, on = predicate.holds(OFF), predicate.holds(ON)
            # A number is never None: if both hold, it is enough that the parameter exists.
            return When(by_gate[parent], not_equal(None) if off and on else equals(0) if off else not_equal(0))
        case AllOf(parts=parts):
            return all_of(*(_ungated(part, by_gate) for part in parts))
        case AnyOf(parts=parts):
            return any_of(*(_ungated(part, by_gate) for part in parts))
        case _:
            return condition


def _shortened(condition: Condition, when: _Conditions) -> Condition:
    """Remove the parts that the conditions of the parents imply."""
    leaves = list(dict.fromkeys(condition.leaves()))
    terms = []
    for term in terms_of(condition):
        implied = {leaf for part in term for leaf in _implied(part.parent, when)}
        terms.append(sorted(term - implied, key=leaves.index))
    return any_of(*(all_of(*term) for term in sorted(terms, key=lambda term: [leaves.index(leaf) for leaf in term])))


def _implied(parent: str, when: _Conditions) -> frozenset[When]:
    terms = terms_of(when.get(parent))
    return next(iter(terms)) if len(terms) == 1 else frozenset()


def _alternatives(forbidden: Any) -> Iterator[Any]:
    """Yield the parts of a forbidden clause that are forbidden separately."""
    if type(forbidden).__name__ == "ForbiddenOrConjunction":
        for part in forbidden.components:
            yield from _alternatives(part)
    else:
        yield forbidden


def _constraint(reader: _Reader, forbidden: Any, switched: frozenset[str]) -> str:
    """Return the constraint that excludes a forbidden clause."""
    kind = type(forbidden).__name__
    if not kind.endswith("Relation"):
        return f"not ({reader.claim(forbidden, switched)})"
    left, right = reader.compared(forbidden, switched)
    return f"{left} {_NEGATED[_operator(kind)]} {right}"
