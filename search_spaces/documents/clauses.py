"""Reader of the `when` entries of a space document.

```yaml
when: {optimizer.name: sgd}                                   # a value
when: {snnl.weight: {not: 0}, snnl.temperature_mode: [relative, absolute]}     # both must hold
when: {any: [{mixup.alpha: {not: 0}}, {snnl.weight: {greater_than: 0.1}}]}      # one must
```

`any` and `all` hold lists of such mappings and nest. A parameter may itself be called `any` or `all`: its condition is
never a list of mappings.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from search_spaces.conditions.condition import (
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
from search_spaces.errors import quoted, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREDICATES = ("equals", "one_of", "not", "greater_than", "less_than")
_JOINTS = {"any": any_of, "all": all_of}


def read_conditions(clauses: object, path: str, problems: Problems) -> list[Condition]:
    """Read the conditions of one `when`, all of which must hold; add errors to `problems`.

    >>> problems = Problems()
    >>> print(*read_conditions({"a": {"greater_than": 1, "not": 3}}, "when", problems), sep=" and ")
    a > 1.0 and a != 3
    >>> read_conditions({"a": {"grater_than": 1}}, "when", problems), str(problems.collected[0])
    ([], "when.a: unknown condition 'grater_than'; did you mean 'greater_than'?")
    """
    if not isinstance(clauses, Mapping):
        problems.add(path, f"must be a mapping from parents to values, got {quoted(clauses)}")
        return []
    conditions: list[Condition] = []
    for key, clause in clauses.items():
        if key in _JOINTS and _is_list_of_mappings(clause):
            conditions.extend(_joined(key, clause, f"{path}.{key}", problems))
        else:
            build = functools.partial(_leaves, key, clause)
            conditions.extend(problems.attempt(f"{path}.{key}", build) or ())
    return conditions


def _is_list_of_mappings(clause: object) -> bool:
    return isinstance(clause, list) and bool(clause) and all(isinstance(part, Mapping) for part in clause)


def _joined(key: str, clauses: list[Any], path: str, problems: Problems) -> Iterator[Condition]:
    parts: list[Condition] = []
    for place, clause in enumerate(clauses):
        conditions = read_conditions(clause, f"{path}.{place}", problems)
        if conditions:
            parts.append(all_of(*conditions))
        elif not clause:
            problems.add(f"{path}.{place}", "is empty; give it a condition, or leave it out")
    if parts:
        yield _JOINTS[key](*parts)


def _leaves(parent: str, clause: object) -> tuple[When, ...]:
    return tuple(When(parent, predicate) for predicate in _predicates(clause))


def _predicates(clause: Any) -> Iterator[Predicate]:
    if isinstance(clause, list):
        yield one_of(*clause)
    elif not isinstance(clause, Mapping):
        yield equals(clause)
    elif not clause:
        raise wrong(f"is empty; give a value, a list of values, or {', '.join(_PREDICATES)}")
    else:
        for key, value in clause.items():
            yield from _named_predicates(key, value)


def _named_predicates(key: str, value: Any) -> Iterator[Predicate]:
    match key:
        case "equals":
            yield equals(value)
        case "one_of" if isinstance(value, list):
            yield one_of(*value)
        case "not":
            yield from (not_equal(item) for item in (value if isinstance(value, list) else [value]))
        case "greater_than":
            yield greater_than(value)
        case "less_than":
            yield less_than(value)
        case "one_of":
            raise wrong(f"one_of must be a list of values, got {quoted(value)}")
        case _:
            raise wrong(f"unknown condition {quoted(key)}{suggestion(key, _PREDICATES)}")
