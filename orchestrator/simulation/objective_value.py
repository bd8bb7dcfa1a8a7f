"""Objective of a simulated sweep: one metric, or the mean of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import SpecError, quoted
from search_spaces import Problem
from trainables.metrics import lookup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MEAN = "+"


@dataclass(frozen=True)
class Value:
    """Objective of a simulated sweep: a metric, or the mean of several (``a+b``) of one direction.

    >>> str(Value.of("val/accuracy+val/robust_accuracy"))
    'val/accuracy max+val/robust_accuracy max'
    """

    parts: tuple[str, ...]
    mode: str

    @classmethod
    def of(cls, text: str) -> Value:
        """Return the objective in a text: ``metric``, ``metric mode``, or either joined by ``+``.

        Raises:
            SpecError: a direction is unknown, or they differ.
        """
        parts, modes = [], []
        for part in text.split(MEAN):
            metric, _, mode = part.strip().partition(" ")
            parts.append(metric)
            modes.append(mode.strip() or _direction_of(metric))
        if len(set(modes)) > 1 or modes[0] not in {"max", "min"}:
            requirement = "must be metrics of one direction, 'max' or 'min', such as 'val/accuracy' or 'my/loss min'"
            raise SpecError([Problem("--objective", f"{requirement}; got {quoted(text)}")])
        return cls(tuple(parts), modes[0])

    def __str__(self) -> str:
        """Return the objective as `of` reads it."""
        return MEAN.join(f"{part} {self.mode}" for part in self.parts)

    @property
    def metric(self) -> str:
        """Name under which simulated trials report it: that of the first metric."""
        return self.parts[0]

    @property
    def sign(self) -> float:
        """Return 1 if more is better, else -1."""
        return 1.0 if self.mode == "max" else -1.0

    def curve(self, curves: Mapping[str, Sequence[float]]) -> list[float]:
        """Return the objective by epoch."""
        parts = [curves[part] for part in self.parts]
        return [sum(values) / len(values) for values in zip(*parts, strict=True)]

    def final(self, values: Mapping[str, float]) -> float:
        """Return the objective of one value of each metric."""
        return sum(values[part] for part in self.parts) / len(self.parts)


def _direction_of(metric: str) -> str:
    try:
        return lookup(metric).direction or ""
    except KeyError:
        return ""
