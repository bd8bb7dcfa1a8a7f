"""ASHA as a rule, of both kinds, with brackets and strata; and the rule that stops nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.scheduling.asha import decide, promotable
from orchestrator.scheduling.protocol import Verdict
from orchestrator.state.ranking import order

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from orchestrator.scheduling.protocol import Board


@dataclass(frozen=True)
class Everyone:
    """Nobody is stopped."""

    pauses: bool = False
    rungs: tuple[int, ...] | None = ()

    def judge(self, board: Board, trial: str, level: int) -> Verdict | None:  # noqa: ARG002  the protocol's
        """Nothing to decide."""
        return None

    def resume(self, board: Board, *, unstarted: int) -> str | None:  # noqa: ARG002
        """Nobody waits."""
        return None


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving: ``brackets`` holds the rungs of each, ``pauses`` chooses promotion.

    An exempt trial is compared like any other, and goes on whatever its place.
    """

    brackets: tuple[tuple[int, ...], ...]
    reduction_factor: float
    pauses: bool = False

    @property
    def rungs(self) -> tuple[int, ...]:
        """Those of all brackets."""
        return tuple(sorted({rung for bracket in self.brackets for rung in bracket}))

    def judge(self, board: Board, trial: str, level: int) -> Verdict | None:
        """At a rung of its bracket: among the best 1/eta of those who came so far, or not."""
        standing = board.standings[trial]
        if level not in self.brackets[standing.bracket]:
            return None
        values = board.at(level, standing.group)
        decision = decide(values, trial, reduction_factor=self.reduction_factor, at_least=0 if self.pauses else 1)
        cutoff = None if decision.rival is None else values[decision.rival]
        return Verdict(level, decision.kept or standing.exempt, cutoff, decision.competitors)

    def resume(self, board: Board, *, unstarted: int) -> str | None:
        """Of the highest rung, the best that waits among the best 1/eta.

        When nothing else is left to do, the first at a rung with fewer than eta trials goes on as well, and if all who
        went on were lost before their end, the best that still waits.
        """
        found = best_waiting(board, self.rungs, self.reduction_factor)
        if found is not None or unstarted or not board.is_quiet():
            return found
        found = best_waiting(board, self.rungs, self.reduction_factor, at_least=1)
        return found if found is not None or board.somebody_completed() else first_waiting(board, self.rungs)


def best_waiting(board: Board, rungs: Sequence[int], reduction_factor: float, *, at_least: int = 0) -> str | None:
    """The best promotable trial of the highest of these rungs that has one."""
    for rung in reversed(rungs):
        for group, waiting in waiting_at(board, rung).items():
            values = board.at(rung, group)
            found = promotable(values, waiting, reduction_factor=reduction_factor, at_least=at_least)
            if found is not None:
                return found
    return None


def first_waiting(board: Board, rungs: Sequence[int]) -> str | None:
    """The best trial that waits at the highest of these rungs where one does, promotable or not."""
    for rung in reversed(rungs):
        for group, waiting in waiting_at(board, rung).items():
            return next(trial for trial in order(board.at(rung, group)) if trial in waiting)
    return None


def waiting_at(board: Board, rung: int) -> dict[Hashable, set[str]]:
    """Who waits at a rung, by group, in the order the groups came up."""
    groups: dict[Hashable, set[str]] = {}
    for each in board.paused():
        if each.level == rung:
            groups.setdefault(each.group, set()).add(each.trial)
    return groups
