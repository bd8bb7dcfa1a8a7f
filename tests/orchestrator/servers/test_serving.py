"""`ravel serve` and `ravel ui`: real servers on a real PostgreSQL."""

import base64
import configparser
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import mlflow.server
import pytest

from orchestrator.errors import PreflightError, SpecError
from orchestrator.execution import preflight
from orchestrator.execution.exporters import Exporter
from orchestrator.mlflow_server import team
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import AttemptStarted, EpochReported, SweepEnded, SweepStarted, TrialCreated, TrialEnded
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.tracking.store import reachable
from orchestrator.tracking.tracker import Tracker

RAVEL = str(Path(sys.executable).with_name("ravel"))
SEARCH = "/api/2.0/mlflow/experiments/search"
NUM_EPOCHS = 40
ANYWHERE = "0.0.0.0"  # noqa: S104 - to be refused


def ask(address, path=f"{SEARCH}?max_results=1", *, login=None, method="GET", body=None, **headers):
    """Status and text of one answer."""
    if login is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
    status, _, content = fetch(address, path, method=method, body=body, **headers)
    return status, content.decode()


def fetch(address, path, *, method="GET", body=None, **headers):
    """Status, headers and content of one answer."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


@pytest.fixture
def as_client(team_server, monkeypatch):
    """This process's environment, with the variables for its clients."""
    for name, value in team_server.environment.items():
        monkeypatch.setenv(name, value)


def planned(root, name):
    folder = SweepFolder(root / "results" / name)
    folder.path.mkdir(parents=True)
    spec = parse_spec(f"name: {name}\ntrial: {{epochs: {NUM_EPOCHS}}}")
    plan = make_plan(spec, folder, slots=1, now=5.0, working_directory=root)
    plan.save(folder)
    return plan, folder


def events():
    config = {"epochs": NUM_EPOCHS, "data.name": "digits"}
    yield SweepStarted(time=1000, generation=1, host="here", pid=1)
    yield TrialCreated(time=1001, trial="t000", origin="search", point={}, config=config)
    yield AttemptStarted(time=1002, trial="t000", attempt=1)
    for epoch in range(1, NUM_EPOCHS + 1):
        metrics = {"val/accuracy": epoch / 100, "train/loss": 1.0 / epoch}
        at = 1002.0 + epoch
        yield EpochReported(time=at, trial="t000", attempt=1, epoch=epoch, since_restore=epoch, metrics=metrics)
    yield TrialEnded(time=2000, trial="t000", status="completed")
    yield SweepEnded(time=2001, status="completed")


