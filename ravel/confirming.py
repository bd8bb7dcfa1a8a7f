"""Confirmation of a sweep from Python, by the functions of ``ravel confirm``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator import changing

if TYPE_CHECKING:
    from orchestrator.analysis.claims.claim import Claim
    from orchestrator.execution.progress import ProgressCallback
    from orchestrator.planning.changes.fork import Fork
    from orchestrator.state.sweep_folder import SweepFolder
    from trainables.evaluation.core.report import Report


def claim_of(
    confirmation: Fork | SweepFolder, *, address: str | None, callback: ProgressCallback | None, track: bool
) -> Claim:
    """Run what is left of a confirmation, evaluate its models once, and return the claim.

    Raises:
        OrchestratorError: as ``ravel.launch``; or a trial is not over, or the control has no value of a seed.
    """
    from orchestrator.analysis.evaluation.confirmation import evaluated  # noqa: PLC0415  imports torch when it evaluates
    from orchestrator.analysis.report.attaching import keep_claim  # noqa: PLC0415
    from orchestrator.cli.shared.evaluation_options import send_report  # noqa: PLC0415
    from trainables.evaluation.core.results import no_progress  # noqa: PLC0415  imports torch

    result = changing.run_confirmation(confirmation, address=address, callback=callback)

    def send(report: Report, epoch: int, trial: str) -> None:
        if track:
            send_report(result.plan, report, epoch=epoch, trial=trial)

    claimed = evaluated(result, progress=no_progress, track=send)
    keep_claim(result, claimed, track=track)
    return claimed
