"""Attach the report of a sweep to its summary run in MLflow; it can be late or missing, and never fails a sweep."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from orchestrator.analysis.evaluation.claim_file import save_claim
from orchestrator.analysis.report.report import report
from orchestrator.analysis.result import SweepResult
from orchestrator.errors import OrchestratorError, StorageError
from orchestrator.planning.changes.original import require_original
from orchestrator.planning.plan import SweepPlan
from orchestrator.redaction import one_line
from orchestrator.state.sweep_folder import reference
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.tracking.report_page import log_page, summary_run

if TYPE_CHECKING:
    from orchestrator.analysis.claims.claim import Claim

logger = logging.getLogger(__name__)
TIMEOUT_S = 20.0


def attach(result: SweepResult, *, timeout_s: float = TIMEOUT_S) -> bool:
    """Write the report and send it, within a timeout; return False, after a warning, if it was not sent.

    Nothing is sent, and nothing is warned of, while MLflow lacks events of the sweep: ``ravel sync`` sends both.
    Ctrl-C ends the wait.
    """
    outcome: list[str | None] = []

    def send() -> None:
        try:
            run = summary_run(result.plan, result.folder)
            if run is not None:
                log_page(result.plan, run, report(result))
            outcome.append("" if run else None)
        except Exception as error:  # noqa: BLE001  a page is a convenience: no error of it may end a sweep
            outcome.append(one_line(error) or type(error).__name__)

    thread = threading.Thread(target=send, name="ravel-report", daemon=True)
    thread.start()
    try:
        thread.join(timeout_s)
    except KeyboardInterrupt:
        return False
    reason = outcome[0] if outcome else f"it took more than {timeout_s:g} s"
    if reason:
        command = f"ravel report {reference(result.folder)}"
        logger.warning("MLflow is without the report (%s); to write it: %s", reason, command)
    return reason is not None and not reason


def keep_claim(result: SweepResult, claimed: Claim, *, track: bool) -> None:
    """Write the claim next to the log; with `track`, bring both reports in MLflow up to date: its own, the search's."""
    try:
        save_claim(result.folder, claimed)
    except (OSError, StorageError) as error:
        logger.warning("the claim is not kept for ravel report: %s", one_line(error))
    if not track:
        return
    with suppress(OrchestratorError):  # a copy shares the runs of its original, and must not change them
        require_original(result.plan, result.folder)
        attach(result)
    parent = result.plan.parent
    with suppress(OrchestratorError):  # the search may be elsewhere, or gone
        search = find_sweep(result.folder.uri.rpartition("/")[0], None if parent is None else parent.sweep)
        require_original(SweepPlan.load(search), search)
        attach(SweepResult.read(search))
