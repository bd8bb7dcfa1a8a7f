"""Description of a sweep's summary run in MLflow: its views, and how to compare its trials at one epoch.

Addresses in it are relative to MLflow's page, so that they hold at any server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from orchestrator.tracking.views import views

if TYPE_CHECKING:
    from orchestrator.planning.plan import SweepPlan

TAG = "mlflow.note.content"
OPENING = "Trials of this sweep end at different epochs."
"""Beginning of a description of ours; any other is a user's, and stays."""
FIGURES = "figures"
"""Folder of the summary run's artifacts that ``ravel plot --track`` writes to."""


def is_ours(note: str | None) -> bool:
    """Return True if a description is absent, or was written by this module.

    >>> is_ours(None), is_ours(OPENING + " More."), is_ours("My best sweep")
    (True, True, False)
    """
    return not note or note.startswith(OPENING)


def note_of(plan: SweepPlan, *, experiment: str, run: str) -> str:
    """Return the description in Markdown."""
    page, kind = f"#/experiments/{experiment}/runs", "workflowType=machine_learning"
    links = [
        f"[{view.title}]({page}?{kind}&compareRunsMode={view.mode}&viewStateShareKey={quote(view.key)})"
        for view in views(plan)
    ]
    figures = f"[Figures at one epoch]({page}/{run}/artifacts/{FIGURES}?{kind})"
    return "\n".join(
        [
            f"{OPENING} MLflow's tables and charts put the last value of each next to each other.",
            "",
            f"- {figures}: `ravel plot {plan.sweep} all --track` draws them, and puts them there.",
            f"- Trials at one epoch: `ravel compare {plan.sweep}`, and with `--rungs` at each rung.",
            f"- MLflow's own views (3.17), of last values: {', '.join(links)}.",
        ]
    )
