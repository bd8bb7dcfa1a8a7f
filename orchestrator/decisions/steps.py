"""Steps of a sweep that a free worker may take before a new point is proposed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from orchestrator.spec.model import Point
    from orchestrator.state.events import Descent


@dataclass(frozen=True, slots=True)
class Promotion:
    """A trial resumes from the rung it is paused at; ``audited`` if only to test the decision that paused it."""

    trial: str
    rung: int
    audited: bool = False


@dataclass(frozen=True, slots=True)
class FurtherSeed:
    """A configuration gets a trial with its next seed."""

    trial: str


@dataclass(frozen=True, slots=True)
class SeedDrop:
    """Seeds of a configuration are dropped on its way to a level; ``reason`` is in words."""

    configuration: str
    level: int
    seeds: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Descendant:
    """A new trial continues the training of one of the best members of a population, in the place of a bad one."""

    trial: str
    point: Point
    descent: Descent


Step: TypeAlias = Promotion | FurtherSeed | SeedDrop | Descendant
