"""MLflow's own server over a store, for the pages of one person on one machine."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn


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
