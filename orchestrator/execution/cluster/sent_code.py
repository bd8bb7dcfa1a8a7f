"""Users' own modules on their way to a cluster's workers: the working directory of Ray's runtime environment."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CODE_SENT = "RAVEL_CODE_SENT"
"""Set in workers that were sent the users' own modules, so that those of the launch folder are not imported instead."""
INSIDE_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the driver of a job, whose runtime environment every worker has already."""


@contextmanager
def runtime_environment(files: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    """Lay the files out in a folder for ``ray.init``, which uploads it, and remove the folder at the end.

    The workers get a copy of the files as they are now: all nodes train with the same code, and edits do not reach
    them. Within a Ray job nothing is sent, as the job has sent it.

    Args:
        files: each by its path below the folder from which it can be imported; empty: nothing is sent.
    """
    if not files or INSIDE_JOB in os.environ:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="ravel-code-") as name:
        copy_files(files, Path(name))
        yield {"runtime_env": {"working_dir": name, "env_vars": {CODE_SENT: "1"}}}


def copy_files(files: Mapping[str, Path], folder: Path) -> None:
    """Copy files to their paths below a folder."""
    for place, path in files.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
