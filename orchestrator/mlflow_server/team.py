"""Server for a team: its settings, its secrets, and the environment of its clients."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from orchestrator.errors import PreflightError, SpecError
from orchestrator.mlflow_server.host_check import check_port, http_address, is_loopback
from orchestrator.redaction import without_password
from orchestrator.storage.atomic_files import write_atomically
from orchestrator.tracking.store.reachable import PERCENT, database_problem
from orchestrator.tracking.store.sqlite import store_file, use_wal
from search_spaces.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ADMIN = "admin"
STORE = "MLFLOW_BACKEND_STORE_URI"
AUTH_CONFIG = """\
[mlflow]
; users and permissions are in the database of the runs: one backup, one truth for all workers and hosts
database_uri = {database}
; a sweep family is one experiment that several people add to; only who made it, and admins, delete from it
default_permission = EDIT
; a password is slow to check by design: once a minute, not at every request
auth_cache_ttl_seconds = 60
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


@dataclass(frozen=True)
class TeamServer:
    """Settings of a server for a team.

    Args:
        store: Address of a PostgreSQL (or sqlite) database, for runs, users and permissions.
        artifacts: Place of files, a folder or ``s3://bucket/prefix``. The server itself reads and writes them, so that
            clients need no key of the bucket.
        folder: Folder of the generated password and key, readable by its owner only.
        host: Address to listen on.
        port: Port to listen on.
        allowed_hosts: Names that clients use for the server; required beyond loopback.
        workers: Number of processes that answer.

    Raises:
        SpecError: lists every wrong argument.
    """

    store: str
    artifacts: str
    folder: Path
    host: str = "127.0.0.1"
    port: int = 5000
    allowed_hosts: tuple[str, ...] = ()
    workers: int = 1

    def __post_init__(self) -> None:
        problems = list(_argument_problems(self))
        if problems:
            raise SpecError(problems)

    @property
    def address(self) -> str:
        """Address of the server for its clients.

        >>> from pathlib import Path
        >>> TeamServer("sqlite:////data/a.db", "/data", Path("/x"), "0.0.0.0", allowed_hosts=("ml.example",)).address
        'http://ml.example:5000'
        """
        return http_address(self.allowed_hosts[0] if self.allowed_hosts else self.host, port=self.port)

    @property
    def auth_config(self) -> Path:
        """MLflow's settings for logins, written at each start."""
        return self.folder / "auth.ini"

    @property
    def client_file(self) -> Path:
        """Settings for a client's shell, written at each start."""
        return self.folder / "client.env"

    @property
    def session_key_file(self) -> Path:
        """Key of MLflow's forms, generated once."""
        return self.folder / "session-key"

    @property
    def password_file(self) -> Path:
        """Password of the admin, generated once."""
        return self.folder / "admin-password"


def prepare(server: TeamServer) -> None:
    """Check libraries, port and store, and write the secrets and settings, before a team's server starts.

    Raises:
        PreflightError: something is missing; names the remedy.
    """
    _raise_if(_missing_libraries(server))
    check_port(server.host, server.port)
    problem = database_problem(server.store)
    _raise_if([f"store: {without_password(server.store)}: {problem}"] if problem else [])
    server.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _raise_if(_open_permissions(server.folder))
    password = kept_secret(server.password_file)
    kept_secret(server.session_key_file)
    write_atomically(server.auth_config, auth_config(server.store))
    write_atomically(server.client_file, "\n".join([*client_environment(server), ""]))
    use_wal(server.store)
    _raise_if(_other_password(server, password))


def client_environment(server: TeamServer) -> list[str]:
    r"""Return the lines for a client's shell.

    They read the password from its file: printed, it would stay in terminals, logs and recordings.

    Example:
        >>> from pathlib import Path
        >>> server = TeamServer("sqlite:////data/a.db", "/data", Path("/data/my server"))
        >>> print("\n".join(client_environment(server)))
        export MLFLOW_TRACKING_URI=http://127.0.0.1:5000
        export MLFLOW_TRACKING_USERNAME=admin
        export MLFLOW_TRACKING_PASSWORD="$(cat '/data/my server/admin-password')"
    """
    return [
        f"export MLFLOW_TRACKING_URI={shlex.quote(server.address)}",
        f"export MLFLOW_TRACKING_USERNAME={ADMIN}",
        f'export MLFLOW_TRACKING_PASSWORD="$(cat {shlex.quote(str(server.password_file))})"',
    ]


