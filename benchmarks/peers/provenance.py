"""Machine and revision of a run."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MEASURED = ("orchestrator", "ravel", "search_spaces", "trainables", "benchmarks/peers/*.py", "constraints.txt")
"""Files whose changes make a run one of no revision."""


def machine() -> dict[str, Any]:
    """Describe this machine."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory_gb),
        "system": f"{platform.system()} {platform.release()}",
    }


def revision() -> str:
    """Return the revision of the checkout, with a plus if what is measured was changed since."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    return f"{commit}+" if _git("status", "--porcelain", "--", *MEASURED) else commit


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603, S607
    return done.stdout.strip()
