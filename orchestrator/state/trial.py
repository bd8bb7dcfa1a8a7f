"""Trial of a sweep: what the events so far amount to for one trial."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from orchestrator.spec.objective import Objective
    from orchestrator.state.events import (
        AttemptFailed,
        Cause,
        CheckpointSaved,
        CheckpointsDropped,
        Descent,
        Origin,
        RungDecided,
        SeedsDropped,
        TrialEnded,
        TrialPromoted,
    )

Status: TypeAlias = Literal["waiting", "running", "paused", "completed", "stopped", "diverged", "failed", "interrupted"]
OVER: frozenset[str] = frozenset({"completed", "stopped", "diverged", "failed"})
ORDERED = "ordered by"
"""Beginning of the reason of a trial that a user stopped."""
CHECKPOINTS_KEPT = 2
"""Newest checkpoints of an attempt, of which Tune keeps so many; older ones are gone, and the log does not say so."""


@dataclass
class Trial:
    """State of one trial."""

    id: str
    origin: Origin
    point: dict[str, Any]
    config: dict[str, Any]
    descent: Descent | None = None
    """Trial and epoch from which it continues, of one that population based training made."""
    replaced_by: str | None = None
    """Trial that has taken its place in a population."""
    attempts: int = 0
    host: str | None = None
    """Machine of the current attempt; null between attempts, or where it is not known."""
    epochs: dict[int, dict[str, float | None]] = field(default_factory=dict)
    rungs: dict[int, RungDecided] = field(default_factory=dict)
    checkpoints: list[CheckpointSaved] = field(default_factory=list)
    dropped: list[CheckpointSaved] = field(default_factory=list)
    """Checkpoints that were dropped: their files are deleted, or about to be."""
    drop: CheckpointsDropped | None = None
    """Last event that dropped checkpoints of the trial."""
    failures: list[AttemptFailed] = field(default_factory=list)
    promotions: list[TrialPromoted] = field(default_factory=list)
    seeds_dropped: SeedsDropped | None = None
    """Racing's drop of the configuration whose first trial this is."""
    end: TrialEnded | None = None
    has_worker: bool = False
    ended_at: int = 0
    """Number of the event that ended the trial last."""
    is_reopened: bool = False
    """True from the order that reopens the trial to its next attempt."""
    forgiven: int = 0
    """Failures before the trial was reopened, which no longer count against its retries."""

    @property
    def status(self) -> Status:
        """Status after the last event."""
        if self.end is not None:
            return self.end.status
        if self.is_reopened:
            return "waiting"
        has_failed = bool(self.failures) and self.failures[-1].attempt == self.attempts
        return "running" if self.attempts and not has_failed else "waiting"

    @property
    def epoch(self) -> int:
        """Number of the last reported epoch, 0 before the first."""
        return max(self.epochs, default=0)

    @property
    def budget(self) -> int:
        """Number of epochs of a full run."""
        return int(self.config["epochs"])

    @property
    def promoted_from(self) -> tuple[int, ...]:
        """Rungs at which the trial was paused and then promoted."""
        return tuple(promotion.rung for promotion in self.promotions)

    @property
    def rejected_at(self) -> int | None:
        """Rung that stops or pauses the trial, even before the trial has left its worker."""
        rejections = (rung.rung for rung in self.rungs.values() if not rung.kept and not rung.audited)
        return next((rung for rung in rejections if rung not in self.promoted_from), None)

    @property
    def blind_from(self) -> int | None:
        """Rung that rejected the trial, if it is audited; above it, no trial is compared with this one."""
        from_decisions = (rung.rung for rung in self.rungs.values() if rung.audited)
        from_promotions = (promotion.rung for promotion in self.promotions if promotion.audited)
        return next(iter((*from_decisions, *from_promotions)), None)

    @property
    def has_final_checkpoint(self) -> bool:
        """True if a checkpoint of the last reported epoch is complete."""
        return any(checkpoint.epoch == self.epoch for checkpoint in self.checkpoints)

    @property
    def is_dropped(self) -> bool:
        """True if the checkpoints of the trial were dropped, and it has saved none since."""
        return self.drop is not None and not self.checkpoints

    @property
    def stored(self) -> list[CheckpointSaved]:
        """Checkpoints whose files are there, as far as the log shows: the newest of each attempt."""
        by_attempt: dict[PurePosixPath, list[CheckpointSaved]] = {}
        for saved in self.checkpoints:
            by_attempt.setdefault(PurePosixPath(saved.path).parent, []).append(saved)
        return [saved for attempt in by_attempt.values() for saved in attempt[-CHECKPOINTS_KEPT:]]

    def failures_of(self, cause: Cause) -> int:
        """Count the attempts that failed for a cause, since the trial was reopened if it was; no shared failures."""
        counted = (failure for failure in self.failures[self.forgiven :] if failure.shared_by is None)
        return sum(failure.cause == cause for failure in counted)

    @property
    def stopped_by_order(self) -> bool:
        """True if a user stopped the trial, and no rung did."""
        end = self.end
        return end is not None and end.status == "stopped" and (end.reason or "").startswith(ORDERED)

    @property
    def stopping_rung(self) -> int | None:
        """Rung at which the trial was stopped or is paused."""
        return self.end.rung if self.end is not None else None

    @property
    def is_out_of_race(self) -> bool:
        """True if it was stopped as its configuration gets no further seed: after any epoch, which need be no rung."""
        if self.end is None or self.end.rung is None or self.status != "stopped":
            return False
        decision = self.rungs.get(self.end.rung)
        is_of_configuration = self.end.rung == self.budget and self.end.reason is not None  # its seeds as one trial
        return is_of_configuration or (decision is not None and decision.outcome == "out")

    def values(self, metric: str) -> dict[int, float]:
        """Return the finite values of a metric by epoch, in order."""
        values = {epoch: metrics.get(metric) for epoch, metrics in sorted(self.epochs.items())}
        return {epoch: value for epoch, value in values.items() if value is not None and math.isfinite(value)}

    def score(self, objective: Objective) -> float | None:
        """Return the objective at the last epoch that measured it, which is that of the last checkpoint's model.

        The best epoch is not used: the maximum of a noisy validation curve favours noisy trials.
        """
        return self.last(objective.metric)

    def last(self, metric: str) -> float | None:
        """Return the last finite value of a metric, None if there is none."""
        return next(reversed(self.values(metric).values()), None)
