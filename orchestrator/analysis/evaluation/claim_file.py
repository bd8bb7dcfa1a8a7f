"""Claim of a confirmation as a file next to its log, for readers that have neither its models nor its test images.

The claim is measured after the last event, so the log does not have it. The file is a copy of what ``ravel confirm``
printed: it can be measured once more.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.claims.claim import Claim, Row
from orchestrator.analysis.claims.claim_output import plain_claim
from orchestrator.analysis.claims.comparisons import PairedDifference
from orchestrator.analysis.claims.intervals import Interval
from orchestrator.analysis.evaluation.confirmation import trials_by_configuration
from orchestrator.analysis.result import SweepResult
from orchestrator.errors import ObjectMissing, OrchestratorError
from orchestrator.planning.plan import SweepPlan
from orchestrator.state.sweep_folder import named
from orchestrator.state.sweep_lookup import list_sweeps
from orchestrator.storage.atomic_files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.planning.plan import Confirmation
    from orchestrator.state.sweep_folder import SweepFolder

FORMAT = 1


def save_claim(folder: SweepFolder, claimed: Claim) -> None:
    """Write the claim of a confirmation into its folder, and into S3 if it is kept there.

    Raises:
        OSError: the folder cannot be written.
        StorageError: S3 refused or could not be reached.
    """
    text = json.dumps({"format": FORMAT, "sweep": folder.sweep, **plain_claim(claimed)}, indent=1) + "\n"
    write_atomically(folder.claim, text)
    if folder.remote is not None:
        folder.remote.write(folder.claim.name, text.encode())


def load_claim(result: SweepResult) -> Claim:
    """Return the claim of a confirmation as it was measured.

    Raises:
        OrchestratorError: it was not measured yet, or not with all seeds that ended since; or its file is damaged. The
            message names the command that measures it.
        StorageError: S3 does not answer.
    """
    remedy = f"run ravel confirm {named(result.folder)}"
    try:
        claimed = _claim_of(json.loads(_read(result.folder)))
    except FileNotFoundError:
        reason = "its claim must be measured on the test split first"
        raise OrchestratorError(f"{result.sweep}: {reason}; {remedy}") from None
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        reason = f"{result.folder.claim.name} must be a claim of format {FORMAT}, and is damaged or of another version"
        raise OrchestratorError(f"{result.sweep}: {reason}; {remedy}") from None
    confirmed = result.plan.confirmation
    if confirmed is not None and _measured(claimed) != _ended(confirmed, result):
        reason = "its claim must be of all trials that ended, and more have ended since it was measured"
        raise OrchestratorError(f"{result.sweep}: {reason}; {remedy}")
    return claimed


def confirmations_of(result: SweepResult) -> list[SweepResult]:
    """Return the confirmations of a sweep in its storage, the oldest first; those that cannot be read are left out.

    Raises:
        StorageError: S3 does not answer.
    """
    folder = result.folder
    storage = folder.path.parent if folder.remote is None else folder.uri.rpartition("/")[0]
    others = (other for other in list_sweeps(storage) if other.sweep != folder.sweep)
    return [SweepResult.read(other) for other in others if _confirms(other, result)]


def _confirms(folder: SweepFolder, result: SweepResult) -> bool:
    try:
        if b'"confirmation"' not in folder.plan.read_bytes():  # a whole plan takes a hundred times as long
            return False
        parent = SweepPlan.load(folder).parent
    except (OSError, OrchestratorError):
        return False
    is_of = parent is not None and parent.confirmation is not None and parent.sweep == result.sweep
    return is_of and parent is not None and parent.fingerprint == result.plan.fingerprint


def _read(folder: SweepFolder) -> bytes:
    if folder.remote is not None and not folder.claim.exists():
        try:
            return folder.remote.read(folder.claim.name)
        except ObjectMissing:
            raise FileNotFoundError from None
    return folder.claim.read_bytes()


def _measured(claimed: Claim) -> dict[str, set[int]]:
    """Return the seeds with a value of each configuration; of one that is incomplete, those that are not missing."""
    complete = {row.name: set(row.values) for row in claimed.rows}
    return {**complete, **{name: set(claimed.seeds) - set(missing) for name, missing in claimed.incomplete.items()}}


def _ended(confirmed: Confirmation, result: SweepResult) -> dict[str, set[int]]:
    return {
        name: {seed for seed, trial in own.items() if trial.status == "completed"}
        for name, own in trials_by_configuration(confirmed, result).items()
    }


def _claim_of(document: Mapping[str, Any]) -> Claim:
    if document["format"] != FORMAT:
        raise ValueError(document["format"])
    return Claim(
        metric=str(document["metric"]),
        mode=str(document["mode"]),
        seeds=tuple(map(int, document["seeds"])),
        rows=tuple(map(_row_of, document["rows"])),
        incomplete={name: tuple(map(int, seeds)) for name, seeds in document["incomplete"].items()},
    )


def _row_of(row: Mapping[str, Any]) -> Row:
    images, gain = row["images"], row["gain"]
    return Row(
        name=str(row["name"]),
        values={int(seed): float(value) for seed, value in row["values"].items()},
        mean=float(row["mean"]),
        interval=_interval_of(row["interval"]),
        bootstrap=_interval_of(row["bootstrap"]),
        images=None if images is None else _interval_of(images),
        gain=None if gain is None else _difference_of(gain),
        p_corrected=_optional(row["p_corrected"]),
        is_claimed=bool(row["is_claimed"]),
        may_be_best=bool(row["may_be_best"]),
        searched=_optional(row["searched"]),
    )


def _difference_of(gain: Mapping[str, Any]) -> PairedDifference:
    return PairedDifference(
        num_pairs=int(gain["num_pairs"]),
        mean=float(gain["mean"]),
        interval=_interval_of(gain["interval"]),
        bootstrap=_interval_of(gain["bootstrap"]),
        d_z=_optional(gain["d_z"]),
        p=float(gain["p"]),
    )


def _interval_of(ends: tuple[float, float]) -> Interval:
    low, high = ends
    return Interval(float(low), float(high))


def _optional(value: float | None) -> float | None:
    return None if value is None else float(value)