def kept_secret(path: Path) -> str:
    """Return the secret in a file, which the first call generates: readable by its owner only, never replaced.

    Raises:
        PreflightError: the file is empty, or other users can read it.
    """
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".new-", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # two servers may start at the same time
                path.hardlink_to(file.name)  # atomic
    _raise_if(_open_permissions(path))
    kept = path.read_text(encoding="utf-8").strip()
    _raise_if([] if kept else [f"{path}: is empty; write the secret into it, or remove it for a new one"])
    return kept


def auth_config(store: str) -> str:
    """Return MLflow's settings for logins. The users' database is the store, named without its password."""
    import sqlalchemy  # noqa: PLC0415  comes with MLflow

    url = sqlalchemy.make_url(store)
    bare = sqlalchemy.URL.create(
        url.drivername, username=url.username, host=url.host, port=url.port, database=url.database, query=url.query
    )
    return AUTH_CONFIG.format(database=bare.render_as_string(hide_password=False).replace("%", "%%"))


def _argument_problems(server: TeamServer) -> Iterator[Problem]:
    scheme = server.store.partition("://")[0].partition("+")[0]
    if not server.store:
        yield Problem("--store", f"no database is named; set {STORE}=postgresql://USER@HOST/DATABASE, or name it here")
    elif scheme != "postgresql" and store_file(server.store) is None:
        rule = "must be postgresql://... (for one machine, sqlite:///... will do)"
        yield Problem("--store", f"{rule}, got {without_password(server.store)}")
    elif "password=" in server.store.partition("?")[2]:
        yield Problem("--store", f"a password must be before the @, as in USER:PASSWORD@HOST; {PERCENT}")
    if "*" in server.allowed_hosts:
        yield Problem("--allowed-hosts", "* would let every web page act as the user who is logged in; name the hosts")
    if not (server.allowed_hosts or is_loopback(server.host)):
        reason = f"required because other machines can connect (--host {server.host}), against pages that pose as it"
        yield Problem(
            "--allowed-hosts", f"{reason}; name the server as clients do, as in --allowed-hosts ml.example.org"
        )


def _missing_libraries(server: TeamServer) -> list[str]:
    needed = {"mlflow": "mlflow", "flask_wtf": "mlflow[auth]", "uvloop": "uvloop"}
    if server.artifacts.startswith("s3:"):
        needed["boto3"] = "boto3"
    missing = [name for module, name in needed.items() if find_spec(module) is None]
    problem = f"a team's server needs {', '.join(missing)}: pip install 'ravel-sweeps[server]'"
    return [problem] if missing else []


def _open_permissions(path: Path) -> list[str]:
    mode = path.stat().st_mode & 0o777
    right = "700" if path.is_dir() else "600"
    problem = f"{path}: holds secrets, but other users may read it ({mode:o}); chmod {right} {shlex.quote(str(path))}"
    return [problem] if mode & 0o077 else []


def _other_password(server: TeamServer, password: str) -> list[str]:
    """Return a problem if the database has another password of the admin than the folder."""
    import sqlalchemy  # noqa: PLC0415  comes with MLflow
    from werkzeug.security import check_password_hash  # noqa: PLC0415  comes with MLflow

    question = sqlalchemy.text("SELECT password_hash FROM users WHERE username = :name")
    with sqlalchemy.create_engine(server.store, poolclass=sqlalchemy.NullPool).connect() as connection:
        has_users = sqlalchemy.inspect(connection).has_table("users")
        known = connection.execute(question, {"name": ADMIN}).scalar() if has_users else None
    if known is None or check_password_hash(known, password):
        return []
    remedy = "write the one it has into the file, or start with the --folder this database was first served from"
    return [f"{server.password_file}: is not the password of {ADMIN} in {without_password(server.store)}; {remedy}"]


def _raise_if(problems: list[str]) -> None:
    if problems:
        raise PreflightError(problems)
