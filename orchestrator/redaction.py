"""Redaction: addresses without passwords, for messages, files and links."""

from __future__ import annotations

import re
import urllib.parse

USER_INFO = re.compile(
    r"://(?:"
    r"[^:/?#@\s]*:(?!\d*[/?#])[^@\s]*@(?:[^/?#\s]*@)?"  # user:password, which in a database's address may hold a slash
    r"|[^/?#\s]*@"
    r")"
)
# Passwords of databases hold anything, so all is hidden up to the last @.
DATABASE = re.compile(r"\b((?:postgres(?:ql)?|mysql|mssql)(?:\+\w+)?://)\S*@", re.IGNORECASE)
SECRET = re.compile(
    r"([?&#](?!ssl_?key=)"  # which is a path
    r"(?:[^=&#\s]*(?:token|key|secret|signature|password|passwd)[^=&#\s]*|sig)=)[^&#\s]*",
    re.IGNORECASE,
)
BARE_USER = re.compile(r"^(postgresql[^:]*://)[^:/?#@\s]+@")  # libpq reads the password elsewhere


def without_password(text: str) -> str:
    """Return the text with the user and password of every address hidden, and the keys and tokens of queries.

    >>> without_password("http://ada:secret@host:5000 refused")
    'http://***@host:5000 refused'
    >>> without_password("http://bob:p@ss@host")
    'http://***@host'
    >>> without_password("postgresql://host/db?user=bob&password=p%40ss")
    'postgresql://host/db?user=bob&password=***'
    >>> without_password("postgresql://bob:12/34@host/db"), without_password("http://host/?access_token=secret")
    ('postgresql://***@host/db', 'http://host/?access_token=***')
    """
    return SECRET.sub(r"\1***", USER_INFO.sub("://***@", DATABASE.sub(r"\1***@", text)))


def secret_problem(uri: str) -> str | None:
    """Return the problem of an address that may hold a secret, with its remedy, or None for one that holds none.

    What may be a secret counts as one: any ``@`` except that of a PostgreSQL user, any query or fragment of a server.

    >>> secret_problem("postgresql://ada@host/db")
    >>> secret_problem("http://host/?token=secret") == secret_problem("http://host/#token=secret")
    True
    >>> secret_problem("http://host/#token=secret")
    'must not carry a query or fragment, which may hold a token: set MLFLOW_TRACKING_TOKEN in the environment instead'
    """
    bare = BARE_USER.sub(r"\1", uri)
    scheme, _, rest = bare.partition("://")
    kind = scheme.partition("+")[0].lower()
    if kind in {"http", "https"} and not {"?", "#"}.isdisjoint(rest):
        part = "a query or fragment, which may hold a token"
        return f"must not carry {part}: set MLFLOW_TRACKING_TOKEN in the environment instead"
    if ("@" in rest and kind not in {"sqlite", "file"}) or without_password(bare) != bare:
        return "must not carry a password: set MLFLOW_TRACKING_URI in the environment instead"
    return None


def one_line(error: BaseException) -> str:
    """Return an error for a message: its first line without passwords, at most 300 characters."""
    return without_password(str(error).partition("\n")[0])[:300]


def server_address(uri: str) -> str:
    """Return a server's address for a browser, without user and password, which belong in no printed link.

    >>> server_address("https://ada:p@ss@host:5000/mlflow/")
    'https://host:5000/mlflow'
    """
    parts = urllib.parse.urlsplit(without_password(uri))
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
