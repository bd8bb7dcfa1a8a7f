"""What every test may rely on: quiet, offline libraries that never write outside the test's own folder."""

import os
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
}
for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
    os.environ.pop(name, None)


# Each of pytest's workers has a core to itself: torch must not take the others.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Data sets are prepared once for all the tests of one run, worker processes and commands among them.
else:
    _cache = tempfile.TemporaryDirectory(prefix="ravel-test-cache-")
    os.environ["RAVEL_CACHE"] = _cache.name


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).parents[1]
