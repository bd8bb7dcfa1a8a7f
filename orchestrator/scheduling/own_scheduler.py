"""A user's own scheduler: rebuilt for each question, so that it remembers nothing; each answer is checked.

A scheduler decides from trial views alone, so a live sweep, a resumed one, a replay and the simulator ask the same
questions and get the same answers. What an object keeps from one question to the next could not be in the log.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

from orchestrator.errors import quoted
from orchestrator.scheduling.rung_decision import RungDecision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.scheduling.trial_views import TrialView, TrialViews
    from orchestrator.spec.own_code import OwnCode

MEMBERS = ("decide", "promote", "pauses", "rungs")


def promotes(code: OwnCode, *, kind: str, few_slots: bool) -> bool:
    """Return True if a user's scheduler is to pause the trials that it rejects, as ``kind`` says.

    One that takes no ``pauses`` can only stop.

    Raises:
        SpecError: ``kind`` asks for promotion, and the scheduler takes no ``pauses``.
    """
    if not code.takes("pauses"):
        if kind == "promotion":
            raise code.wrong(f"must take the argument `pauses` for scheduler.kind: promotion; {code.name} does not")
        return False
    return few_slots if kind == "auto" else kind == "promotion"


def own_scheduler(code: OwnCode, provided: Mapping[str, Any]) -> OwnScheduler:
    """Return a user's scheduler; ``provided`` are the arguments that Ravel passes if the signature has them.

    Raises:
        SpecError: it cannot be imported, takes no such arguments, or does not have the protocol of a scheduler.
        OwnCodeFailed: it raises when it is made.
    """
    make, pauses = code.make(provided), bool(provided["pauses"])
    with code.running("when it was made"):
        scheduler = make()
        missing = [name for name in MEMBERS if not hasattr(scheduler, name)]
    if missing:
        raise code.wrong(f"must make a scheduler with {', '.join(MEMBERS)}; {code.name} has no {', '.join(missing)}")
    if scheduler.pauses is not pauses:
        remedy = "take `pauses` as an argument and return it" if code.takes("pauses") else "it must be False without it"
        raise code.wrong(f"must have pauses {pauses}, got {quoted(scheduler.pauses)}; {remedy}")
    rungs = scheduler.rungs
    if rungs is not None and not _ascending(rungs):
        raise code.wrong(f"must have rungs None or a tuple of ascending whole numbers >= 1, got {quoted(rungs)}")
    return OwnScheduler(code, make, pauses, None if rungs is None else tuple(rungs))


def _ascending(rungs: object) -> bool:
    return (
        isinstance(rungs, tuple)
        and all(type(rung) is int and rung >= 1 for rung in rungs)
        and list(rungs) == sorted(set(rungs))
    )


@final
@dataclass(frozen=True)
class OwnScheduler:
    """Scheduler that asks a user's; an exempt trial, such as the baseline, is kept whatever it answers."""

    code: OwnCode
    make: Callable[[], Any]
    pauses: bool
    rungs: tuple[int, ...] | None

    def decide(self, views: TrialViews, trial: str, level: int) -> RungDecision | None:
        """Have it decide about a trial at a level, if that is one of its rungs.

        Raises:
            OwnCodeFailed: it raises, or its answer is no decision about this trial at this level.
        """
        if self.rungs is not None and level not in self.rungs:
            return None
        with self.code.running(f"to decide about trial {trial} at level {level}"):
            decision = self.make().decide(views, trial, level)
        if decision is None:
            return None
        problem = _problem(decision, level)
        if problem is not None:
            raise self.code.broken(f"answered about trial {trial} at level {level} with no decision: {problem}")
        return replace(decision, kept=True) if views[trial].exempt else decision  # type: ignore[no-any-return]

    def promote(self, views: TrialViews, *, unstarted: int) -> str | None:
        """Have it choose a paused trial.

        Raises:
            OwnCodeFailed: it raises, or chooses a trial that is not paused.
        """
        with self.code.running(f"to promote one of {len(views)} trials"):
            trial = self.make().promote(views, unstarted=unstarted)
        if trial is None:
            return None
        view: TrialView | None = views.get(trial) if isinstance(trial, str) else None
        if view is None or view.state != "paused":
            state = "which is no trial of the sweep" if view is None else f"which is {view.state}"
            raise self.code.broken(f"promoted {quoted(trial)}, {state}: must be the id of a paused trial, or None")
        return view.trial

    def __getstate__(self) -> dict[str, object]:
        """Return nothing: Tune pickles what holds this into a file that is never read; a plan makes it again."""
        return {}


def _problem(decision: Any, level: int) -> str | None:
    """Return what is wrong with an answer that is to be a decision at a level."""
    if not _is_decision(decision):
        return f"must return a RungDecision or None, got {quoted(decision)}"
    if decision.rung != level:
        return f"rung must be the level, got {quoted(decision.rung)}"
    if type(decision.kept) is not bool:
        return f"kept must be True or False, got {quoted(decision.kept)}"
    if type(decision.competitors) is not int or decision.competitors < 1:
        return f"competitors must be a whole number >= 1, got {quoted(decision.competitors)}"
    if not isinstance(decision.rungs, tuple) or not all(type(rung) is int for rung in decision.rungs):
        return f"rungs must be a tuple of whole numbers, got {quoted(decision.rungs)}"
    cutoff = decision.cutoff
    if cutoff is not None and not (isinstance(cutoff, tuple) and cutoff and all(map(_is_number, cutoff))):
        return f"cutoff must be None or the values that another trial measured, got {quoted(cutoff)}"
    return None


def _is_decision(answer: object) -> bool:
    return isinstance(answer, RungDecision)


def _is_number(value: object) -> bool:
    return type(value) in {int, float} and math.isfinite(value)  # type: ignore[arg-type]
