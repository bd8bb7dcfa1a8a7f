"""Report of a sweep as one HTML page, and of two sweeps side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.analysis.comparison.comparison import compare
from orchestrator.analysis.comparison.epochs import epoch_of_best
from orchestrator.analysis.report.charts.figures import figures
from orchestrator.analysis.report.claim_section import claim_section
from orchestrator.analysis.report.document import Section, document
from orchestrator.analysis.report.overview import overview
from orchestrator.analysis.report.reproduction import reproduction
from orchestrator.analysis.report.side_by_side import side_by_side
from orchestrator.analysis.report.trial_tables import trial_tables
from orchestrator.errors import OrchestratorError
from orchestrator.storage.atomic_files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.result import SweepResult


def report(result: SweepResult) -> str:
    """Return the report of a sweep: a function of its plan, its log, and the claims of its confirmations.

    Raises:
        StorageError: S3 does not answer.
    """
    best, compared = _at_best(result), _at_most_trials(result)
    sections = [
        Section("what-ran", "What ran", overview(result)),
        Section("claim", "What can be claimed", claim_section(result, best)),
        Section("figures", "Figures", figures(result, compared)),
        Section("trials", "Trials", trial_tables(result)),
        Section("reproduce", "To reproduce it", reproduction(result, best)),
    ]
    kind = "Confirmation" if result.plan.confirmation is not None else "Sweep"
    return document(f"{kind} {result.plan.spec.name}", result.sweep, sections)


def report_against(result: SweepResult, other: SweepResult) -> str:
    """Return a page with two sweeps side by side.

    Raises:
        StorageError: S3 does not answer.
    """
    title = f"{result.plan.spec.name} and {other.plan.spec.name}"
    return document(title, f"{result.sweep} against {other.sweep}", side_by_side(result, other))


def write_report(result: SweepResult, path: Path, *, against: SweepResult | None = None) -> None:
    """Write the report of a sweep, or of two, atomically.

    Raises:
        OSError: the file cannot be written.
        StorageError: S3 does not answer.
    """
    write_atomically(path, report(result) if against is None else report_against(result, against))


def _at_best(result: SweepResult) -> Comparison | None:
    """Return the comparison at the epoch of the best trial, None before any trial has measured the objective."""
    try:
        return compare(result.plan, result.state, epoch=epoch_of_best(result.plan, result.state))
    except OrchestratorError:
        return None


def _at_most_trials(result: SweepResult) -> Comparison | None:
    """Return the comparison of figures, at the highest epoch that enough trials measured."""
    try:
        return compare(result.plan, result.state)
    except OrchestratorError:
        return None
