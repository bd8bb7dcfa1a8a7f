"""The MLflow store: does it answer, with which version, to whom, how fast, and what is its clock."""

from __future__ import annotations

import http.client
import re
import time
import urllib.parse
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from orchestrator.doctor.finding import Finding, fail, ok, skipped, split, warn
from orchestrator.doctor.folders import clock_finding, skew
from orchestrator.doctor.packages import installed
from orchestrator.mlflow_server.host_check import is_loopback
from orchestrator.redaction import server_address, without_password
from orchestrator.tracking.store import reachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OLDEST = 3
"""Major version of the oldest MLflow whose server has logged models."""
NO_LOGIN = {"HOME": "/nonexistent", "NETRC": "/nonexistent"}
CERTIFICATES = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
SLOW_S = 1.0


def tracking_findings(uri: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the findings on the store that runs are sent to."""
    place = without_password(uri)
    problem = reachable.problem_of(uri, environ=environ)
    if problem is not None:
        yield fail("store", f"{place}: {split(problem)[0]}", split(problem)[1])
        return
    yield ok("store", f"{place} answers" if "://" in uri and not uri.startswith("sqlite") else f"{place} can be used")
    if uri.startswith(("http://", "https://")):
        yield from _server_findings(uri, environ)


def _server_findings(uri: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    try:
        before_s = time.time()
        answer = reachable.asked(uri, "/version", environ, known=reachable.login(uri, environ))
        seconds = time.time() - before_s
    except (OSError, ValueError, http.client.HTTPException):
        yield skipped("version", "the server does not say it at /version")
    else:
        yield version_finding(answer.body.decode(errors="replace").strip(), installed("mlflow"))
        yield latency_finding(seconds)
        if answer.date:
            server_s = parsedate_to_datetime(answer.date).timestamp()
            yield clock_finding("its clock", skew(server_s, before_s - 1.0, before_s + seconds))
    yield _login_finding(uri, environ)


def version_finding(server: str, here: str | None) -> Finding:
    """Return the finding on a server's version, compared with the client's.

    >>> print(version_finding("2.9.2", "3.17.0"))
    FAIL version: the server is MLflow 2.9.2, which has no logged models; upgrade it to 3.17.0, the client's version
    >>> print(version_finding("3.17.1", "3.17.0"))
    ok version: the server is MLflow 3.17.1, the client 3.17.0
    """
    numbers = re.match(r"(\d+)\.(\d+)", server)
    if not numbers:
        return skipped("version", "the server does not say it at /version")
    if here is None:
        return skipped("version", f"the server is MLflow {server}; no client is installed (extra track)")
    text, fix = f"the server is MLflow {server}", f"upgrade it to {here}, the client's version"
    if int(numbers[1]) < OLDEST:
        return fail("version", f"{text}, which has no logged models", fix)
    if (int(numbers[1]), int(numbers[2])) < tuple(map(int, here.split(".")[:2])):
        return warn("version", f"{text}, older than the client ({here})", fix)
    return ok("version", f"{text}, the client {here}")


def latency_finding(seconds: float) -> Finding:
    """Return the finding on the time of one request.

    >>> print(latency_finding(2.5))
    warn latency: 2500 ms for one request, and a trial has dozens; move the server closer, or expect runs to lag
    """
    text = f"{1000 * seconds:.0f} ms for one request"
    if seconds > SLOW_S:
        return warn("latency", f"{text}, and a trial has dozens", "move the server closer, or expect runs to lag")
    return ok("latency", text)


def _login_finding(uri: str, environ: Mapping[str, str]) -> Finding:
    """Return the finding on who else may use the server: it is asked without any login."""
    bare = server_address(uri)
    certificates = {name: environ[name] for name in CERTIFICATES if environ.get(name)}
    problem = reachable.problem_of(bare, environ={**NO_LOGIN, **certificates})
    if problem is not None:
        return ok("login", "required; yours is accepted" if "login" in problem else "strangers get no answer")
    if is_loopback(urllib.parse.urlsplit(bare).hostname or ""):
        return ok("login", "none required, and only this machine reaches the address")
    fix = "start it with accounts: ravel serve, or mlflow server --app-name basic-auth"
    return warn("login", "none required: who reaches the server reads, changes and deletes runs", fix)
