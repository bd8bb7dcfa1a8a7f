"""What can be wrong with a space, and how it is said.

```
ValueError
└── SpaceError            one or more `Problem`s, all of them at once
    ├── DomainError       a domain, or a value for it, breaks a law
    ├── InfeasibleError   the constraints of a space leave next to no point
    ├── PathError         a dotted parameter name breaks the grammar, or two names clash
    └── YamlError         the text is not the strict YAML of this project (line, column)
ImportError
└── MissingExtraError     an optional library is not installed; names the extra that brings it
```
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Below this similarity a suggestion reads as noise: 'lr' is no misspelling of 'norm'.
_SIMILARITY = 0.6


class Problem(NamedTuple):
    """One thing that is wrong, and where.

    >>> str(Problem("space.parameters.optimizer.lr", "low < high must hold, got low=1.0, high=0.0"))
    'space.parameters.optimizer.lr: low < high must hold, got low=1.0, high=0.0'
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class SpaceError(ValueError):
    """Everything that is wrong with a space, one line per problem.

    >>> print(SpaceError(Problem("a", "first"), Problem("b.c", "second")))
    a: first
    b.c: second
    """

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems, in the order in which they were found."""
        return tuple(self.args)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class DomainError(SpaceError):
    """A domain, or a value for it, breaks a law.

    >>> print(DomainError(Problem("Int.low", "must be an int, got True")))
    Int.low: must be an int, got True
    """


class InfeasibleError(SpaceError):
    """The constraints of a space leave next to no point.

    >>> issubclass(InfeasibleError, SpaceError)
    True
    """


class PathError(SpaceError):
    """A dotted parameter name breaks the grammar, or two names clash.

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
    """Raise one `SpaceError` with every problem, if there is any.

    >>> raise_all([])
    """
    if every := list(problems):
        raise SpaceError(*every)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate most like `name`, or None where none is alike.

    >>> nearest("num_trails", ["name", "num_trials", "seed"])
    'num_trials'
    >>> nearest("zebra", ["name", "seed"]) is None
    True
    """
    import difflib  # noqa: PLC0415 - costs more than the rest of this package, and only errors need it

    found = difflib.get_close_matches(name, list(candidates), n=1, cutoff=_SIMILARITY)
    return found[0] if found else None


def suggestion(name: str, candidates: Iterable[str]) -> str:
    """Return '; did you mean ...?' for the end of a message, or nothing.

    >>> suggestion("flaot", ["float", "int"])
    "; did you mean 'float'?"
    >>> suggestion("zebra", ["float", "int"])
    ''
    """
    match = nearest(name, candidates)
    return "" if match is None else f"; did you mean {match!r}?"
