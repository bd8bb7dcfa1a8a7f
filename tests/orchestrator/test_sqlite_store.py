"""Settings of a local sqlite store, and stores that are left as they are."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from waiting import until

from orchestrator.tracking import sqlite
from orchestrator.tracking.sqlite import count_rows, use_wal


@pytest.fixture
def store(tmp_path):
    """A store with one table, in the mode sqlite starts with."""
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as made:
        made.execute("CREATE TABLE points (step INTEGER)")
    return path


def mode(path):
    with closing(sqlite3.connect(path)) as store:
        return store.execute("PRAGMA journal_mode").fetchone()[0]


def test_a_store_stays_in_write_ahead_logging(store):
    assert mode(store) == "delete"
    assert use_wal(f"sqlite:///{store}")
    assert use_wal(f"sqlite:///{store}")
    assert mode(store) == "wal"


def test_pages_are_read_while_a_sweep_writes(store):
    use_wal(f"sqlite:///{store}")
    with closing(sqlite3.connect(store, timeout=0)) as writer, closing(sqlite3.connect(store, timeout=0)) as reader:
        writer.execute("BEGIN EXCLUSIVE")
        writer.execute("INSERT INTO points VALUES (1)")
        assert reader.execute("SELECT count(*) FROM points").fetchone() == (0,)
        writer.commit()
        assert reader.execute("SELECT count(*) FROM points").fetchone() == (1,)


def test_a_store_knows_how_many_rows_it_has(store):
    with closing(sqlite3.connect(store)) as made:
        made.execute("CREATE INDEX of_steps ON points (step)")
        made.executemany("INSERT INTO points VALUES (?)", [(step,) for step in range(300)])
        made.commit()
    for _ in range(2):
        count_rows(f"sqlite:///{store}")
    with closing(sqlite3.connect(store)) as counted:
        assert counted.execute("SELECT tbl, idx, stat FROM sqlite_stat1").fetchall() == [
            ("points", "of_steps", "300 1")
        ]


def test_a_store_that_is_being_written_is_not_waited_for_long(store, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_S", 0.1)
    with closing(sqlite3.connect(store)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        count_rows(f"sqlite:///{store}")
        writer.execute("INSERT INTO points VALUES (1)")
        writer.commit()


def test_a_missing_store_is_not_created(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for uri in (f"sqlite:///{tmp_path}/mlflow.db", "sqlite:///mlflow.db", "sqlite:///:memory:", "sqlite://"):
        assert not use_wal(uri)
        count_rows(uri)
    assert not list(tmp_path.iterdir())


def test_a_relative_address_is_meant_from_the_working_directory(store, monkeypatch):
    monkeypatch.chdir(store.parent)
    assert use_wal("sqlite:///mlflow.db")


def test_what_is_no_database_is_left_as_it_is(tmp_path):
    (tmp_path / "mlflow.db").write_text("a letter, and by no means a database\n" * 99)
    assert not use_wal(f"sqlite:///{tmp_path}/mlflow.db")
    assert (tmp_path / "mlflow.db").read_text().startswith("a letter")


def test_a_busy_store_is_left_as_it_is(store, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_S", 0.1)
    with closing(sqlite3.connect(store)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert not use_wal(f"sqlite:///{store}")
    assert mode(store) == "delete"


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "lustre", "gpfs", "beegfs", "9p"])
def test_a_store_on_a_network_is_left_as_it_is(store, tmp_path, monkeypatch, kind):
    table = tmp_path / "mounts"
    table.write_text(f"disk / ext4 rw 0 0\nserver:/home {tmp_path.resolve()} {kind} rw 0 0\n")
    monkeypatch.setattr(sqlite, "MOUNTS", table)
    assert not use_wal(f"sqlite:///{store}")
    assert mode(store) == "delete"
    table.write_text(f"disk / ext4 rw 0 0\ndisk {tmp_path.resolve()} xfs rw 0 0\n")
    assert use_wal(f"sqlite:///{store}")


def test_where_no_table_of_mounts_is_kept_nothing_is_done(store, tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "MOUNTS", tmp_path / "absent")
    assert not use_wal(f"sqlite:///{store}")
    assert mode(store) == "delete"


SET_UP = "import sys; from orchestrator.tracking.store import open_store; open_store(sys.argv[1]).search_experiments()"


@pytest.mark.parametrize("steps", [5, 20])
def test_a_process_that_is_killed_while_a_store_is_created_leaves_none_or_a_whole_one(tmp_path, steps):
    """``steps``: tables that the killed process had made."""
    store, drafts = tmp_path / "mlflow.db", tmp_path / "drafts"
    drafts.mkdir()
    command = [sys.executable, "-c", SET_UP, f"sqlite:///{store}"]
    process = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(drafts)}, cwd=tmp_path)
    try:
        until(lambda: process.poll() is not None or tables_in(store, *drafts.glob("*/draft.db")) >= steps)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert not store.exists()
    subprocess.run(command, cwd=tmp_path, check=True)
    assert tables_in(store) > 20


def tables_in(*files):
    counts = [0]
    for file in files:
        with contextlib.suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
            counts.append(db.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0])
    return max(counts)
