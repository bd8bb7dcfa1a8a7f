"""How much of a space its constraints leave: rejection statistics, and the error when it is next to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, final

from search_spaces.errors import InfeasibleError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from search_spaces.conditions.constraints import Constraint
    from search_spaces.domains.values import Scalar


@final
@dataclass(frozen=True, slots=True)
class Feasibility:
    """What became of draws that ignored the constraints.

    Attributes:
        drawn: number of points drawn.
        accepted: number of them that satisfy every constraint.
        refused: for each constraint, by its text, the number of draws that break it; a draw may break several.

    >>> print(Feasibility(drawn=1000, accepted=250, refused={"a <= b": 500, "b <= c": 400}))
    250 of 1,000 draws (25 %) satisfy the constraints; refused by 'a <= b': 500, by 'b <= c': 400
    """

    drawn: int
    accepted: int
    refused: Mapping[str, int]

    @property
    def share(self) -> float:
        """The fraction of the draws that satisfy every constraint."""
        return self.accepted / self.drawn

    def __str__(self) -> str:
        if not self.refused:
            return "no constraint: every draw is a point"
        told = ", by ".join(f"{text!r}: {count:,}" for text, count in self.refused.items())
        return (
            f"{self.accepted:,} of {self.drawn:,} draws ({100 * self.share:.3g} %) satisfy the constraints; "
            f"refused by {told}"
        )


def judge(constraints: Sequence[Constraint], draws: Iterable[Mapping[str, Scalar]]) -> Feasibility:
    """Count which draws the constraints refuse.

    >>> from search_spaces.conditions.constraints import Constraint
    >>> judge([Constraint("a < b")], [{"a": 1, "b": 2}, {"a": 2, "b": 2}])
    Feasibility(drawn=2, accepted=1, refused=mappingproxy({'a < b': 1}))
    """
    refused = dict.fromkeys((constraint.text for constraint in constraints), 0)
    drawn = accepted = 0
    for draw in draws:
        broken = [constraint.text for constraint in constraints if not constraint.holds(draw)]
        for text in broken:
            refused[text] += 1
        drawn += 1
        accepted += not broken
    return Feasibility(drawn, accepted, MappingProxyType(refused))


def infeasible(found: Feasibility) -> InfeasibleError:
    """Return the error of a space in which no point was found.

    >>> print(infeasible(Feasibility(drawn=10_000, accepted=0, refused={"a > b": 10_000})))
    constraints: 0 of 10,000 draws (0 %) satisfy the constraints; refused by 'a > b': 10,000; loosen the one that \
refuses most, or narrow its parameters to where it holds
    """
    remedy = "loosen the one that refuses most, or narrow its parameters to where it holds"
    return InfeasibleError(Problem("constraints", f"{found}; {remedy}"))
