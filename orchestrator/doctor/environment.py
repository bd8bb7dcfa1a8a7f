"""Environment variables that matter to sweeps, without the secrets that they hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.doctor.finding import Finding, ok, warn
from orchestrator.redaction import without_password
from orchestrator.storage.proxies import proxy_note

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MATTERS = re.compile(
    r"((AWS|MLFLOW|RAY|RAVEL|TUNE|PYTORCH|DATABRICKS)_|SLURM_(CPUS|JOB_ID)|CUDA_VISIBLE|NVIDIA_VISIBLE|OMP_NUM|PG[A-Z]+$)"
    r"|((https?|no|all)_proxy|NETRC|TMPDIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|SSL_CERT_(FILE|DIR))$",
    re.IGNORECASE,
)
SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|KEY|CREDENTIAL|SIGNATURE", re.IGNORECASE)
IS_PLACE = re.compile(r"(_PATH|_FILE|_DIR|_URI|_URL|_MODE)$", re.IGNORECASE)
LOOPBACK = "http://127.0.0.1"


def environment_findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield one finding for each variable that is set, then one for each that is dangerous or in the way.

    >>> for finding in environment_findings({"RAY_AUTH_TOKEN": "abc", "MLFLOW_TRACKING_URI": "http://ada:pw@host"}):
    ...     print(finding)
    ok MLFLOW_TRACKING_URI: http://***@host
    ok RAY_AUTH_TOKEN: set (not shown)
    """
    names = sorted(name for name in environ if MATTERS.match(name))
    for name in names:
        yield problem_of(name, environ) or ok(name, shown_value(name, environ[name]))
    for name in ("http_proxy", "https_proxy"):
        lower, upper = environ.get(name), environ.get(name.upper())
        if lower and upper and lower != upper:
            fix = "give both the same value"
            yield warn(name, f"differs from {name.upper()}, and libraries disagree on which one they read", fix)
    if proxy_note(LOOPBACK, environ=environ):
        fix = "add 127.0.0.1,localhost to NO_PROXY"
        yield warn("NO_PROXY", "servers of this machine are asked through the proxy", fix)


def shown_value(name: str, value: str) -> str:
    """Return the value of a variable as it may be shown: that of a secret is not.

    >>> shown_value("RAY_AUTH_TOKEN_PATH", "/etc/token"), shown_value("AWS_SESSION_TOKEN", "abc")
    ('/etc/token', 'set (not shown)')
    """
    if not value:
        return "set, and empty"
    is_secret = SECRET.search(name) and not IS_PLACE.search(name)
    return "set (not shown)" if is_secret else without_password(value)


def problem_of(name: str, environ: Mapping[str, str]) -> Finding | None:
    """Return the finding on a variable whose value is dangerous, or None."""
    value = environ[name]
    if name == "RAY_AUTH_MODE" and value.lower() != "token":
        return warn(name, f"{value}: who reaches a port of Ray runs code as you", f"unset {name}, or set it to token")
    if name == "MLFLOW_TRACKING_INSECURE_TLS" and value.lower() in {"1", "true"}:
        fix = f"unset {name}, and name the authority in MLFLOW_TRACKING_SERVER_CERT_PATH"
        return warn(name, "a login is sent to any server that poses as yours", fix)
    if name == "CUDA_VISIBLE_DEVICES" and value in {"", "-1"}:
        return warn(name, "hides all GPUs from trials", f"unset {name} if this machine has GPUs")
    if name == "SSL_CERT_FILE" and not value:
        return warn(name, "set, and empty", f"unset {name}")
    return None
