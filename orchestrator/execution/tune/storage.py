"""Changes to what Tune does with the storage of a sweep, for the length of one."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ray.train._internal import checkpoint_manager

from orchestrator.errors import StorageError
from orchestrator.redaction import one_line
from orchestrator.storage.patience import patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
logger = logging.getLogger(__name__)
STATE_LOGGER = "ray.tune.execution.experiment_state"


@contextmanager
def forgiving_storage() -> Iterator[None]:
    """Have Tune leave an old checkpoint that it cannot delete, and say nothing of its own state files.

    Tune 2.60 prints a traceback for each while S3 is away. Checkpoints that are left take room until ``ravel purge``;
    the state files are never read.
    """
    module: Any = checkpoint_manager
    original = module._delete_fs_path  # noqa: SLF001  Tune has no setting for it
    state_logger = logging.getLogger(STATE_LOGGER)
    module._delete_fs_path = _delete  # noqa: SLF001
    state_logger.addFilter(_is_of_trials)
    try:
        yield
    finally:
        module._delete_fs_path = original  # noqa: SLF001
        state_logger.removeFilter(_is_of_trials)


def once_reachable(make: Callable[[], T], *, before_try: Callable[[], None]) -> T:
    """Return what ``make`` returns; Tune writes into the storage then, so wait while that is away or full.

    Args:
        make: May be called again after an error of the storage.
        before_try: Called before each try; may raise to leave.

    Raises:
        StorageError: the storage was away for longer than a worker would wait.
    """

    def attempt() -> T:
        before_try()
        try:
            return make()
        except OSError as error:
            raise StorageError(f"the place of the checkpoints cannot be written: {one_line(error)}") from error

    return patiently(attempt)


def _delete(fs: Any, fs_path: str) -> None:
    """Delete a checkpoint, unless its storage refuses."""
    try:
        (fs.delete_file if fs.get_file_info(fs_path).is_file else fs.delete_dir)(fs_path)
    except FileNotFoundError:
        return
    except OSError as error:
        logger.warning("%s: an old checkpoint could not be deleted, it takes room (%s)", fs_path, one_line(error))


def _is_of_trials(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Saving experiment state")
