"""Reader of a space document: reports all errors at once, each with its path and the nearest valid name.

```yaml
version: 1                                    # optional
use: [optimizer, snnl]                        # catalog fragments
parameters:                                   # added to the fragments, or replacing their entries
  optimizer.lr: {float: [1e-3, 1.0], log: true}
  adversarial.steps: {int: [2, 10], when: {adversarial.attack: pgd}}
  snnl.weight: {zero_or: {symlog: [-1.0, 1.0], gap: 0.001}, probability: 0.3}
  batch_size: {choice: [32, 64, 128], ordered: true}
  dropout: {float: [0.0, 0.5], step: 0.1}
  optimizer.name: sgd                         # as {fixed: sgd}
constraints: [adversarial.relative_step * adversarial.steps >= 1]
```

A condition in `when` is, for each parent, a value, a list of values, or a mapping of `equals`, `one_of`, `not`,
`greater_than` and `less_than`, all of which must hold; `any` and `all` hold lists of such conditions and nest. A
replaced parameter keeps the conditions of its fragment unless it has a `when` of its own (`when: {}` for none).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from search_spaces.conditions.condition import Condition, GreaterThan, LessThan, When, same
from search_spaces.conditions.constraints import Constraint
from search_spaces.conditions.definition import Definition
from search_spaces.conditions.structure import constraint_problems, definition
from search_spaces.documents.clauses import read_conditions
from search_spaces.documents.entries import read_domain
from search_spaces.documents.fragments import FRAGMENTS
from search_spaces.documents.problems import Problems, wrong
from search_spaces.documents.serialization import FORMAT_VERSION
from search_spaces.domains.types import Choice, Domain, Fixed
from search_spaces.errors import Problem, SpaceError, cut, quoted, suggestion
from search_spaces.operations.algebra import merged
from search_spaces.paths import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_EMPTY = Definition({}, {}, ())
_FIELDS = ("version", "use", "parameters", "constraints")
# Replaces the domain of an entry with errors, so that its children are still checked.
_PLACEHOLDER = Fixed(None)


def read_definition(document: object, *, path: str = "space") -> Definition:
    """Read a space document; `path` is its place in the file, for messages.

    Raises:
        SpaceError: with every problem.

    >>> list(read_definition({"use": ["mixup"], "parameters": {"mixup.layers": "input"}}).parameters)
    ['mixup.alpha', 'mixup.layers', 'mixup.per_sample']
    """
    problems = Problems()
    if not isinstance(document, Mapping):
        raise SpaceError(Problem(path, f"must be a mapping with {', '.join(_FIELDS)}, got {quoted(document)}"))
    for field in document:
        if field not in _FIELDS:
            problems.add(f"{path}.{field}", f"unknown field{suggestion(str(field), _FIELDS)}")
    problems.attempt(f"{path}.version", lambda: _check_version(document.get("version", FORMAT_VERSION)))
    base = problems.attempt(f"{path}.use", lambda: _fragments(document.get("use", [])))
    entries = document.get("parameters", {})
    parameters, when = _merge(base or _EMPTY, entries, f"{path}.parameters", problems)
    # If a fragment is unknown, parents are missing: that is not an error of the children.
    if base is not None:
        own = _constraints(document.get("constraints", []), parameters, f"{path}.constraints", problems)
        inherited = [item for item in base.constraints if not _names_placeholder(item, parameters)]
        checked = problems.attempt(f"{path}.parameters", lambda: definition(parameters, when, [*inherited, *own]))
    if problems.collected or base is None or checked is None:
        raise SpaceError(*problems.collected)
    return checked


@functools.cache
def fragment(name: str) -> Definition:
    """Return the definition of a fragment of the catalog.

    >>> list(fragment("mixup").parameters)
    ['mixup.alpha', 'mixup.layers', 'mixup.per_sample']
    """
    return read_definition(FRAGMENTS[name])


def _check_version(version: object) -> None:
    if version != FORMAT_VERSION or type(version) is not int:
        raise wrong(f"must be {FORMAT_VERSION}, got {quoted(version)}; use a newer version of ravel")


def _fragments(names: object) -> Definition:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise wrong(f"must be a list of fragment names, got {quoted(names)}; known: {', '.join(FRAGMENTS)}")
    unknown = [name for name in names if name not in FRAGMENTS]
    if unknown:
        raise SpaceError(
            *(Problem("", f"unknown fragment {quoted(name)}{suggestion(name, FRAGMENTS)}") for name in unknown)
        )
    return functools.reduce(merged, map(fragment, names), _EMPTY)


_Parts: TypeAlias = tuple[dict[str, Domain], dict[str, Condition | Sequence[Condition]]]


def _merge(base: Definition, entries: object, path: str, problems: Problems) -> _Parts:
    """Merge the entries of the document into those of the fragments, which they replace."""
    parameters: dict[str, Domain] = dict(base.parameters)
    when: dict[str, Condition | Sequence[Condition]] = dict(base.when)
    if not isinstance(entries, Mapping):
        problems.add(path, f"must be a mapping from parameter names to domains, got {quoted(entries)}")
        return parameters, when
    for name, entry in entries.items():
        place = f"{path}.{name}"
        if problems.attempt(place, functools.partial(check_name, name)) is None:
            continue
        parameters[name] = problems.attempt(place, functools.partial(read_domain, entry)) or _PLACEHOLDER
        if isinstance(entry, Mapping) and "when" in entry:
            conditions = read_conditions(entry["when"], f"{place}.when", problems)
            when[name] = conditions
            for leaf in itertools.chain.from_iterable(condition.leaves() for condition in conditions):
                # The document may define the parent itself, narrower than the condition expects, as an exported space
                # does. Only the values of a fragment's parent are certain.
                parent = None if leaf.parent in entries else base.parameters.get(leaf.parent)
                for message in _misspelt(leaf, parent):
                    problems.add(f"{place}.when.{leaf.parent}", message)
    return parameters, when


def _constraints(texts: object, parameters: Mapping[str, Domain], path: str, problems: Problems) -> list[Constraint]:
    if not isinstance(texts, list):
        problems.add(path, f'must be a list of texts such as "a <= b", got {quoted(texts)}')
        return []
    constraints: list[Constraint] = []
    for index, text in enumerate(texts):
        constraint = problems.attempt(f"{path}.{index}", functools.partial(Constraint, text))
        if constraint is None or _names_placeholder(constraint, parameters):
            continue
        own = list(constraint_problems(parameters, [constraint]))
        for problem in own:
            problems.add(f"{path}.{index}", problem.message)
        constraints.extend([] if own else [constraint])
    return constraints


def _names_placeholder(constraint: Constraint, parameters: Mapping[str, Domain]) -> bool:
    """Return True if the constraint names a parameter whose own entry has errors, so that it cannot be checked."""
    return any(parameters.get(name) is _PLACEHOLDER for name in constraint.names)


def _misspelt(leaf: When, parent: Domain | None) -> Iterator[str]:
    """Yield a message for each value of a condition that its parent can never have."""
    if not isinstance(parent, Choice) or isinstance(leaf.predicate, GreaterThan | LessThan):
        return
    for value in leaf.predicate.marks:
        if not any(same(value, option) for option in parent.options):
            names = [option for option in parent.options if isinstance(option, str)]
            yield f"{quoted(value)} is not {cut(parent.describe(), 160)}{suggestion(str(value), names)}"
