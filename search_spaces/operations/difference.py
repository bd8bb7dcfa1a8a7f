"""Difference between two spaces, as data and as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from search_spaces.conditions.definition import SpaceLike


@final
@dataclass(frozen=True, slots=True)
class Change:
    """Change of a parameter that both spaces have.

    >>> print(Change("lr", "a float in [0, 1]", "always 0.1"))
    lr: a float in [0, 1] -> always 0.1
    """

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.name}: {self.before} -> {self.after}"


@final
@dataclass(frozen=True, slots=True)
class Difference:
    """Difference between two spaces; false if they are equal.

    Attributes:
        added: description of each parameter and text of each constraint (under `constraint`) of the second space only.
        removed: those of the first space only.
        changed: the parameters of both spaces, defined differently.

    >>> bool(Difference({}, {}, ())), str(Difference({}, {}, ()))
    (False, 'no difference')
    """

    added: Mapping[str, str]
    removed: Mapping[str, str]
    changed: tuple[Change, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        return "\n".join(self._lines()) or "no difference"

    def _lines(self) -> Iterator[str]:
        yield from (f"- {name}: {text}" for name, text in self.removed.items())
        yield from (f"~ {change}" for change in self.changed)
        yield from (f"+ {name}: {text}" for name, text in self.added.items())


def difference(before: SpaceLike, after: SpaceLike) -> Difference:
    """Return the changes from one space to the other; the order of parameters does not matter.

    >>> from search_spaces import catalog
    >>> mine = catalog.optimizer().fix({"optimizer.lr": 0.1}).drop("optimizer.momentum")
    >>> print(difference(catalog.optimizer(), mine))
    - optimizer.momentum: a float in [0.5, 0.99] when optimizer.name = 'sgd'
    ~ optimizer.lr: a float in [0.0001, 1], log -> always 0.1
    """
    old, new = _texts(before), _texts(after)
    changed = [
        name
        for name in before.parameters
        if name in after.parameters and _definition(before, name) != _definition(after, name)
    ]
    return Difference(
        added={name: text for name, text in new.items() if name not in old},
        removed={name: text for name, text in old.items() if name not in new},
        changed=tuple(Change(name, old[name], new[name]) for name in changed),
    )


def describe(space: SpaceLike, name: str) -> str:
    """Return a parameter's domain and condition in words.

    >>> from search_spaces import catalog
    >>> describe(catalog.optimizer(), "optimizer.momentum")
    "a float in [0.5, 0.99] when optimizer.name = 'sgd'"
    """
    words = space.parameters[name].describe()
    return f"{words} when {space.when[name]}" if name in space.when else words


def _texts(space: SpaceLike) -> dict[str, str]:
    parameters = {name: describe(space, name) for name in space.parameters}
    return parameters | {f"constraint {item.text!r}": "must hold" for item in space.constraints}


def _definition(space: SpaceLike, name: str) -> tuple[object, object]:
    return space.parameters[name], space.when.get(name)
