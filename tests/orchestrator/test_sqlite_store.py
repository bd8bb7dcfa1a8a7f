"""Settings of a local sqlite store, and stores that are left as they are."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from waiting import until

from orchestrator.tracking.store import sqlite
from orchestrator.tracking.store.sqlite import count_rows, create_whole, use_wal
from orchestrator.tracking.store.store import open_store


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


SET_UP = (
    "import sys; from orchestrator.tracking.store.store import open_store; open_store(sys.argv[1]).search_experiments()"
)


@pytest.mark.parametrize("steps", [5, 20])
def test_a_process_that_is_killed_while_a_store_is_created_leaves_none_or_a_whole_one(tmp_path, steps):
    """``steps``: tables that the killed process had made."""
    store, drafts = tmp_path / "mlflow.db", tmp_path / "drafts"
    drafts.mkdir()
    command = [sys.executable, "-c", SET_UP, f"sqlite:///{store}"]
    variables = {**os.environ, "RAVEL_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(command, env={**variables, "TMPDIR": str(drafts)}, cwd=tmp_path)
    try:
        until(lambda: process.poll() is not None or tables_in(store, *drafts.glob("*/draft.db")) >= steps)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert not store.exists()
    assert not list(tmp_path.glob("cache/*"))
    subprocess.run(command, cwd=tmp_path, check=True, env=variables)
    assert tables_in(store) > 20


def tables_in(*files):
    counts = [0]
    for file in files:
        with contextlib.suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
            counts.append(db.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0])
    return max(counts)


def set_up_of(made):
    """Makes what a store lacks, and counts how often these are its tables."""

    def set_up(uri):
        with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as db:
            if not db.execute("SELECT * FROM sqlite_master").fetchall():
                made.append(uri)
                db.execute("CREATE TABLE experiments (store)")
            if not db.execute("SELECT * FROM experiments").fetchall():
                db.execute("INSERT INTO experiments VALUES (?)", (uri,))
            db.commit()

    return set_up


def experiments_in(store):
    with closing(sqlite3.connect(store)) as db:
        return [name for (name,) in db.execute("SELECT * FROM experiments")]


@pytest.fixture
def kept(tmp_path):
    return tmp_path / "cache" / "mlflow-1.db"


def test_tables_are_made_once_for_all_stores_and_no_experiment_is_carried_over(tmp_path, kept):
    made, stores = [], [tmp_path / "first.db", tmp_path / "second.db"]
    for store in stores:
        create_whole(f"sqlite:///{store}", set_up_of(made), kept=kept)
    assert len(made) == 1
    (first,), (second,) = map(experiments_in, stores)
    assert first != second
    assert experiments_in(kept) == []


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"", lambda whole: whole[:5000], lambda _: b"a letter" * 99],
    ids=["empty", "cut", "no database"],
)
def test_kept_tables_that_are_damaged_are_made_once_more(tmp_path, kept, damage):
    made = []
    create_whole(f"sqlite:///{tmp_path}/first.db", set_up_of(made), kept=kept)
    kept.write_bytes(damage(kept.read_bytes()))
    create_whole(f"sqlite:///{tmp_path}/second.db", set_up_of(made), kept=kept)
    assert len(made) == 2
    assert len(experiments_in(tmp_path / "second.db")) == 1
    assert experiments_in(kept) == []


def test_a_cache_that_cannot_be_written_keeps_no_store_from_being_created(tmp_path):
    (tmp_path / "cache").write_text("a file")
    made = []
    create_whole(f"sqlite:///{tmp_path}/mlflow.db", set_up_of(made), kept=tmp_path / "cache" / "mlflow-1.db")
    assert experiments_in(tmp_path / "mlflow.db") == made


def test_a_store_of_kept_tables_has_mlflows_default_experiment_in_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "cache"))
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        open_store(f"sqlite:///{tmp_path / name}/mlflow.db")
        with closing(sqlite3.connect("mlflow.db")) as store:  # before MLflow's client opens it
            rows = store.execute("SELECT experiment_id, name, artifact_location FROM experiments").fetchall()
        assert rows == [(0, "Default", str(tmp_path / name / "mlruns" / "0"))]
    (kept,) = (tmp_path / "cache").iterdir()
    assert tables_in(kept) == tables_in(tmp_path / "second" / "mlflow.db")
