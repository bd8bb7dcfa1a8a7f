"""Kinds of events of a sweep: frozen values with the number of their format, `v`."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

TrialStatus: TypeAlias = Literal["completed", "stopped", "paused", "diverged", "failed", "interrupted"]
Cause: TypeAlias = Literal["infrastructure", "preemption", "user"]
Origin: TypeAlias = Literal["baseline", "point", "search", "pbt"]
Action: TypeAlias = Literal["stop", "extend"]
SeedOutcome: TypeAlias = Literal["waits", "mean", "out"]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[4] = 4
    time: float
    """Seconds since the Unix epoch, UTC. MLflow gets this time, so that sending a point twice changes nothing."""


class SweepStarted(_Event):
    """A driver locked the sweep; ``generation``, its fencing token, counts drivers from 1."""

    kind: Literal["sweep_started"] = "sweep_started"
    generation: int
    host: str
    pid: int


class Descent(BaseModel):
    """Lineage of a trial that continues the training of another one, its ``parent``, from an epoch of it.

    It takes the place of the trial that it ``replaces`` in a population. ``changes`` says by parameter how its value
    was made from the parent's: ``x 0.8``, ``neighbour`` or ``resampled``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parent: str
    epoch: int
    replaces: str
    changes: dict[str, str] = {}


class TrialCreated(_Event):
    """A point was proposed; ``config`` is the whole flat trial, ``point`` the searched part of it.

    A trial of origin ``pbt`` has a ``descent``: it is not trained from the beginning.
    """

    kind: Literal["trial_created"] = "trial_created"
    trial: str
    origin: Origin
    point: dict[str, Any]
    config: dict[str, Any]
    descent: Descent | None = None


class AttemptStarted(_Event):
    """An actor runs the trial; attempts count from 1, and a retried or resumed trial has several.

    ``host`` is the machine it runs on, null where that is not known. ``batched`` is the number of trials that its
    worker trains as one program at most, null for a trial by itself.
    """

    kind: Literal["attempt_started"] = "attempt_started"
    trial: str
    attempt: int
    host: str | None = None
    batched: int | None = None


class AttemptFailed(_Event):
    """An attempt failed, and the trial will be retried from its last checkpoint.

    ``shared_by`` is the number of trials that were in the worker, if any of them may be at fault and they go on with
    fewer of them together: such a failure is not counted against the trial. It is null for a trial by itself.
    """

    kind: Literal["attempt_failed"] = "attempt_failed"
    trial: str
    attempt: int
    cause: Cause
    reason: str
    traceback: str | None = None
    shared_by: int | None = None


class EpochReported(_Event):
    """One epoch was trained and measured; a non-finite metric is null.

    ``since_restore`` counts the epochs that this attempt has trained, this one included: the cost of a retry. ``data``
    is the digest of the data set, reported with the first epoch of an attempt.
    """

    kind: Literal["epoch_reported"] = "epoch_reported"
    trial: str
    attempt: int
    epoch: int
    since_restore: int
    metrics: dict[str, float | None]
    host: str | None = None
    pid: int | None = None
    data: str | None = None


class RungDecided(_Event):
    """The scheduler evaluated a trial at a rung: it continues (``kept``), or it stops or is paused.

    ``cutoff`` is the value to reach among ``competitors`` trials (this one included); both values are of the first
    objective. ``rungs`` are the current ones, if the scheduler moves them. A rejected trial that is ``audited`` runs
    to its end all the same, to measure if the rejection was right.

    In a sweep with several seeds ``outcome`` says what was decided: the seed ``waits`` for more, its configuration
    was compared by the ``mean`` of its seeds (and is kept or not), or it is ``out``: nothing that the seed measures
    matters any more. ``mean`` is that of the objective over the seeds that the rung needs, ``reason`` is in words.
    """

    kind: Literal["rung_decided"] = "rung_decided"
    trial: str
    rung: int
    value: float | None
    cutoff: float | None
    competitors: int
    kept: bool
    rungs: tuple[int, ...] = ()
    audited: bool = False
    outcome: SeedOutcome | None = None
    mean: float | None = None
    reason: str | None = None


