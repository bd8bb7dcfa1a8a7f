"""Axes of figures in the scale that was searched: logarithmic, signed-logarithmic, choices; "off" and "not set" apart.

A position is a coordinate on a linear axis. The searched values span 0 to 1. Values that the scale does not have are
left of it, each with a tick of its own: a method that is off, a parameter that a trial does not have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.formatting import shown
from search_spaces import Choice, Fixed, Float, Int, SymLog, ZeroOr

if TYPE_CHECKING:
    from collections.abc import Iterable

    from search_spaces import Domain, SearchSpace

OFF, NOT_SET, OUTSIDE = "off", "not set", "outside"
APART = {OFF: -0.12, NOT_SET: -0.24, OUTSIDE: -0.36}
"""Positions of what is no value of the scale."""

MOST_TICKS = 5
MOST_CHOICES = 12


@dataclass(frozen=True)
class Axis:
    """Axis of one searched parameter; ``scale`` says in words how it is divided."""

    name: str
    domain: Domain
    scale: str

    @property
    def title(self) -> str:
        """Name of the parameter with the scale."""
        return f"{self.name} ({self.scale})" if self.scale else self.name

    def place(self, value: Any) -> float | str:
        """Return the position of a value from 0 to 1, or the name of the place apart that it has.

        >>> axis = axis_of("a", ZeroOr(Float(0.1, 10.0, log=True)))
        >>> round(axis.place(1.0), 3), axis.place(0.0), axis.place(None), axis.place(99.0)
        (0.5, 'off', 'not set', 'outside')
        """
        if value is None and not self.domain.contains(None):
            return NOT_SET
        if self.domain.contains(value):
            return self.domain.to_unit(value)
        return OFF if value == 0 and not isinstance(value, bool) else OUTSIDE

    def position(self, value: Any) -> float:
        """Return the coordinate of a value."""
        place = self.place(value)
        return APART[place] if isinstance(place, str) else place

    def ticks(self, values: Iterable[Any]) -> tuple[list[float], list[str]]:
        """Return positions and texts of the ticks for these values: those of the scale, and the places apart in use."""
        inner = dict(_inner_ticks(self.domain))
        places = {place for value in values if isinstance(place := self.place(value), str)}
        apart = [name for name in APART if name in places]
        return [*(APART[name] for name in apart), *inner], [*apart, *inner.values()]


def axes_of(space: SearchSpace, names: Iterable[str]) -> list[Axis]:
    """Return an axis for each of these searched parameters."""
    return [axis_of(name, space.parameters[name]) for name in names]


def axis_of(name: str, domain: Domain) -> Axis:
    """Return the axis of a parameter; of one that may be off, the axis of its values.

    >>> axis_of("snnl.weight", SymLog(-1.0, 1.0, gap=0.01)).title
    'snnl.weight (signed log scale)'
    """
    inner = domain.domain if isinstance(domain, ZeroOr) else domain
    return Axis(name, inner, _scale(inner))


def _scale(domain: Domain) -> str:
    match domain:
        case SymLog():
            return "signed log scale"
        case Float(log=True) | Int(log=True):
            return "log scale"
        case _:
            return ""


def _inner_ticks(domain: Domain) -> list[tuple[float, str]]:
    """Return position and text of the ticks of a scale; those of the smallest magnitudes of both signs are one."""
    ticks = [(domain.to_unit(value), shown(value)) for value in _tick_values(domain)]
    if isinstance(domain, SymLog) and domain.low < 0 < domain.high:
        ticks.append((domain.to_unit(domain.gap), f"±{shown(domain.gap)}"))
    return sorted(ticks)


def _tick_values(domain: Domain) -> list[Any]:
    """Return values with a tick: all of a few choices, round numbers of a range."""
    match domain:
        case Fixed(value=value):
            return [value]
        case Choice(options=options):
            step = math.ceil(len(options) / MOST_CHOICES)
            return list(options[::step])
        case SymLog(low=low, high=high, gap=gap):
            below = [-value for value in _decades(max(-high, gap), -low)] if low < 0 else []
            above = _decades(max(low, gap), high) if high > 0 else []
            ends = [end for end in (low, high) if abs(end) > gap]
            return [value for value in (*ends, *below, *above) if domain.contains(value)]
        case Int(low=low, high=high) if high - low < MOST_TICKS:
            return [value for value in range(low, high + 1) if domain.contains(value)]
        case Float(low=low, high=high, log=True) | Int(low=low, high=high, log=True):
            between = _decades(low, high)
            return [low, *(value for value in between if domain.contains(value)), high]
        case Float() | Int():
            units = [index / (MOST_TICKS - 1) for index in range(MOST_TICKS)]
            return list(dict.fromkeys(domain.from_unit(unit) for unit in units))
        case _:
            return []


def _decades(low: float, high: float) -> list[float]:
    """Return the powers of ten well between two numbers, or a round number near their geometric middle.

    >>> _decades(0.002, 1.0), _decades(0.1, 0.9)
    ([0.01, 0.1], [0.3])
    """
    exponents = range(math.floor(math.log10(low)) + 1, math.ceil(math.log10(high)))
    inside = [float(f"1e{exponent}") for exponent in exponents]
    apart = [value for value in inside if value > 1.5 * low and value < high / 1.5]
    return apart or [float(f"{math.sqrt(low * high):.1g}")]
