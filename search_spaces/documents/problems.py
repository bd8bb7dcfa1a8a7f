"""Collector of the problems of a document, so that one error reports all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from search_spaces.errors import DomainError, PathError, Problem, SpaceError

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class Problems:
    """Problems of a document, collected so far.

    >>> from search_spaces import Float
    >>> problems = Problems()
    >>> problems.attempt("space.lr", lambda: Float("a", 1.0))
    >>> problems.attempt("space.version", lambda: 1)
    1
    >>> print(*problems.collected)
    space.lr: low must be a finite number, got 'a'
    """

    def __init__(self) -> None:
        self.collected: list[Problem] = []

    def add(self, path: str, message: str) -> None:
        """Add one problem."""
        self.collected.append(Problem(path, message))

    def attempt(self, path: str, build: Callable[[], _T]) -> _T | None:
        """Return the result of `build`, or None after adding its problems at or below `path`."""
        try:
            return build()
        except DomainError as error:
            self.collected.extend(Problem(path, _sentence(problem)) for problem in error.problems)
        except PathError as error:
            self.collected.extend(Problem(path, problem.message) for problem in error.problems)
        except SpaceError as error:
            self.collected.extend(Problem(f"{path}.{inner}".rstrip("."), text) for inner, text in error.problems)
        return None


def _sentence(problem: Problem) -> str:
    """Return the message of a domain without its class: ('Float.low', 'must be ...') is 'low must be ...'."""
    field = problem.path.partition(".")[2]
    return f"{field} {problem.message}" if field else problem.message


def wrong(message: str) -> SpaceError:
    """Return an error at the path of the current `attempt`.

    >>> wrong("is empty").problems
    (Problem(path='', message='is empty'),)
    """
    return SpaceError(Problem("", message))
