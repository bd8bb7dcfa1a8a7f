"""Reading a space document: every mistake at once, each with its path and the nearest valid name.

```yaml
version: 1                                    # optional
use: [optimizer, snnl]                        # catalog fragments
parameters:                                   # added, or replacing what a fragment said
  optimizer.lr: {float: [1e-3, 1.0], log: true}
  adversarial.steps: {int: [2, 10], when: {adversarial.attack: pgd}}
  snnl.weight: {zero_or: {symlog: [-1.0, 1.0], gap: 0.001}, probability: 0.3}
  batch_size: {choice: [32, 64, 128]}
  optimizer.name: sgd                         # as {fixed: sgd}
```

A condition in `when` is, for each parent, a value, a list of values, or a mapping of `equals`, `one_of`,
`not` and `greater_than`, all of which must hold. A replaced parameter keeps the conditions that its
fragment gave it unless it has a `when` of its own (`when: {}` for none).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from search_spaces import catalog
from search_spaces.conditions import (
    GreaterThan,
    Predicate,
    When,
    equals,
    greater_than,
    not_equal,
    one_of,
    same,
)
from search_spaces.domains import Choice, Domain, Fixed, Float, Int, SymLog, ZeroOr
from search_spaces.errors import DomainError, PathError, Problem, SpaceError, suggestion
from search_spaces.paths import check_name
from search_spaces.serialization import FORMAT_VERSION
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Iterator

_T = TypeVar("_T")
_Entry: TypeAlias = Mapping[str, Any]

_FIELDS = ("version", "use", "parameters")
_CONDITIONS = ("equals", "one_of", "not", "greater_than")
# Stands for a parameter whose own entry is wrong, so that its children are still checked.
_PLACEHOLDER = Fixed(None)


def parse_space(document: object, *, path: str = "space") -> SearchSpace:
    """Read a space document, as `load_yaml` returns it; `path` is where the document stands in its file.

    Raises:
        SpaceError: with every problem.

    >>> parse_space({"use": ["snnl", "mixpu"], "parameters": {"lr": {"flaot": [0.1, 4.0]}}})
    Traceback (most recent call last):
    search_spaces.errors.SpaceError: space.use: unknown fragment 'mixpu'; did you mean 'mixup'?
    space.parameters.lr: unknown domain 'flaot'; did you mean 'float'?
    """
    problems = _Problems()
    if not isinstance(document, Mapping):
        raise SpaceError(Problem(path, f"must be a mapping with {', '.join(_FIELDS)}, got {document!r}"))
    for field in document:
        if field not in _FIELDS:
            problems.add(f"{path}.{field}", f"unknown field{suggestion(str(field), _FIELDS)}")
    problems.attempt(f"{path}.version", lambda: _check_version(document.get("version", FORMAT_VERSION)))
    base = problems.attempt(f"{path}.use", lambda: _fragments(document.get("use", [])))
    entries = document.get("parameters", {})
    parameters, when = _merge(base or SearchSpace({}), entries, f"{path}.parameters", problems)
    # Without its fragments the space lacks parents, whose absence is nobody's mistake.
    if base is not None:
        space = problems.attempt(f"{path}.parameters", lambda: SearchSpace(parameters, when))
    if problems.found or base is None or space is None:
        raise SpaceError(*problems.found)
    return space


class _Problems:
    """What has been found wrong so far."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, path: str, message: str) -> None:
        self.found.append(Problem(path, message))

    def attempt(self, path: str, build: Callable[[], _T]) -> _T | None:
        """Build, or note what went wrong at or below `path`."""
        try:
            return build()
        except DomainError as error:
            self.found.extend(Problem(path, _sentence(problem)) for problem in error.problems)
        except PathError as error:
            self.found.extend(Problem(path, problem.message) for problem in error.problems)
        except SpaceError as error:
            self.found.extend(Problem(f"{path}.{inner}".rstrip("."), text) for inner, text in error.problems)
        return None


def _sentence(problem: Problem) -> str:
    """Say the law of a domain without its class: ('Float.low', 'must be ...') is 'low must be ...'."""
    field = problem.path.partition(".")[2]
    return f"{field} {problem.message}" if field else problem.message


def _wrong(message: str) -> SpaceError:
    return SpaceError(Problem("", message))


def _check_version(version: object) -> None:
    if version != FORMAT_VERSION or type(version) is not int:
        raise _wrong(f"must be {FORMAT_VERSION}, got {version!r}; a newer ravel reads it")


def _fragments(names: object) -> SearchSpace:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _wrong(f"must be a list of fragment names, got {names!r}; known: {', '.join(catalog.FRAGMENTS)}")
    unknown = [name for name in names if name not in catalog.FRAGMENTS]
    if unknown:
        raise SpaceError(
            *(Problem("", f"unknown fragment {name!r}{suggestion(name, catalog.FRAGMENTS)}") for name in unknown)
        )
    space = SearchSpace({})
    for name in names:
        space |= catalog.FRAGMENTS[name]()
    return space


_Definition: TypeAlias = tuple[dict[str, Domain], dict[str, tuple[When, ...]]]


