"""Compiled modules for Ray's processes.

Each start of Ray runs Python processes that import some hundred modules. Without stored bytecode (an installation by
``pip --no-compile``, a container image with ``PYTHONDONTWRITEBYTECODE``, a folder of another user) each start compiles
them. With these variables the processes keep their bytecode in the cache folder of the user.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

AGENT = "dashboard/modules/reporter/reporter_agent.py"  # what Ray's processes import and no driver does


def bytecode_variables(cache: Path) -> dict[str, str]:
    """Return the environment variables with which Ray's processes find or keep bytecode; none if they have it.

    The folder is used only if it belongs to this user and no one else may write to it, as it holds code.
    """
    if os.environ.get("PYTHONPYCACHEPREFIX") or _is_compiled():
        return {}
    folder = cache / "bytecode"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return {}
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        return {}
    return {"PYTHONPYCACHEPREFIX": str(folder), "PYTHONDONTWRITEBYTECODE": ""}


def _is_compiled() -> bool:
    ray = importlib.util.find_spec("ray")
    if ray is None or ray.origin is None:
        return True  # its import will say more
    agent = Path(ray.origin).parent / AGENT
    return Path(importlib.util.cache_from_source(str(agent))).exists()
