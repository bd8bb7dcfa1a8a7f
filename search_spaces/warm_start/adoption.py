"""Adoption of the points of a previous sweep, study or MLflow experiment into a space that has changed since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

from search_spaces.conditions.definition import is_active
from search_spaces.domains.quantiles import clip
from search_spaces.domains.types import Choice, Domain, Fixed, Float, Int, Scalar, SymLog, ZeroOr
from search_spaces.domains.values import broken, identity, is_number
from search_spaces.errors import DomainError, quoted
from search_spaces.sampling.points import point_problems

if TYPE_CHECKING:
    from collections.abc import Iterable

    from search_spaces.conditions.definition import SpaceLike
    from search_spaces.sampling.points import Point

Outcome: TypeAlias = Literal["kept", "clipped", "dropped", "merged"]


@final
@dataclass(frozen=True, slots=True)
class Report:
    """Outcome of adopting one point.

    Attributes:
        index: the index of the point in the input, from 0.
        outcome: `kept` with its values, `clipped` with some values moved to the nearest of the space, `dropped`, or
            `merged` with an equal point before it.
        notes: values that were moved, filled in or left out, and the reason for dropping the point.

    >>> print(Report(3, "clipped", ("lr: 2.0 moved to 1.0",)))
    point 3 clipped: lr: 2.0 moved to 1.0
    """

    index: int
    outcome: Outcome
    notes: tuple[str, ...]

    def __str__(self) -> str:
        notes = "; ".join(self.notes)
        return f"point {self.index} {self.outcome}" + (f": {notes}" if notes else "")


@final
@dataclass(frozen=True, slots=True)
class Adoption:
    """Points that a space contains, and a report on each point of the input.

    >>> print(Adoption((), (Report(0, "dropped", ("lr: no value",)), Report(1, "kept", ()))))
    2 points: 1 kept, 1 dropped
    point 0 dropped: lr: no value
    """

    points: tuple[Point, ...]
    reports: tuple[Report, ...]

    def __str__(self) -> str:
        counts = Counter(report.outcome for report in self.reports)
        summary = ", ".join(f"{counts[outcome]} {outcome}" for outcome in _OUTCOMES if counts[outcome])
        lines = [str(report) for report in self.reports if report.notes]
        return "\n".join([f"{len(self.reports)} points" + (f": {summary}" if summary else ""), *lines])


_OUTCOMES: tuple[Outcome, ...] = ("kept", "clipped", "merged", "dropped")


def adopt(
    space: SpaceLike, points: Iterable[Mapping[str, Any]], *, fill: Mapping[str, Scalar] = MappingProxyType({})
) -> Adoption:
    """Map points into a space: keep them, move numbers to the nearest value, or drop a point with the reason.

    A name that the space does not have, or that is inactive at this point, is left out. A number outside its domain is
    moved to the nearest value (a step, the edge of a gap, an option of an ordered `Choice`). A point is dropped if no
    near value has the same meaning (a removed option, a removed sign, a removed exact 0, which switches a method off),
    if a parameter has no value, or if a constraint does not hold. Values may be texts, as MLflow stores parameters.

    Args:
        space: the space that will contain the points.
        points: flat mappings from names to values.
        fill: values for parameters that a point lacks.

    Raises:
        DomainError: a value of `fill` is outside its domain, or a point is not a mapping.

    >>> from search_spaces import catalog
    >>> old = [
    ...     {"mixup.alpha": "8.0", "mixup.layers": "input", "mixup.per_sample": "False", "dropout": "0.1"},
    ...     {"mixup.alpha": 1.0, "mixup.layers": "stage1"},
    ... ]
    >>> adoption = adopt(catalog.mixup(), old)
    >>> adoption.points
    ({'mixup.alpha': 4.0, 'mixup.layers': 'input', 'mixup.per_sample': False},)
    >>> print(adoption)
    2 points: 1 clipped, 1 dropped
    point 0 clipped: dropout: left out, the space has no such parameter; mixup.alpha: '8.0' moved to 4.0
    point 1 dropped: mixup.layers: must be one of 'input', 'hidden', 'input+hidden', got 'stage1'
    """
    for name in [name for name in fill if name in space.parameters]:
        if not space.parameters[name].contains(fill[name]):
            raise broken(f"fill.{name}", space.parameters[name].refusal(quoted(fill[name])))
    adopted: dict[tuple[object, ...], Point] = {}
    reports = []
    for index, source in enumerate(points):
        if not isinstance(source, Mapping):
            raise broken(f"adopt.points.{index}", f"must be a mapping from names to values, got {quoted(source)}")
        point, outcome, notes = _mapped(space, source, fill)
        if point is not None:
            key = tuple((name, *identity(value)) for name, value in point.items())
            outcome = "merged" if key in adopted else outcome
            adopted.setdefault(key, point)
        reports.append(Report(index, outcome, tuple(notes)))
    return Adoption(tuple(adopted.values()), tuple(reports))


def _mapped(
    space: SpaceLike, source: Mapping[str, Any], fill: Mapping[str, Scalar]
) -> tuple[Point | None, Outcome, list[str]]:
    unknown = [name for name in source if name not in space.parameters]
    notes = [f"{name}: left out, the space has no such parameter" for name in unknown]
    outcome: Outcome = "kept"
    point: Point = {}
    for name, domain in space.parameters.items():
        if not is_active(space, name, point):
            notes += [f"{name}: left out, it exists only when {space.when[name]}"] if name in source else []
            continue
        if name not in source and name not in fill and not isinstance(domain, Fixed):
            return None, "dropped", [*notes, f"{name}: no value is given, and none to fill in"]
        if name not in source:
            point[name] = fill.get(name, domain.from_unit(0.5))
            notes.append(f"{name}: filled with {point[name]!r}")
            continue
        try:
            point[name] = _nearest(domain, source[name])
        except DomainError as error:
            return None, "dropped", [*notes, *(f"{name}: {problem.message}" for problem in error.problems)]
        if not _is_same(source[name], point[name]):
            outcome = "clipped"
            notes.append(f"{name}: {quoted(source[name])} moved to {point[name]!r}")
    problems = point_problems(space, point)
    if problems:
        return None, "dropped", [*notes, *map(str, problems)]
    return point, outcome, notes


def _is_same(source: object, value: Scalar) -> bool:
    """Return True if a value equals its source, which may be its text or a number of another type."""
    if isinstance(source, str) and not isinstance(value, str):
        return source == str(value) or (is_number(value) and _number(source) == value)
    return bool(source == value)


def _nearest(domain: Domain, source: object) -> Scalar:
    """Return the value of the domain that the source represents, or the nearest one.

    Raises:
        DomainError: no value of the domain is near.
    """
    if domain.contains(source):
        return source if not isinstance(domain, Float) else float(source)  # type: ignore[arg-type, return-value]  # contained
    if isinstance(source, str):
        try:
            return domain.read(source)
        except DomainError:
            number = _number(source)
            source = source if number is None else number
    moved = _moved(domain, float(source)) if is_number(source) and source != 0 else None
    if moved is None:
        raise broken(type(domain).__name__, domain.refusal(quoted(source)))
    return moved


def _moved(domain: Domain, x: float) -> float | None:
    """Return the number of the domain that is nearest to one outside it; None if the domain has no near number."""
    match domain:
        case ZeroOr(domain=inner):
            return _moved(inner, x)
        case Int(low=low, high=high, step=step):
            return low + step * min(max(round((x - low) / step), 0), (high - low) // step)
        case Float(low=low, high=high):
            lattice = domain.values()
            return clip(x, low, high) if lattice is None else lattice.nearest(x)
        case SymLog() if sides := [side for side in domain.intervals() if (side[1] > 0) == (x > 0)]:
            return clip(x, *sides[0])
        case Fixed(value=value) if is_number(value):
            return value
        case Choice(options=options, ordered=True) if numbers := [option for option in options if is_number(option)]:
            return min(numbers, key=lambda option: abs(option - x))
        case _:
            return None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
