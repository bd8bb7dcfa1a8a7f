"""Users' own samplers and schedulers: the names that a spec gives, and the code behind them.

A name is one of the project's, one that a package registers (`ravel.samplers`, `ravel.schedulers`), or an import path,
`package.module:attribute`. Nothing is imported until the code is needed to decide, so commands that read need none.
"""

from __future__ import annotations

import sys
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StrictStr

from orchestrator.errors import OwnCodeFailed, SpecError, cut, quoted
from search_spaces import Problem, nearest
from trainables.config.values import scalar_or_list
from trainables.errors import ConfigError
from trainables.import_paths import accepted, argument_problems, bound, is_import_path, load, registered

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

SAMPLERS = ("auto", "tpe", "gp", "cmaes", "qmc", "nsga2", "nsga3", "random", "grid")
SCHEDULERS = ("auto", "asha", "pasha", "hyperband", "median", "pbt", "none")
SAMPLER_GROUP, SCHEDULER_GROUP = "ravel.samplers", "ravel.schedulers"
MAX_ARGUMENTS = 200
MAX_REASON = 150
"""Characters of an error of a user's code in a message."""
OURS = ("orchestrator", "search_spaces", "trainables", "ravel")
PACKAGES = Path(__file__).parents[2]


def _name_in(known: Collection[str], group: str) -> AfterValidator:
    def check(name: str) -> str:
        names = [*known, *registered(group)]
        if name in names or is_import_path(name):
            return name
        closest = nearest(name, names)
        hint = f"; did you mean {closest!r}?" if closest else ""
        listed = f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
        raise ValueError(f"must be {listed}, or an import path (package.module:attribute), got {quoted(name)}{hint}")

    return AfterValidator(check)


SamplerName = Annotated[StrictStr, _name_in(SAMPLERS, SAMPLER_GROUP)]
SchedulerName = Annotated[StrictStr, _name_in(SCHEDULERS, SCHEDULER_GROUP)]
Arguments = Annotated[dict[StrictStr, Annotated[Any, BeforeValidator(scalar_or_list)]], Field(max_length=MAX_ARGUMENTS)]
"""Arguments of a user's own code by name; what they must be, its signature says."""


@dataclass(frozen=True)
class OwnCode:
    """A user's sampler or scheduler: the name in the spec, its arguments, and their places.

    >>> code = OwnCode("fractions:Fraction", {"numerator": 3}, "ravel.samplers", place="search.sampler")
    >>> code.make({})()
    Fraction(3, 1)
    """

    name: str
    arguments: Mapping[str, Any]
    group: str
    place: str

    @property
    def arguments_place(self) -> str:
        """Return the place of the arguments: `search.args`, `scheduler.args`."""
        return f"{self.place.partition('.')[0]}.args"

    def load(self) -> Any:
        """Import the class or function.

        Raises:
            SpecError: there is none of that name, its import fails, or it cannot be called.
        """
        if not is_import_path(self.name) and self.name not in registered(self.group):
            raise self.wrong(f"no installed package registers {quoted(self.name)} in {self.group}; install it")
        try:
            target = load(self.name, group=self.group, place=self.place)
        except ConfigError as error:
            raise SpecError([Problem(*problem) for problem in error.problems]) from error
        if not callable(target):
            raise self.wrong(f"must be a class or a function, {self.name} is {quoted(target)}")
        return target

    def takes(self, *names: str) -> tuple[str, ...]:
        """Return those of the names that the class or function takes as arguments."""
        return accepted(self.load(), names)

    def make(self, provided: Mapping[str, Any], *, later: Collection[str] = ()) -> Callable[..., Any]:
        """Return the class or function with its arguments, and with those of the provided ones that it takes.

        Args:
            provided: values of arguments that Ravel passes.
            later: names of arguments that Ravel passes at each call.

        Raises:
            SpecError: an argument is unknown, missing, or of the wrong type.
        """
        target, arguments = self.load(), {key: value for key, value in self.arguments.items() if value is not None}
        place, names = self.arguments_place, {*provided, *later}
        problems = argument_problems(target, arguments, place=place, provided=names)
        if problems:
            raise SpecError([Problem(*problem) for problem in problems])
        return bound(target, arguments, provided=provided)

    def wrong(self, message: str) -> SpecError:
        """Return the error of code that is not what the spec needs."""
        return SpecError([Problem(self.place, message)])

    def broken(self, message: str) -> OwnCodeFailed:
        """Return the error of an answer that breaks a rule in a running sweep."""
        return OwnCodeFailed(self.place, f"{self.name} {message}")

    @contextmanager
    def running(self, doing: str) -> Iterator[None]:
        """Report an error of the user's code with its place, its kind and its line.

        Raises:
            OwnCodeFailed: the code raised, or tried to exit.
        """
        try:
            yield
        except (OwnCodeFailed, SpecError):
            raise
        except (Exception, SystemExit) as error:
            reason = cut(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}", MAX_REASON)
            raise self.broken(f"failed {doing} with {reason}{_line_of(error)}") from error


def _line_of(error: BaseException) -> str:
    """Return the last place in the user's own code, as ` (FILE, line N)`; empty if only libraries took part."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(Path(frame.filename))]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def _is_users(file: Path) -> bool:
    of_python = file.name.startswith("<") or "site-packages" in file.parts or file.is_relative_to(sys.base_prefix)
    return not of_python and not any(file.is_relative_to(PACKAGES / package) for package in OURS)
