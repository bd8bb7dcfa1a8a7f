"""MLflow's own server over a store: for one person on one machine, or for a team, with a login.

The address of a store, a password or a key is never an argument, because every user can read the arguments of a
process. They are in the environment, or in files that only their owner can read.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from orchestrator.mlflow_server.host_check import allowed_names, allowed_origins
from orchestrator.mlflow_server.team import ADMIN, STORE, kept_secret
from orchestrator.tracking.store.sqlite import count_rows, store_file, use_wal
from orchestrator.tracking.store.store import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from orchestrator.mlflow_server.team import TeamServer

LIGHT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes and 1.8 GB that no sweep needs
}


def serve(uri: str, *, port: int) -> NoReturn:
    """Become MLflow's server, as it is, on loopback: its signals, its exit code, no process of ours in between."""
    if store_file(uri) is not None:
        open_store(uri)  # creates it whole
    use_wal(uri)  # so that pages can be read while a sweep writes
    count_rows(uri)
    allowed = ",".join(allowed_names(()))
    _become(
        ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        {"MLFLOW_SERVER_ALLOWED_HOSTS": allowed, **os.environ, **LIGHT, STORE: uri},
    )


def serve_team(server: TeamServer) -> NoReturn:
    """Become MLflow's server for a team: basic auth, no job runners, one fast process for each worker.

    Call ``team.prepare`` first.
    """
    _become(team_arguments(server), team_environment(server, os.environ))


def team_arguments(server: TeamServer) -> list[str]:
    """Return MLflow's arguments, which hold no secret."""
    return [
        *("--host", server.host, "--port", str(server.port), "--workers", str(server.workers)),
        *("--app-name", "basic-auth", "--artifacts-destination", server.artifacts),
        # if several workers share a socket, asyncio leaves Nagle's algorithm on: 44 ms for every request
        *("--uvicorn-opts", "--loop uvloop"),
    ]


def team_environment(server: TeamServer, environ: Mapping[str, str]) -> dict[str, str]:
    """Return MLflow's environment, which only its owner can read."""
    import sqlalchemy  # noqa: PLC0415  comes with MLflow

    password = sqlalchemy.make_url(server.store).password
    return {
        **environ,
        **LIGHT,
        STORE: server.store,
        **(
            {"PGPASSWORD": str(password)} if password else {}
        ),  # for the users' tables: the file with their address has no password
        "MLFLOW_AUTH_CONFIG_PATH": str(server.auth_config),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
        "MLFLOW_AUTH_ADMIN_PASSWORD": kept_secret(server.password_file),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": kept_secret(server.session_key_file),
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(allowed_names(server.allowed_hosts)),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(allowed_origins(server.allowed_hosts)),
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
    }


def _become(arguments: list[str], environment: Mapping[str, str]) -> NoReturn:
    sys.stdout.flush()  # execve discards what is still in the buffers
    sys.stderr.flush()
    command = [sys.executable, "-m", "mlflow", "server", *arguments]
    os.execve(sys.executable, command, environment)  # noqa: S606  our own words, no shell
