"""Report of a sweep as an artifact of its summary run, which MLflow shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.redaction import without_password
from orchestrator.state.log_segments import end_of
from orchestrator.tracking.cursor import Cursor
from orchestrator.tracking.store.mlflow_errors import store_errors
from orchestrator.tracking.store.store import open_store, tracking_uri

if TYPE_CHECKING:
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_folder import SweepFolder

FILE = "report.html"


def summary_run(plan: SweepPlan, folder: SweepFolder) -> str | None:
    """Return the id of the summary run if this machine has sent the whole log to MLflow, which answered then."""
    cursor = Cursor.resume(folder, without_password(tracking_uri(plan)))
    return cursor.sweep_run if cursor.offset >= end_of(folder.events) else None


def log_page(plan: SweepPlan, run: str, page: str) -> None:
    """Send a page to a run; a second page replaces the first.

    Raises:
        OrchestratorError: MLflow refused, or did not answer.
    """
    uri = tracking_uri(plan)
    with store_errors(uri, f"the report is missing; ravel sync {plan.sweep} sends it later"):
        open_store(uri).log_text(run, page, FILE)
