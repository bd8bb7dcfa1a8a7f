"""Proxies between this machine and a server, named where a server cannot be reached through one."""

from __future__ import annotations

import os
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

AWS = "https://s3.amazonaws.com"
IN_THE_WAY = frozenset({403, 407, 502, 503, 504})
"""Answers that a proxy gives in place of the server."""


def proxy_note(url: str, *, environ: Mapping[str, str] = os.environ) -> str:
    """Return the end of a message about a server that did not answer as it should; empty if no proxy is before it.

    The user and the password of the proxy are left out.

    >>> proxy_note("http://mlflow:5000", environ={"HTTP_PROXY": "http://ada:secret@proxy:3128"})
    '; asked through the proxy proxy:3128 (HTTP_PROXY): if that is in the way, add mlflow to NO_PROXY'
    >>> proxy_note("http://mlflow:5000", environ={"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "mlflow"})
    ''
    """
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:  # no address at all, which the message says
        return ""
    names = (f"{parts.scheme}_proxy", f"{parts.scheme}_proxy".upper())
    variable = next((name for name in names if environ.get(name)), None)
    excepted = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if variable is None or not parts.hostname:
        return ""
    if urllib.request.proxy_bypass_environment(parts.netloc.rpartition("@")[2], {"no": excepted}):  # type: ignore[attr-defined]
        return ""
    proxy = environ[variable].rpartition("@")[2]
    return f"; asked through the proxy {proxy} ({variable}): if that is in the way, add {parts.hostname} to NO_PROXY"
