"""The way into MLflow's own pages: the addresses that compare a sweep, and the local server that shows them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.parse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.tracking import Cursor

MAX_RUNS_IN_ADDRESS = 100  # a longer list makes an address that browsers cut


def runs_page(base: str, cursor: Cursor, sweep: str) -> str:
    """MLflow's table and charts of one sweep's trials."""
    search = urllib.parse.quote(f"tags.`ravel.sweep` = '{sweep}' and tags.`ravel.kind` = 'trial'")
    return (
        f"{base}/#/experiments/{cursor.experiment}/runs?workflowType=machine_learning"
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
    return f"{base}/#/compare-runs?runs={runs}&experiments={experiments}&workflowType=machine_learning"


def serve(uri: str, *, port: int) -> int:
    """Run MLflow's server on loopback over a store until it is interrupted; its exit code."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri,  # not an argument: it may hold a password, and anybody can read arguments
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes nobody here needs
    }
    try:
        return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603  our own words, no shell
    except KeyboardInterrupt:
        return 0
