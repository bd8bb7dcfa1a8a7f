"""Feasibility: share of the draws that the constraints accept, and the error if almost none is accepted."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, final

from search_spaces.errors import InfeasibleError, Problem, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from search_spaces.conditions.constraints import Constraint
    from search_spaces.domains.values import Scalar


@final
@dataclass(frozen=True, slots=True)
class Feasibility:
    """Rejection statistics of draws without the constraints.

    Attributes:
        sampled: number of draws.
        accepted: number of them that satisfy every constraint.
        refused: for each constraint, by its text, the number of draws that break it; a draw may break several.

    >>> print(Feasibility(sampled=1000, accepted=250, refused={"a <= b": 500, "b <= c": 400}))
    250 of 1,000 draws (25 %) satisfy the constraints; refused by 'a <= b': 500, by 'b <= c': 400
    """

    sampled: int
    accepted: int
    refused: Mapping[str, int]

    @property
    def share(self) -> float:
        """Fraction of the draws that satisfy every constraint."""
        return self.accepted / self.sampled

    def __str__(self) -> str:
        if not self.refused:
            return "no constraint: every draw is a point"
        return f"{self._accepted()}; refused by {_listed(self.refused)}"

    def brief(self) -> str:
        """Return the statistics with the two constraints that refuse most, for a message."""
        worst = sorted(self.refused, key=self.refused.__getitem__, reverse=True)[:2]
        more = len(self.refused) - len(worst)
        refusals = _listed({text: count for text, count in self.refused.items() if text in worst})
        return f"{self._accepted()}; refused by {refusals}" + (f" and by {more} more" if more else "")

    def _accepted(self) -> str:
        return f"{self.accepted:,} of {self.sampled:,} draws ({100 * self.share:.3g} %) satisfy the constraints"


def _listed(refused: Mapping[str, int]) -> str:
    return ", by ".join(f"{quoted(text)}: {count:,}" for text, count in refused.items())


def counted(constraints: Sequence[Constraint], draws: Iterable[Mapping[str, Scalar]]) -> Feasibility:
    """Return how many of the draws each constraint refuses.

    >>> from search_spaces.conditions.constraints import Constraint
    >>> counted([Constraint("a < b")], [{"a": 1, "b": 2}, {"a": 2, "b": 2}])
    Feasibility(sampled=2, accepted=1, refused=mappingproxy({'a < b': 1}))
    """
    refused = dict.fromkeys((constraint.text for constraint in constraints), 0)
    sampled = accepted = 0
    for draw in draws:
        refusing = [constraint.text for constraint in constraints if not constraint.holds(draw)]
        for text in refusing:
            refused[text] += 1
        sampled += 1
        accepted += not refusing
    return Feasibility(sampled, accepted, MappingProxyType(refused))


def infeasible(statistics: Feasibility) -> InfeasibleError:
    """Return the error of a space whose constraints refused every draw.

    >>> print(infeasible(Feasibility(sampled=10_000, accepted=0, refused={"a > b": 10_000})))
    constraints: 0 of 10,000 draws (0 %) satisfy the constraints; refused by 'a > b': 10,000; loosen the one that \
refuses most, or narrow its parameters to where it holds
    """
    remedy = "loosen the one that refuses most, or narrow its parameters to where it holds"
    return InfeasibleError(Problem("constraints", f"{statistics.brief()}; {remedy}"))
