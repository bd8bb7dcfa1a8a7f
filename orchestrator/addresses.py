"""Where a sweep is tracked, and how an address is shown: never with its password."""

from __future__ import annotations

import os
import re
import urllib.parse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.plan import SweepPlan

DEFAULT_URI = "sqlite:///mlflow.db"
USER_INFO = re.compile(
    r"://(?:"
    r"[^:/?#@\s]*:(?!\d*[/?#])[^@\s]*@(?:[^/?#\s]*@)?"  # user:password, which in a database's address may hold a slash
    r"|[^/?#\s]*@"
    r")"
)
PASSWORD = re.compile(r"([?&](?:password|sslpassword)=)[^&#\s]*", re.IGNORECASE)


def tracking_uri(plan: SweepPlan) -> str:
    """Where this sweep is tracked."""
    return plan.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def without_password(text: str) -> str:
    """Text fit to be shown: user and password of every address in it are hidden.

    >>> without_password("http://ada:secret@host:5000 refused")
    'http://***@host:5000 refused'
    >>> without_password("http://bob:p@ss@host")
    'http://***@host'
    >>> without_password("postgresql://host/db?user=bob&password=p%40ss")
    'postgresql://host/db?user=bob&password=***'
    """
    return PASSWORD.sub(r"\1***", USER_INFO.sub("://***@", text))


def one_line(error: BaseException) -> str:
    """An error as a message may hold it: its first line, not too long, without a password."""
    return without_password(str(error).partition("\n")[0])[:300]


def server_address(uri: str) -> str:
    """A server's address as a browser is given it: without user and password, which belong into no printed link.

    >>> server_address("https://ada:p@ss@host:5000/mlflow/")
    'https://host:5000/mlflow'
    """
    parts = urllib.parse.urlsplit(without_password(uri))
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