def _merge(base: SearchSpace, entries: object, path: str, problems: _Problems) -> _Definition:
    """Put the entries of the document over what the fragments said."""
    parameters, when = dict(base.parameters), dict(base.when)
    if not isinstance(entries, Mapping):
        problems.add(path, f"must be a mapping from parameter names to domains, got {entries!r}")
        return parameters, when
    for name, entry in entries.items():
        place = f"{path}.{name}"
        if problems.attempt(place, functools.partial(check_name, name)) is None:
            continue
        parameters[name] = problems.attempt(place, functools.partial(_parameter, entry)) or _PLACEHOLDER
        if isinstance(entry, Mapping) and "when" in entry:
            when[name] = tuple(_conditions(entry["when"], f"{place}.when", problems))
            for law in when[name]:
                # A parent that the document itself defines may have been narrowed since the condition was
                # written, as in an exported space; of a fragment's parent the values are known.
                parent = None if law.parent in entries else base.parameters.get(law.parent)
                for message in _misspelt(law, parent):
                    problems.add(f"{place}.when.{law.parent}", message)
    return parameters, when


def _parameter(entry: object) -> Domain:
    if isinstance(entry, Mapping):
        return _domain({key: value for key, value in entry.items() if key != "when"})
    if isinstance(entry, list):
        raise _wrong(f"a list is no domain; write {{choice: {entry!r}}}")
    if entry is None:
        raise _wrong("is empty; write a domain such as {float: [0.0, 1.0]}, or {fixed: null}")
    return Fixed(entry)  # type: ignore[arg-type]  # the constructor checks


def _domain(entry: _Entry) -> Domain:
    kinds = [key for key in entry if key in _KINDS]
    if len(kinds) != 1:
        raise _kind_error(entry, kinds)
    kind = kinds[0]
    known = _OPTIONS.get(kind, ())
    unknown = [key for key in entry if key != kind and key not in known]
    if unknown:
        options = (*known, "when")
        raise SpaceError(
            *(Problem(str(key), f"unknown field of {kind!r}{suggestion(str(key), options)}") for key in unknown)
        )
    return _KINDS[kind](entry)


def _kind_error(entry: _Entry, kinds: list[str]) -> SpaceError:
    if kinds:
        return _wrong(f"must have one domain, got {' and '.join(kinds)}")
    options = {option for known in _OPTIONS.values() for option in known}
    strangers = [str(key) for key in entry if key not in options]
    if strangers:
        return _wrong(f"unknown domain {strangers[0]!r}{suggestion(strangers[0], _KINDS)}")
    return _wrong(f"has no domain; give one of {', '.join(_KINDS)}")


def _bounds(entry: _Entry, kind: str) -> tuple[Any, Any]:
    bounds = entry[kind]
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise _wrong(f"{kind} must be [low, high], got {bounds!r}")
    return bounds[0], bounds[1]


def _float(entry: _Entry) -> Domain:
    return Float(*_bounds(entry, "float"), log=entry.get("log", False))


def _int(entry: _Entry) -> Domain:
    return Int(*_bounds(entry, "int"), log=entry.get("log", False))


def _symlog(entry: _Entry) -> Domain:
    if "gap" not in entry:
        raise _wrong("symlog needs a gap, the smallest magnitude; write {symlog: [-1.0, 1.0], gap: 0.001}")
    return SymLog(*_bounds(entry, "symlog"), gap=entry["gap"])


def _choice(entry: _Entry) -> Domain:
    if not isinstance(entry["choice"], list):
        raise _wrong(f"choice must be a list of values, got {entry['choice']!r}")
    return Choice(entry["choice"])


def _fixed(entry: _Entry) -> Domain:
    return Fixed(entry["fixed"])


def _zero_or(entry: _Entry) -> Domain:
    if not isinstance(entry["zero_or"], Mapping):
        raise _wrong(f"zero_or must hold a domain such as {{float: [0.1, 1.0]}}, got {entry['zero_or']!r}")
    return ZeroOr(_domain(entry["zero_or"]), entry.get("probability", 0.5))


_KINDS: Mapping[str, Callable[[_Entry], Domain]] = {
    "float": _float,
    "int": _int,
    "symlog": _symlog,
    "choice": _choice,
    "fixed": _fixed,
    "zero_or": _zero_or,
}
# What a kind takes beside its own key.
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "float": ("log",),
    "int": ("log",),
    "symlog": ("gap",),
    "zero_or": ("probability",),
}


def _conditions(clauses: object, path: str, problems: _Problems) -> Iterator[When]:
    if not isinstance(clauses, Mapping):
        problems.add(path, f"must be a mapping from parents to values, got {clauses!r}")
        return
    for parent, clause in clauses.items():
        build = functools.partial(_laws, parent, clause)
        yield from problems.attempt(f"{path}.{parent}", build) or ()


def _laws(parent: str, clause: object) -> tuple[When, ...]:
    return tuple(When(parent, predicate) for predicate in _predicates(clause))


def _predicates(clause: Any) -> Iterator[Predicate]:
    if isinstance(clause, list):
        yield one_of(*clause)
    elif not isinstance(clause, Mapping):
        yield equals(clause)
    elif not clause:
        raise _wrong(f"is empty; give a value, a list of values, or {', '.join(_CONDITIONS)}")
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
            yield from (not_equal(each) for each in (value if isinstance(value, list) else [value]))
        case "greater_than":
            yield greater_than(value)
        case "one_of":
            raise _wrong(f"one_of must be a list of values, got {value!r}")
        case _:
            raise _wrong(f"unknown condition {key!r}{suggestion(key, _CONDITIONS)}")


def _misspelt(law: When, parent: Domain | None) -> Iterator[str]:
    """Say which values of a condition its parent can never have."""
    if not isinstance(parent, Choice) or isinstance(law.predicate, GreaterThan):
        return
    for value in law.predicate.marks:
        if not any(same(value, option) for option in parent.options):
            names = [option for option in parent.options if isinstance(option, str)]
            yield f"{value!r} is not {parent.describe()}{suggestion(str(value), names)}"
