"""Definition of a space: its parameters, their conditions, the constraints, and which parameters are active."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from search_spaces.conditions.condition import Condition
    from search_spaces.conditions.constraints import Constraint
    from search_spaces.domains.values import Domain, Scalar


class SpaceLike(Protocol):
    """Anything with the parameters, conditions and constraints of a space."""

    @property
    def parameters(self) -> Mapping[str, Domain]:
        """Domain of each parameter, parents before children."""

    @property
    def when(self) -> Mapping[str, Condition]:
        """Condition of each conditional parameter."""

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """Constraints between the values of a point."""


class Definition(NamedTuple):
    """Parts of a space, as `SearchSpace` takes them.

    >>> Definition({}, {}, ()).constraints
    ()
    """

    parameters: Mapping[str, Domain]
    when: Mapping[str, Condition]
    constraints: tuple[Constraint, ...]


def is_active(space: SpaceLike, name: str, values: Mapping[str, Scalar]) -> bool:
    """Return True if the parameter exists, given the values of the active parameters before it.

    Raises:
        KeyError: the space has no such parameter.

    >>> from search_spaces import catalog
    >>> is_active(catalog.optimizer(), "optimizer.momentum", {"optimizer.name": "adamw"})
    False
    """
    if name not in space.parameters:
        raise KeyError(name)
    return name not in space.when or space.when[name].holds(values)


def active_names(space: SpaceLike, values: Mapping[str, Scalar]) -> frozenset[str]:
    """Return the parameters that exist, given the values of their parents.

    >>> from search_spaces import catalog
    >>> sorted(active_names(catalog.mixup(), {"mixup.alpha": 0.0}))
    ['mixup.alpha']
    """
    # Only the values of active parents count.
    known: dict[str, Scalar] = {}
    active: list[str] = []
    for name in space.parameters:
        if is_active(space, name, known):
            active.append(name)
            if name in values:
                known[name] = values[name]
    return frozenset(active)
