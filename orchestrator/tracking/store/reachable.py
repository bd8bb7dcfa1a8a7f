"""Check that a store can be reached, with the login that the environment holds, without importing MLflow.

The request needs a login, because a server's health is open to everybody. The login is the one that MLflow's own client
would send: from the address, ``.netrc``, the environment or ``~/.mlflow/credentials``, or a token.
"""

from __future__ import annotations

import base64
import configparser
import http.client
import importlib.util
import json
import netrc
import os
import re
import sqlite3
import ssl
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.errors import cut
from orchestrator.redaction import one_line, server_address, without_password
from orchestrator.spec.tracking_address import address_problem
from orchestrator.storage.proxies import IN_THE_WAY, proxy_note
from orchestrator.tracking.store.sqlite import store_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ANSWER_S = 10
MIGRATIONS = "store/db_migrations/versions/*.py"
QUESTION = "/api/2.0/mlflow/experiments/search?max_results=1"
VARIABLES = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
SET_THEM = f"set {VARIABLES} (they stay in the environment: no spec, log, run or report holds them)"
PERCENT = "a password's @ : / ? # and % must be percent-encoded, as in p%40ss"


class Login(NamedTuple):
    """Login of a client: the header that is sent, and its source, for messages."""

    header: str
    source: str


def problem_of(uri: str, *, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the problem that prevents tracking at an address, with its remedy, or None.

    Args:
        uri: Address of a server (http, https), a PostgreSQL database or a sqlite file; any other is not checked.
        environ: Environment that holds logins and certificates.

    Example:
        >>> problem_of("htp://host")
        "must have a scheme that MLflow knows; did you mean http:// (in lower case)?, got 'htp://host'"
    """
    if uri and (problem := address_problem(uri)) is not None:
        return problem
    scheme = uri.partition(":")[0]
    if scheme in {"http", "https"}:
        return _server_problem(uri, environ)
    if scheme.partition("+")[0] == "postgresql":
        return database_problem(uri)
    if scheme == "databricks":
        return _databricks_problem(environ)
    file = store_file(uri)
    return None if file is None else _file_problem(file)


def _file_problem(file: Path) -> str | None:
    """Return the problem of a sqlite store: its folder, its file, or the version of its tables."""
    if not os.access(file.parent, os.W_OK):
        return f"{file.parent} cannot be written"
    if not file.exists():
        return None
    if not file.is_file() or not os.access(file, os.R_OK | os.W_OK):
        return f"{file} is no file that can be read and written"
    if file.stat().st_size == 0:
        return None
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=ANSWER_S)) as store:
            if not store.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
                return None
            versions = [str(row[0]) for row in store.execute("SELECT version_num FROM alembic_version")]
    except sqlite3.DatabaseError as error:
        return f"{file} is no sqlite database, or a damaged one ({one_line(error)})"
    return revision_problem(versions, latest_revision())


def latest_revision() -> str | None:
    """Return the version of the tables that the installed MLflow makes; None if it is not installed."""
    mlflow = importlib.util.find_spec("mlflow")
    folders = [] if mlflow is None else mlflow.submodule_search_locations or []
    texts = [path.read_text() for folder in folders for path in Path(folder).glob(MIGRATIONS)]
    names = {match[1] for text in texts for match in re.finditer(r'^revision = "(\w+)"', text, re.MULTILINE)}
    before = {match[1] for text in texts for match in re.finditer(r'^down_revision = "(\w+)"', text, re.MULTILINE)}
    return min(names - before, default=None)


def revision_problem(versions: Sequence[str], latest: str | None) -> str | None:
    """Return the problem of a database whose tables are of another version than MLflow's.

    >>> revision_problem(["abc"], "def")
    "its tables are of version abc, MLflow's here are of def; copy it, then run `mlflow db upgrade`, or upgrade MLflow"
    """
    if latest is None or not versions or latest in versions:
        return None
    remedy = "copy it, then run `mlflow db upgrade`, or upgrade MLflow"
    return f"its tables are of version {cut(', '.join(versions), 40)}, MLflow's here are of {latest}; {remedy}"


def _databricks_problem(environ: Mapping[str, str]) -> str | None:
    """Return what MLflow's client of Databricks lacks: its library, or the address of a workspace."""
    try:
        installed = importlib.util.find_spec("databricks.sdk") is not None
    except ModuleNotFoundError:
        installed = False
    if not installed:
        return "its library is not installed; run pip install 'mlflow[databricks]'"
    home = Path(environ.get("HOME") or Path.home())
    profile = Path(environ.get("DATABRICKS_CONFIG_FILE") or home / ".databrickscfg")
    if environ.get("DATABRICKS_HOST") or profile.is_file():
        return None
    return f"no workspace is configured; set DATABRICKS_HOST and DATABRICKS_TOKEN, or write {profile}"


def database_problem(uri: str) -> str | None:
    """Return the problem of a database; None if it answers, or if SQLAlchemy is missing."""
    if importlib.util.find_spec("sqlalchemy") is None:
        return None
    import sqlalchemy  # noqa: PLC0415  comes with MLflow

    try:
        address = sqlalchemy.make_url(uri)
    except (sqlalchemy.exc.ArgumentError, ValueError):  # the message quotes a part that may be half a password
        return f"is no address of a database; {PERCENT}"
    if "@" in (address.host or ""):
        return f"is no address of a database; {PERCENT}"
    try:
        asked = {"connect_timeout": ANSWER_S}
        with sqlalchemy.create_engine(address, connect_args=asked, poolclass=sqlalchemy.NullPool).connect():
            return None
    except ImportError as error:
        remedy = "write postgresql:// and pip install 'ravel-sweeps[postgres]'"
        return f"its driver {address.drivername.partition('+')[2] or 'psycopg'} does not import ({error}); {remedy}"
    except sqlalchemy.exc.SQLAlchemyError as error:
        return f"does not answer ({one_line(error)})"


def login(uri: str, environ: Mapping[str, str]) -> Login | None:
    """Return the login that MLflow's client would send to a server, or None.

    Example:
        >>> login("http://ada:secret@host", {}).source
        'the address'
        >>> login("http://host", {"MLFLOW_TRACKING_TOKEN": "secret", "NETRC": "/nowhere", "HOME": "/nowhere"})
        Login(header='Bearer secret', source='MLFLOW_TRACKING_TOKEN')
    """
    home = Path(environ.get("HOME") or Path.home())
    sources = {
        "the address": _of_address(uri),
        ".netrc": _of_netrc(urllib.parse.urlsplit(uri).hostname or "", environ.get("NETRC") or str(home / ".netrc")),
        VARIABLES: _of_environment(environ, home / ".mlflow" / "credentials"),
    }
    for source, (name, password) in sources.items():
        if name and password:
            return Login("Basic " + base64.b64encode(f"{name}:{password}".encode()).decode(), source)
    token = environ.get("MLFLOW_TRACKING_TOKEN")
    return Login(f"Bearer {token}", "MLFLOW_TRACKING_TOKEN") if token else None


def _of_address(uri: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(uri)
    return urllib.parse.unquote(parts.username or ""), urllib.parse.unquote(parts.password or "")


def _of_netrc(host: str, path: str) -> tuple[str, str]:
    try:
        name, account, password = netrc.netrc(path).authenticators(host) or ("", "", "")
    except (OSError, ValueError, netrc.NetrcParseError):  # unreadable is absent, as for MLflow's client
        return "", ""
    return name or account or "", password or ""


def _of_environment(environ: Mapping[str, str], file: Path) -> tuple[str, str]:
    """Return name and password, each from the environment, or else from MLflow's own file."""
    saved = configparser.ConfigParser(interpolation=None)
    try:
        saved.read(file)
    except (configparser.Error, UnicodeDecodeError):
        saved.clear()
    name, password = (
        environ.get(variable) or str(saved.get("mlflow", variable.lower(), fallback=""))
        for variable in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    )
    return name, password


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Handler that takes a redirect as the answer: to follow it would send the login to another server."""

    def redirect_request(self, *_: object) -> None:
        """Do not follow the redirect."""


class Answer(NamedTuple):
    """Answer of a server: its body, and its clock in the header ``Date`` ("" if it sends none)."""

    body: bytes
    date: str


def asked(uri: str, path: str, environ: Mapping[str, str], *, known: Login | None = None) -> Answer:
    """Return the answer of a server to a request, with a login; a redirect is not followed.

    Raises:
        OSError: it does not answer; a ``urllib.error.HTTPError`` if it answers with another status than 200.
        ValueError: the address is none.
    """
    request = urllib.request.Request(server_address(uri) + path)  # noqa: S310  http(s) alone
    if known is not None:
        request.add_unredirected_header("Authorization", known.header)
    handlers = [_NoRedirect(), urllib.request.HTTPSHandler(context=_certificates(environ))]
    with urllib.request.build_opener(*handlers).open(request, timeout=ANSWER_S) as answer:
        return Answer(answer.read(), answer.headers.get("Date") or "")


def _server_problem(uri: str, environ: Mapping[str, str]) -> str | None:
    signed = any(environ.get(name) for name in ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4"))
    known = None
    try:
        known = None if signed else login(uri, environ)  # a plugin of MLflow signs the request
        body = asked(uri, "/health" if signed else QUESTION, environ, known=known).body
    except urllib.error.HTTPError as error:
        with error:
            note = proxy_note(uri, environ=environ) if error.code in IN_THE_WAY else ""
            return f"{_refusal(error, known, urllib.parse.urlsplit(uri).netloc.rpartition('@')[2])}{note}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"does not answer ({one_line(error)}){proxy_note(uri, environ=environ)}"
    if signed or _is_json(body):
        return None
    return f"answers, but not as MLflow does; is its path missing?{proxy_note(uri, environ=environ)}"


def _certificates(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return the trusted certificates, from the variables that MLflow's client reads."""
    named = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    bundle = next((environ[name] for name in named if environ.get(name)), None)
    is_folder = bundle is not None and Path(bundle).is_dir()
    context = ssl.create_default_context(cafile=None if is_folder else bundle, capath=bundle if is_folder else None)
    if environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in {"1", "true"}:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
        context.load_cert_chain(environ["MLFLOW_TRACKING_CLIENT_CERT_PATH"])
    return context


def _refusal(error: urllib.error.HTTPError, known: Login | None, host: str) -> str:
    text = error.read(1000).decode(errors="replace")
    match error.code:
        case 403 if "Invalid Host header" in text:
            return f"does not accept the host name {host}; start it with --allowed-hosts {host}, or use a name it has"
        case 401 | 403:
            what = "requires a login" if known is None else f"refuses the login of {known.source}"
            return f"{what} ({error.code} {error.reason}); {SET_THEM}"
        case 404:
            return "answers, but has no MLflow here (404); is its path missing?"
        case code if code in range(300, 400):
            where = without_password(error.headers.get("Location", "")).partition("?")[0]
            return f"redirects to {where}; give the address it ends at"
        case _:
            return f"answers {error.code} {error.reason}"


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True
