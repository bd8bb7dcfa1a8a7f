"""A local sqlite store: created whole, then reads during a write, and fast searches."""

from __future__ import annotations

import re
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.storage.atomic_files import create_exclusively, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable

MOUNTS = Path("/proc/self/mounts")
BUSY_S = 5.0
COUNTED_ROWS = 1000
# Write-ahead logging shares memory between the processes of one machine: over a network it damages the file.
OVER_A_NETWORK = re.compile(r"nfs|cifs|smb|fuse\.|lustre|gpfs|beegfs|ceph|afs|9p|glusterfs|ocfs2|gfs2")


def create_whole(uri: str, set_up: Callable[[str], object], *, kept: Path) -> None:
    """Create a local sqlite store that does not exist, whole or not at all.

    MLflow makes its tables in dozens of steps, which take a second, and cannot continue where a process that was ended
    left them. So they are made in a temporary file, whose copy gets the store's name, and are kept: the temporary file
    of the next store begins with them. Any other store is left as it is.

    Args:
        uri: Address of the store.
        set_up: Makes what the store at an address lacks: tables, MLflow's default experiment.
        kept: File of the tables that are kept, one for each version of MLflow.
    """
    path = store_file(uri)
    if path is None or path.exists():
        return
    with tempfile.TemporaryDirectory(prefix="ravel-mlflow-") as folder:
        draft, whole, empty = (Path(folder, name) for name in ("draft.db", "whole.db", "empty.db"))
        tables = _kept_tables(kept)
        if tables is not None:
            draft.write_bytes(tables)
        set_up(f"sqlite:///{draft}")
        create_exclusively(path, _copied(draft, whole))
        if tables is None:
            with suppress(OSError):  # a cache that cannot be written costs the next store a second
                write_atomically(kept, _copied(draft, empty, "DELETE FROM experiments"))


def _kept_tables(kept: Path) -> bytes | None:
    """Return a store of empty tables; None if none is kept, or it is damaged."""
    try:
        with closing(sqlite3.connect(f"{kept.as_uri()}?mode=ro", uri=True)) as store:
            size = store.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").fetchone()[0]
            is_sound = store.execute("PRAGMA quick_check").fetchone() == ("ok",)
            is_empty = store.execute("SELECT count(*) FROM experiments").fetchone() == (0,)
        tables = kept.read_bytes()
    except (OSError, sqlite3.Error):
        return None
    return tables if is_sound and is_empty and size == len(tables) else None


def _copied(store: Path, target: Path, *statements: str) -> bytes:
    """Return the content of a copy of a store in which statements were executed."""
    with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
        for statement in statements:
            copy.execute(statement)
        copy.commit()
    return target.read_bytes()


def use_wal(uri: str) -> bool:
    """Switch a local sqlite store to write-ahead logging, so that pages are read while a sweep writes.

    The file keeps the setting, so once is enough for every later connection, including MLflow's. Nothing is created or
    raised, and a store on a network file system is left as it is.

    Args:
        uri: Address of the store; any other than a local sqlite file is left as it is.

    Returns:
        True if the store is in write-ahead logging now.

    Example:
        >>> use_wal("sqlite:///nowhere.db"), use_wal("http://127.0.0.1:5000")
        (False, False)
    """
    return _ask(uri, "PRAGMA journal_mode = WAL") == "wal"


def count_rows(uri: str) -> None:
    """Have a local sqlite store count its rows (``ANALYZE``), as it plans searches by these counts.

    Without them MLflow's search of 2,000 runs takes four times as long. At most ``COUNTED_ROWS`` rows of each index are
    read, which takes some hundredths of a second. As in ``use_wal``, nothing is created or raised.
    """
    _ask(uri, f"PRAGMA analysis_limit = {COUNTED_ROWS}", "ANALYZE")


def _ask(uri: str, *statements: str) -> object:
    """Return the first value of the last statement; None if it has none, or if the store is left as it is."""
    path = store_file(uri)
    if path is None or not path.is_file() or not _is_local(path):
        return None
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=BUSY_S)) as store:
            answers = [store.execute(statement).fetchone() for statement in statements]
    except (sqlite3.Error, OSError):  # busy, read-only or no database: it stays as it is
        return None
    return answers[-1][0] if answers[-1] else None


def store_file(uri: str) -> Path | None:
    """Return the file of a sqlite store; None if the address names none.

    >>> str(store_file("sqlite:////data/mlflow.db?timeout=5"))
    '/data/mlflow.db'
    >>> store_file("sqlite://"), store_file("postgresql://host/db")
    (None, None)
    """
    scheme, _, rest = uri.partition(":///")
    name = rest.partition("?")[0]
    if scheme.partition("+")[0] != "sqlite" or not name or name.startswith((":memory:", "file:")):
        return None
    return Path(name).absolute()


def file_system(path: Path, mounts: str) -> str:
    r"""Return the type of file system that holds a file, from the kernel's table of mounts.

    >>> mounts = "a / ext4 rw 0 0\nb /home nfs4 rw 0 0\nc /home/my\\040disk xfs rw 0 0\n"
    >>> [file_system(Path(name), mounts) for name in ("/tmp/a.db", "/home/a.db", "/home/my disk/a.db", "/homes/a.db")]
    ['ext4', 'nfs4', 'xfs', 'ext4']
    """
    rows = (line.split(" ") for line in mounts.splitlines())
    kinds = {Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), row[1])): row[2] for row in rows}
    return next((kinds[folder] for folder in (path, *path.parents) if folder in kinds), "")


def _is_local(path: Path) -> bool:
    """Return True if the kernel lists a local file system; without its table of mounts, the answer is unknown."""
    try:
        kind = file_system(path.resolve(), MOUNTS.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return False
    return bool(kind) and OVER_A_NETWORK.match(kind) is None
