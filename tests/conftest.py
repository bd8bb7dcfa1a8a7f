"""What every test may rely on: quiet, offline libraries that never write outside the test's own folder."""

import contextlib
import os
import secrets
import socket
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# No test has a stopwatch. A commit has one verdict, so the examples are drawn from a fixed seed;
# `pytest --hypothesis-profile=explore` draws others, and more of them.
settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=60)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("repeatable")
os.environ |= {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # by default 15: beside tests that compute, a trial would get a thirtieth of a core
}
for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
    os.environ.pop(name, None)

CHROMIUM = Path("/usr/bin/chromium")
BROWSER_MS = 120_000

collect_ignore_glob = ["vectors/make_*.py"]  # scripts with libraries of their own

# Each of pytest's workers has a core to itself: torch must not take the others.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Data sets are prepared once for all the tests of one run, worker processes and commands among them.
else:
    _cache = tempfile.TemporaryDirectory(prefix="ravel-test-cache-")
    os.environ["RAVEL_CACHE"] = _cache.name


@pytest.fixture(scope="module")
def chromium():
    """``chromium(**settings)``: a context of headless Chromium, which waits for as long as a busy machine may need."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"pages are looked at in a browser, and there is no {CHROMIUM}: install Debian's package chromium")
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=arguments, timeout=BROWSER_MS)

        def context(**settings):
            opened = browser.new_context(**settings)
            opened.set_default_timeout(BROWSER_MS)
            return opened

        yield context
        browser.close()


@pytest.fixture(scope="session")
def unused_port():
    """``unused_port()``: a port of loopback where nothing listens, for a server that is to start later.

    Ray's workers listen below 20,000 and outgoing connections leave from above 32,000: neither takes it meanwhile.
    """

    def find() -> int:
        while True:
            port = 20_000 + secrets.randbelow(12_000)
            with contextlib.suppress(OSError), socket.socket() as free:
                free.bind(("127.0.0.1", port))
                return port

    return find


@pytest.fixture
def free_port(unused_port) -> int:
    """One such port."""
    return unused_port()


@pytest.fixture
def ravel(capsys, monkeypatch):
    """``ravel(*arguments, code=0)``: run a command in this process, and return its stdout and stderr."""
    from orchestrator.cli.main import main

    monkeypatch.setattr("sys.path", list(sys.path))  # a command finds modules in its working directory from here on

    def run(*arguments, code=0):
        monkeypatch.setattr("sys.argv", ["ravel", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert (ended.value.code or 0) == code, printed.err
        return printed.out, printed.err

    return run


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).parents[1]
