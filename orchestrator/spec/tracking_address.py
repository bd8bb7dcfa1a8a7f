"""Addresses that MLflow takes as a tracking store, decided from the text alone."""

from __future__ import annotations

import re
import urllib.parse
from importlib.metadata import entry_points

from orchestrator.errors import quoted
from orchestrator.redaction import without_password
from orchestrator.storage.locations import variable_problem
from search_spaces import nearest

SERVERS = frozenset({"http", "https"})
DATABASES = frozenset({"sqlite", "postgresql", "mysql", "mssql"})
HOST_AND_PORT = re.compile(r"[A-Za-z0-9.-]+:\d+(/.*)?")
REMEDY = "write http(s)://HOST:PORT, sqlite:///FILE, or postgresql://USER@HOST/DATABASE"


def address_problem(uri: str) -> str | None:
    """Return the problem of an address that MLflow never takes, or never as it is meant; else None.

    >>> address_problem("http://127.0.0.1:5000"), address_problem("sqlite:///mlflow.db")
    (None, None)
    >>> address_problem("127.0.0.1:5000")
    "must begin with its scheme: write http://127.0.0.1:5000, got '127.0.0.1:5000'"
    """
    got = f"got {quoted(without_password(uri))}"
    if (problem := variable_problem(without_password(uri))) is not None:  # a password may have such text
        return f"{problem}; {got}"
    if HOST_AND_PORT.fullmatch(uri) and not uri.startswith("file:"):
        return f"must begin with its scheme: write http://{uri}, {got}"
    scheme, colon, rest = uri.partition(":")
    kind = scheme.partition("+")[0]
    if not colon or kind == "file" or "/" in scheme:
        return None if uri == "databricks" or kind in _plugins() - {"file"} else f"{_no_folder()}, {got}"
    if kind == "databricks" or kind in _plugins():
        return None
    if kind not in SERVERS | DATABASES:
        return f"{_unknown(kind)}, {got}"
    if kind == "sqlite":
        return None if _names_a_file(rest) else f"must name a file with three slashes: sqlite:///mlflow.db, {got}"
    return None if rest.startswith("//") and _host(uri) != "" else f"must name a host; {REMEDY}, {got}"


def _no_folder() -> str:
    return f"must be no folder, which MLflow no longer takes as a store; {REMEDY}"


def _unknown(kind: str) -> str:
    if kind == "postgres":
        return "SQLAlchemy does not know postgres://; write postgresql://"
    lower = kind.lower()
    closest = lower if lower in SERVERS | DATABASES else nearest(lower, sorted(SERVERS | DATABASES))
    hint = f"did you mean {closest}:// (in lower case)?" if closest else REMEDY
    return f"must have a scheme that MLflow knows; {hint}"


def _names_a_file(rest: str) -> bool:
    name = rest.removeprefix("///").partition("?")[0]
    return rest.startswith("///") and name not in {"", "/"} and not name.startswith(":memory:")


def _host(uri: str) -> str | None:
    """Return the host of an address, an empty text where it has none, None where it cannot be read."""
    try:
        parts = urllib.parse.urlsplit(uri)
    except ValueError:  # reported where the address is tried
        return None
    is_database = parts.scheme not in SERVERS
    return "socket" if is_database and parts.query else parts.netloc.rpartition("@")[2]


def _plugins() -> frozenset[str]:
    """Return the schemes of stores that installed plugins of MLflow bring."""
    return frozenset(entry.name for entry in entry_points(group="mlflow.tracking_store"))
