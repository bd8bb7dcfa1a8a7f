"""Steps of a sweep that a free worker may take before a new point is proposed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


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


Step: TypeAlias = Promotion | FurtherSeed | SeedDrop