class TrialPromoted(_Event):
    """A paused trial resumes from its rung; ``audited`` if it runs only to measure if its rejection was right."""

    kind: Literal["trial_promoted"] = "trial_promoted"
    trial: str
    rung: int
    audited: bool = False


class CheckpointSaved(_Event):
    """A checkpoint folder is complete; ``path`` is relative to the sweep's folder if it is inside.

    ``size_bytes`` is that of its files, null in older logs.
    """

    kind: Literal["checkpoint_saved"] = "checkpoint_saved"
    trial: str
    epoch: int
    path: str
    size_bytes: int | None = None


class TrialEnded(_Event):
    """A trial left its worker: it is over, or ``paused`` at a rung, or ``interrupted`` until the sweep is resumed.

    ``cause`` is whose fault a failed trial is, null in older logs.
    """

    kind: Literal["trial_ended"] = "trial_ended"
    trial: str
    status: TrialStatus
    rung: int | None = None
    reason: str | None = None
    traceback: str | None = None
    cause: Cause | None = None


class SweepEnded(_Event):
    """The driver left the sweep."""

    kind: Literal["sweep_ended"] = "sweep_ended"
    status: Literal["completed", "interrupted", "failed"]
    reason: str | None = None


class _OrderEvent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[5] = 5
    time: float


class OrderAccepted(_OrderEvent):
    """An order of a user was accepted; what it requires follows from this event and the state.

    ``trials`` are those to stop (none: the whole sweep), or those to reopen, in this order. Of an extension,
    ``settings`` are new values of the spec, ``plan`` those of the plan that follow from them, and ``config`` new values
    in the configurations of trials that are not over. ``notes`` say for people what changed.
    """

    kind: Literal["order_accepted"] = "order_accepted"
    order: str
    action: Action
    author: str
    trials: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    plan: dict[str, Any] = {}
    config: dict[str, Any] = {}
    notes: tuple[str, ...] = ()


class OrderRefused(_OrderEvent):
    """An order was refused, and changed nothing; ``reasons`` lists every problem, ``action`` is null if unknown."""

    kind: Literal["order_refused"] = "order_refused"
    order: str
    action: Action | None
    author: str
    reasons: tuple[str, ...]


class TrialReopened(_OrderEvent):
    """A trial that was over continues by order: from its last checkpoint, or paused at ``rung`` once more."""

    kind: Literal["trial_reopened"] = "trial_reopened"
    order: str
    trial: str
    rung: int | None = None


class CheckpointsDropped(BaseModel):
    """The checkpoints of a trial that is over are no part of the sweep any more; after this line they are deleted.

    ``keep_best`` is the number of trials that keep theirs, by which this one was chosen. ``author`` is the user who
    dropped them by hand, null where the sweep's own ``storage.keep_best`` did.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[6] = 6
    kind: Literal["checkpoints_dropped"] = "checkpoints_dropped"
    time: float
    trial: str
    keep_best: int = Field(ge=1)
    author: str | None = None


class SeedsDropped(BaseModel):
    """Racing dropped seeds of a configuration: they are not started, and not promoted, on the way to a rung or the end.

    ``trial`` is the configuration, whose first trial has the same id; ``rung`` the level, ``seeds`` the numbers of the
    seeds that had not measured it, ``reason`` the rule in words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[7] = 7
    kind: Literal["seeds_dropped"] = "seeds_dropped"
    time: float
    trial: str
    rung: int
    seeds: tuple[int, ...]
    reason: str


Event: TypeAlias = (
    SweepStarted
    | TrialCreated
    | AttemptStarted
    | AttemptFailed
    | EpochReported
    | RungDecided
    | TrialPromoted
    | CheckpointSaved
    | TrialEnded
    | SweepEnded
    | OrderAccepted
    | OrderRefused
    | TrialReopened
    | CheckpointsDropped
    | SeedsDropped
)
OfSweep: TypeAlias = SweepStarted | SweepEnded | OrderAccepted | OrderRefused
"""Events that concern no single trial."""
