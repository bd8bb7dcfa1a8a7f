"""An address that MLflow never takes is refused before a sweep costs anything, and no name moves artifacts away."""

import sqlite3
from pathlib import Path

import pytest

from orchestrator.errors import SpecError
from orchestrator.planning.loading import parse_spec
from orchestrator.redaction import without_password
from orchestrator.spec.tracking_address import address_problem
from orchestrator.tracking.store.reachable import latest_revision, problem_of
from orchestrator.tracking.store.store import artifact_folder

NEVER = [
    ("./mlruns", "must be no folder"),
    ("mlruns", "must be no folder"),
    ("/data/mlruns", "must be no folder"),
    ("file:", "must be no folder"),
    ("file:///data/mlruns", "must be no folder"),
    ("127.0.0.1:5000", "write http://127.0.0.1:5000"),
    ("tracking.lab:5000/mlflow", "write http://tracking.lab:5000/mlflow"),
    ("sqlite://mlflow.db", "three slashes"),
    ("sqlite:mlflow.db", "three slashes"),
    ("sqlite:///", "three slashes"),
    ("sqlite:///:memory:", "three slashes"),
    ("htp://x", "did you mean http://"),
    ("HTTP://host:5000", "did you mean http://"),
    ("SQLite:///mlflow.db", "did you mean sqlite://"),
    ("http://", "must name a host"),
    ("http:/host", "must name a host"),
    ("postgres://host/db", "write postgresql://"),
    ("ftp://host", "write http(s)://HOST:PORT"),
]
TAKEN = [
    "http://127.0.0.1:5000",
    "https://mlflow.lab/path/",
    "sqlite:///mlflow.db",
    "sqlite:////data/mlflow.db?timeout=5",
    "sqlite+pysqlite:///mlflow.db",
    "postgresql://ada@host/db",
    "postgresql+psycopg:///db?host=/run/postgresql",
    "mysql+pymysql://ada@host/db",
    "databricks",
    "databricks://profile",
]


@pytest.mark.parametrize(("uri", "message"), NEVER)
def test_an_address_that_mlflow_never_takes_is_refused_by_its_text(uri, message):
    with pytest.raises(SpecError) as caught:
        parse_spec("name: a", [f"tracking.uri='{uri}'"])
    (line,) = str(caught.value).splitlines()
    assert line.startswith("tracking.uri: ")
    assert message in line
    assert message in problem_of(uri, environ={})


@pytest.mark.parametrize("uri", TAKEN)
def test_an_address_that_mlflow_takes_is_not_refused_by_its_text(uri):
    assert address_problem(uri) is None


def test_a_workspace_of_databricks_that_is_nowhere_configured_is_named(tmp_path):
    assert problem_of("databricks", environ={"HOME": str(tmp_path)}) is not None


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database, but longer than its header " * 100)
    assert "is no sqlite database" in problem_of(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_folder_in_the_place_of_a_database_is_refused(tmp_path):
    (tmp_path / "mlflow.db").mkdir()
    assert "is no file" in problem_of(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.mark.parametrize(("revision", "is_refused"), [("0000deadbeef", True), (latest_revision(), False)])
def test_a_database_of_another_revision_is_refused(tmp_path, revision, is_refused):
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        store.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        store.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
    store.close()
    problem = problem_of(f"sqlite:///{tmp_path}/mlflow.db")
    assert (problem is not None and "mlflow db upgrade" in problem) == is_refused


def test_the_latest_revision_is_that_of_mlflows_own_migrations():
    from alembic.script import ScriptDirectory
    from mlflow.store import db_migrations

    assert latest_revision() == ScriptDirectory(str(Path(db_migrations.__file__).parent)).get_current_head()


def test_a_secret_in_a_fragment_is_refused_and_never_shown():
    with pytest.raises(SpecError) as caught:
        parse_spec("name: a", ["tracking.uri='http://h/#token=hunter2'"])
    assert "must not carry a query or fragment" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert without_password("http://h/#token=hunter2") == "http://h/#token=***"


@pytest.mark.parametrize(
    "experiment", ["/Users/ada@x.org/digits", "../../escape", "a/../../b", "..", ".", "x" * 400, "/"]
)
def test_no_name_of_an_experiment_moves_its_artifacts_out_of_their_folder(tmp_path, experiment):
    folder = artifact_folder(tmp_path, experiment)
    assert folder.resolve().parent == tmp_path.resolve()
    folder.mkdir()


def test_ordinary_names_of_experiments_keep_their_folders(tmp_path):
    names = ["digits", "team/digits", "digits (2)", "0.1"]
    assert [artifact_folder(tmp_path, name) for name in names] == [tmp_path / name for name in names]