def runs_of(uri, experiment):
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def points_of(uri, experiment):
    """Every (key, step, value, timestamp) the one trial has, including duplicates."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    (run,) = [run for run in runs_of(uri, experiment) if run.data.tags["ravel.kind"] == "trial"]
    assert run.info.status == "FINISHED"
    return sorted(
        (key, point.step, point.value, point.timestamp)
        for key in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, key)
    )


def expected_points():
    return sorted(
        (key, event.epoch, value, round(event.time * 1000))
        for event in events()
        if isinstance(event, EpochReported)
        for key, value in event.metrics.items()
    )


def test_health_is_open_and_everything_else_requires_a_login(team_server):
    assert ask(team_server.address, "/health")[0] == 200
    assert ask(team_server.address)[0] == 401
    assert ask(team_server.address, "/")[0] == 401
    assert ask(team_server.address, login=("admin", "wrong-password"))[0] == 401
    assert ask(team_server.address, login=("admin", team_server.password))[0] == 200


def test_a_launch_without_a_login_is_refused_with_what_to_set(team_server, tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(PreflightError) as caught:
        preflight.check(parse_spec("name: a"), tmp_path, tracking_uri=team_server.address)
    (problem,) = caught.value.problems
    assert problem.startswith(f"tracking.uri: {team_server.address}: requires a login")
    assert "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (they stay in the environment" in problem


def test_preflight_knows_a_login_that_works_from_one_that_does_not(team_server, tmp_path):
    right = {**team_server.environment, "HOME": str(tmp_path)}
    bare, uri = {"HOME": str(tmp_path)}, team_server.address
    assert reachable.problem_of(uri, environ=right) is None
    assert reachable.problem_of(uri.replace("://", f"://admin:{team_server.password}@"), environ=bare) is None
    wrong = reachable.problem_of(uri, environ=right | {"MLFLOW_TRACKING_PASSWORD": "hunter2"})
    assert wrong.startswith("refuses the login of MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (401")
    assert "hunter2" not in wrong
    (tmp_path / ".mlflow").mkdir()
    saved = f"[mlflow]\nmlflow_tracking_username = admin\nmlflow_tracking_password = {team_server.password}\n"
    (tmp_path / ".mlflow" / "credentials").write_text(saved)
    assert reachable.problem_of(uri, environ=bare) is None


def test_a_host_name_the_server_does_not_have_is_named(team_server):
    elsewhere = team_server.address.replace("127.0.0.1", "127.1")  # the same machine by another name
    problem = reachable.problem_of(elsewhere, environ=team_server.environment)
    host = elsewhere.removeprefix("http://")
    assert problem.startswith(f"does not accept the host name {host}; start it with --allowed-hosts {host}")


@pytest.mark.parametrize("page", ["http://ml.example", "https://ml.example:8443", ""])
def test_the_servers_own_pages_may_write(team_server, page):
    origin = {"Origin": page} if page else {}
    login, body = ("admin", team_server.password), json.dumps({"max_results": 1})
    path = SEARCH.replace("/api", "/ajax-api")
    asked = {"login": login, "method": "POST", "body": body, "Host": "ml.example", **origin}
    assert ask(team_server.address, path, **asked)[0] == 200


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Host": "10.evil.example"}])
def test_other_pages_may_not(team_server, headers):
    login, body = ("admin", team_server.password), json.dumps({"max_results": 1})
    assert ask(team_server.address, login=login, method="POST", body=body, **headers)[0] == 403


def test_what_clients_set_is_printed_and_written_without_the_password(team_server):
    file = team_server.folder / "client.env"
    script = f". '{file}' && env | grep ^MLFLOW_TRACKING_"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert dict(line.split("=", 1) for line in done.stdout.splitlines()) == team_server.environment
    lines = file.read_text()
    assert team_server.password not in lines
    assert "".join(f"  {line}\n" for line in lines.splitlines()) in team_server.output.read_text()


@pytest.mark.usefixtures("as_client")
def test_a_sweep_reaches_the_server_with_its_files(team_server, tmp_path):
    plan, folder = planned(tmp_path, "through")
    with EventLog(folder.events) as log:
        for event in events():
            log.append(event)
    assert Tracker(plan, folder).catch_up()
    assert points_of(team_server.address, "through") == expected_points()
    assert [path.name for path in (team_server.folder.parent / "files").rglob("spec.yaml")]
    written = [path.read_text() for path in folder.path.rglob("*") if path.is_file()]
    written += [str(run.to_dictionary()) for run in runs_of(team_server.address, "through")]
    assert len(written) >= 5
    assert not [text for text in written if team_server.password in text]


@pytest.fixture(params=["the server", "the database"])
def store(request, team_server, postgres, monkeypatch):
    """The address of one store, reached in two ways."""
    uri = team_server.address if request.param == "the server" else postgres.uri
    for name, value in (team_server.environment | {"MLFLOW_TRACKING_URI": uri}).items():
        monkeypatch.setenv(name, value)
    return uri


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_postgres_restarted_during_an_export_loses_nothing(store, postgres, tmp_path, monkeypatch, how):
    name = f"restart-{how.name.lower()}-{store.partition(':')[0]}"
    monkeypatch.chdir(tmp_path)  # where a client of the database itself keeps files
    plan, folder = planned(tmp_path, name)
    exporter = Exporter(Tracker(plan, folder))
    exporter.start()
    outage = threading.Timer(2.0, lambda: (postgres.stop(how), time.sleep(1.5), postgres.start()))
    outage.start()
    with EventLog(folder.events) as log:
        for event in events():
            log.append(event)
            time.sleep(0.1)
    outage.join()
    assert exporter.stop(timeout_s=60), exporter.error
    assert points_of(store, name) == expected_points()


def test_a_team_server_is_light_and_fast(team_server):
    processes = team_server.processes()
    sizes = {(path / "cmdline").read_text().replace("\0", " ")[:200]: resident_mb(path) for path in processes.values()}
    assert len(processes) <= 3, sizes
    assert sum(sizes.values()) < 1000, sizes
    assert [path for path in processes.values() if "/uvloop/" in (path / "maps").read_text()]


def resident_mb(process):
    (line,) = [line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def test_secrets_are_in_no_argument_no_output_and_no_readable_file(team_server, postgres):
    known = [postgres.password, team_server.password, (team_server.folder / "session-key").read_text()]
    assert min(map(len, known)) > 20
    output = team_server.output.read_text()
    arguments = [(path / "cmdline").read_text() for path in team_server.processes().values()]
    assert len(arguments) >= 2
    assert not [text for text in (*arguments, output) for secret in known if secret in text]
    assert team_server.folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in team_server.folder.iterdir()}
    assert (modes["admin-password"], modes["session-key"]) == (0o600, 0o600)
    assert postgres.password not in (team_server.folder / "auth.ini").read_text()


@pytest.mark.usefixtures("team_server")
def test_another_folder_cannot_pose_as_this_databases_server(postgres, tmp_path, free_port):
    done = subprocess.run(
        [RAVEL, "serve", "--port", str(free_port), "--folder", "other"],
        cwd=tmp_path,
        env=os.environ | {"MLFLOW_BACKEND_STORE_URI": postgres.uri},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert f"{tmp_path}/other/admin-password: is not the password of admin in postgresql://***@127.0.0.1" in done.stderr
    assert "start with the --folder this database was first served from" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--store: no database is named; set MLFLOW_BACKEND_STORE_URI=postgresql://"),
        (["--store", "postgresql://ada:hunter2@host/db"], "--store: must not hold a password"),
        (["--store", "postgresql://host/db?user=ada&password=hunter2"], "--store: a password must be before the @"),
        (["--store", "mysql://ada@host/db"], "--store: must be postgresql://... (for one machine, sqlite:///... "),
        (
            ["--store", "postgresql://host/db", "--host", ANYWHERE],
            "--allowed-hosts: required because other machines can connect",
        ),
        (["--store", "postgresql://host/db", "--allowed-hosts", "*"], "--allowed-hosts: * would let every web page"),
    ],
)
def test_a_server_that_would_not_be_safe_is_refused(tmp_path, arguments, message):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = [RAVEL, "serve", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert done.stderr.startswith(message)
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("command", ["serve", "ui"])
def test_a_port_that_is_taken_is_refused(tmp_path, command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [RAVEL, command, "--port", str(port)],
            cwd=tmp_path,
            env=os.environ | {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/team.db"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (3, "")
    assert f"--port: 127.0.0.1:{port} cannot be listened on" in done.stderr
    assert not (tmp_path / "ravel-server").exists()


def test_every_wrong_argument_is_named_at_once():
    with pytest.raises(SpecError) as caught:
        team.TeamServer("mysql://host/db", "/data", Path("/nowhere"), host=ANYWHERE)
    assert [problem.path for problem in caught.value.problems] == ["--store", "--allowed-hosts"]


def test_a_secret_is_generated_once_by_the_first_caller(tmp_path):
    found = []
    threads = [threading.Thread(target=lambda: found.append(team.kept_secret(tmp_path / "secret"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == {team.kept_secret(tmp_path / "secret")}
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_a_secret_that_is_readable_or_empty_is_refused(tmp_path):
    (tmp_path / "open").write_text("secret")
    (tmp_path / "open").chmod(0o640)
    with pytest.raises(PreflightError, match=r"other users may read it \(640\); chmod 600"):
        team.kept_secret(tmp_path / "open")
    (tmp_path / "empty").touch(mode=0o600)
    with pytest.raises(PreflightError, match="is empty"):
        team.kept_secret(tmp_path / "empty")


def test_the_users_database_is_named_without_its_password():
    import sqlalchemy

    store = sqlalchemy.make_url("postgresql://ada@host:5433/runs?sslmode=require&options=-c%20a%3Db")
    given = store.set(password="hunter2")  # noqa: S106 - to be left out
    written = team.auth_config(given.render_as_string(hide_password=False))
    assert "hunter2" not in written
    read = configparser.ConfigParser()
    read.read_string(written)
    assert sqlalchemy.make_url(read["mlflow"]["database_uri"]) == store


def test_a_database_that_cannot_be_used_is_a_problem_without_its_password(postgres):
    wrong = reachable.problem_of(postgres.uri.replace(postgres.password, "hunter2"))
    assert wrong.startswith("does not answer (")
    assert "password authentication failed" in wrong
    closed = reachable.problem_of("postgresql://ada:hunter2@127.0.0.1:9/db")
    assert "Connection refused" in closed
    for uri in ("postgresql://ada:hunter2@x@127.0.0.1/db", "postgresql://ada:hun@t:er2@127.0.0.1/db"):
        assert "must be percent-encoded" in reachable.problem_of(uri)
    driver = reachable.problem_of("postgresql+pg8000://ada:hunter2@127.0.0.1/db")
    assert driver.startswith(
        "its driver pg8000 does not import (No module named 'pg8000'); write postgresql:// and pip"
    )
    assert reachable.problem_of(postgres.uri) is None
    assert "hunter2" not in wrong + closed + driver


@pytest.mark.timeout(120)
def test_the_pages_of_one_person_need_no_login_and_are_light(tmp_path, free_port, ravel_started, until_healthy):
    (tmp_path / "mlflow.db").touch()
    address, output = f"http://127.0.0.1:{free_port}", tmp_path / "output.txt"
    with ravel_started(["ui", "--port", str(free_port)], tmp_path, output) as process:
        until_healthy(address, process, output)
        assert ask(address)[0] == 200
        assert ask(address, Host=f"localhost:{free_port}")[0] == 200
        assert ask(address, Host="10.evil.example")[0] == 403
        group = subprocess.run(
            ["ps", "-o", "args=", "-g", str(process.pid)], capture_output=True, text=True, check=True
        )
        assert len(group.stdout.splitlines()) == 2, group.stdout
        assert "mlflow.db" not in group.stdout
        assert json.loads(ask(address)[1])["experiments"]
        assert fetch(address, "/")[2] == Path(mlflow.server.app.static_folder, "index.html").read_bytes()
        assert fetch(address, "/", Host="10.evil.example")[0] == 403
        with sqlite3.connect(tmp_path / "mlflow.db") as store:
            assert store.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        store.close()
