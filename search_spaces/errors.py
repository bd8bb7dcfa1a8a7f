"""Exception tree of the package, and helpers for its messages.

```
ValueError
└── SpaceError            one or more `Problem`s, all of them at once
    ├── DomainError       a domain, or a value for it, is not valid
    ├── InfeasibleError   the constraints of a space reject almost every point
    ├── PathError         a dotted parameter name is not valid, or two names clash
    └── YamlError         the text is not the strict YAML of this project (line, column)
ImportError
└── MissingExtraError     an optional library is not installed; names the extra that installs it
```
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Below this similarity a suggestion reads as noise: 'lr' is no misspelling of 'norm'.
_SIMILARITY = 0.6
# Lengths in a message, which is at most 400 characters a line.
_LONGEST_PATH = 120
_LONGEST_VALUE = 80


class Problem(NamedTuple):
    """One error: its place and its message.

    >>> str(Problem("space.parameters.optimizer.lr", "low < high must hold, got low=1.0, high=0.0"))
    'space.parameters.optimizer.lr: low < high must hold, got low=1.0, high=0.0'
    """

    path: str
    message: str

    def __str__(self) -> str:
        path = self.path
        if len(path) > _LONGEST_PATH:  # of a file path the end is needed most
            path = f"{path[: _LONGEST_PATH // 2 - 3]}...{path[-_LONGEST_PATH // 2 :]}"
        return f"{path}: {self.message}"


class SpaceError(ValueError):
    """All errors of a space, one line for each.

    >>> print(SpaceError(Problem("a", "first"), Problem("b.c", "second")))
    a: first
    b.c: second
    """

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Problems, in the order of their detection."""
        return tuple(self.args)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class DomainError(SpaceError):
    """A domain, or a value for it, is not valid.

    >>> print(DomainError(Problem("Int.low", "must be an int, got True")))
    Int.low: must be an int, got True
    """


class InfeasibleError(SpaceError):
    """The constraints of a space reject almost every point.

    >>> issubclass(InfeasibleError, SpaceError)
    True
    """


class PathError(SpaceError):
    """A dotted parameter name is not valid, or two names clash.

    >>> isinstance(PathError(Problem("a..b", "not a parameter name")), SpaceError)
    True
    """


class YamlError(SpaceError):
    """The text is not the strict YAML of this project. `line` and `column` count from 1.

    >>> print(YamlError(Problem("sweep.yaml:3:1", "duplicate key 'name'"), line=3, column=1))
    sweep.yaml:3:1: duplicate key 'name'
    """

    def __init__(self, *problems: Problem, line: int = 1, column: int = 1) -> None:
        super().__init__(*problems)
        self.line = line
        self.column = column


class MissingExtraError(ImportError):
    """An optional library is not installed.

    >>> print(MissingExtraError("optuna", extra="optuna"))
    optuna is not installed: pip install 'ravel-sweeps[optuna]'
    """

    def __init__(self, library: str, *, extra: str = "all") -> None:
        super().__init__(f"{library} is not installed: pip install 'ravel-sweeps[{extra}]'", name=library)
        self.library = library
        self.extra = extra

    def __reduce__(self) -> tuple[Callable[..., MissingExtraError], tuple[str]]:
        return functools.partial(MissingExtraError, extra=self.extra), (self.library,)


def raise_all(problems: Iterable[Problem]) -> None:
    """Raise one `SpaceError` with every problem; do nothing without one.

    >>> raise_all([])
    """
    if every := list(problems):
        raise SpaceError(*every)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate most similar to `name`, or None if none is similar.

    >>> nearest("num_trails", ["name", "num_trials", "seed"])
    'num_trials'
    >>> nearest("zebra", ["name", "seed"]) is None
    True
    """
    import difflib  # noqa: PLC0415 - costs more than the rest of this package, and only errors need it

    matches = difflib.get_close_matches(name, list(candidates), n=1, cutoff=_SIMILARITY)
    return matches[0] if matches else None


def suggestion(name: str, candidates: Iterable[str]) -> str:
    """Return '; did you mean ...?' for the end of a message, or an empty string if no candidate is similar.

    >>> suggestion("flaot", ["float", "int"])
    "; did you mean 'float'?"
    >>> suggestion("zebra", ["float", "int"])
    ''
    """
    match = nearest(name, candidates)
    return "" if match is None else f"; did you mean {quoted(match)}?"


def quoted(value: object) -> str:
    """Return the repr of a value for a message, cut to 80 characters.

    >>> quoted("sgd"), len(quoted("x" * 1000))
    ("'sgd'", 80)
    """
    return cut(repr(value))


def cut(text: str, length: int = _LONGEST_VALUE) -> str:
    """Return the text, its end replaced by '...' if it is longer than `length`.

    >>> cut("a float in [0, 1]", 12)
    'a float i...'
    """
    return text if len(text) <= length else f"{text[: length - 3]}..."
