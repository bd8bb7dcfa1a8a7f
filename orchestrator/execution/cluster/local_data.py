"""Local data of a worker: its data set downloaded from S3, and users' own modules found."""

from __future__ import annotations

import os
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.execution.cluster.sent_code import CODE_SENT
from orchestrator.storage.locations import is_remote
from orchestrator.storage.patience import patiently
from orchestrator.storage.s3 import Settings
from trainables.config.trial import DataConfig
from trainables.data import cache_folder
from trainables.import_paths import find_in

if TYPE_CHECKING:
    from collections.abc import Mapping


def with_local_data(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with its data set on this machine; have a user's own modules be found."""
    working_directory = config.get("ravel.working_directory")
    if working_directory is not None and CODE_SENT not in os.environ:
        find_in(Path(working_directory))
    local, root = dict(config), config.get("data.root")
    if root is not None and is_remote(root):
        cache = cache_folder(DataConfig(cache=config.get("data.cache")))
        local["data.root"] = str(patiently(partial(_staged, root, cache, settings_of(config))))
    return local


def settings_of(config: Mapping[str, Any]) -> Settings:
    """Return the S3 settings that the driver sent with a trial, or those of this process."""
    storage = config.get("ravel.storage")
    return Settings.from_environment() if storage is None else Settings(**storage)


@lru_cache
def _staged(root: str, cache: Path, settings: Settings) -> Path:
    """Stage a data set from S3, once in the life of a worker, and return its folder on this machine."""
    from orchestrator.storage.staging import stage  # noqa: PLC0415  not every worker stages data

    return stage(root, cache, settings)
