"""The way into MLflow's own pages: the addresses that compare a sweep."""

from __future__ import annotations

import json
import urllib.parse
from typing import TYPE_CHECKING

from orchestrator.tracking.addresses import server_address

if TYPE_CHECKING:
    from orchestrator.tracking.cursor import Cursor

MAX_RUNS_IN_ADDRESS = 100  # a longer list makes an address that browsers cut


def runs_page(base: str, cursor: Cursor, sweep: str) -> str:
    """MLflow's table and charts of one sweep's trials."""
    search = urllib.parse.quote(f"tags.`ravel.sweep` = '{sweep}' and tags.`ravel.kind` = 'trial'")
    return (
        f"{server_address(base)}/#/experiments/{cursor.experiment}/runs?workflowType=machine_learning"
        f"&compareRunsMode=CHART&searchFilter={search}"
    )


def compare_page(base: str, cursor: Cursor) -> str:
    """MLflow's compare page (parallel coordinates, scatter, box, contour) over a sweep's trials.

    Example:
        >>> from orchestrator.tracking import Cursor
        >>> compare_page("http://127.0.0.1:5000", Cursor(experiment="1", runs={"t000": "ab"}))
        'http://127.0.0.1:5000/#/compare-runs?runs=%5B%22ab%22%5D&experiments=%5B%221%22%5D&workflowType=machine_learning'
    """
    runs = urllib.parse.quote(json.dumps(list(cursor.runs.values())[:MAX_RUNS_IN_ADDRESS]))
    experiments = urllib.parse.quote(json.dumps([cursor.experiment]))
    return f"{server_address(base)}/#/compare-runs?runs={runs}&experiments={experiments}&workflowType=machine_learning"
