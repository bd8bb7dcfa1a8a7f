"""The way into MLflow's own pages: the addresses that compare a sweep, and the local server that shows them."""

from __future__ import annotations

import json
import os
import sys
import urllib.parse
from typing import TYPE_CHECKING

from orchestrator.tracking import without_password

if TYPE_CHECKING:
    from typing import NoReturn

    from orchestrator.cursor import Cursor

MAX_RUNS_IN_ADDRESS = 100  # a longer list makes an address that browsers cut


def server_address(uri: str) -> str:
    """A server's address as a browser is given it: without user and password, which belong into no printed link.

    >>> server_address("https://ada:p@ss@host:5000/mlflow/")
    'https://host:5000/mlflow'
    """
    parts = urllib.parse.urlsplit(without_password(uri))
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")


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


def serve(uri: str, *, port: int) -> NoReturn:
    """Become MLflow's server on loopback over a store: its signals, its exit code, no process of ours in between."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri,  # not an argument: it may hold a password, and anybody can read arguments
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes nobody here needs
    }
    sys.stdout.flush()  # what is still in our buffers ends with us
    sys.stderr.flush()
    os.execve(sys.executable, command, environment)  # noqa: S606  our own words, no shell
