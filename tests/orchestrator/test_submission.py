"""What is refused before a sweep is submitted to a cluster, and what its job is."""

import json
import pathlib
import shlex
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.errors import PreflightError, SpecError
from orchestrator.execution.cluster import jobs
from orchestrator.execution.cluster.jobs import Dashboard, Job, exit_code
from orchestrator.execution.cluster.sent_code import CODE_SENT
from orchestrator.execution.cluster.submission import check_submission, launch_job, resume_job
from orchestrator.planning.loading import load_spec, parse_spec

SPEC = """
name: mine
trial: {data.root: /data/mnist}
storage: {uri: "s3://bucket/sweeps"}
tracking: {uri: "http://mlflow:5000"}
"""


def check(text, *, shared_results=False):
    spec = parse_spec(text)
    check_submission(spec, storage=spec.storage.uri, tracking=spec.tracking.uri, shared_results=shared_results)


def problems(text, **options):
    with pytest.raises(SpecError) as raised:
        check(text, **options)
    return str(raised.value).splitlines()


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_a_sweep_that_a_job_can_run_is_not_refused():
    check(SPEC)
    check(SPEC.replace("s3://bucket/sweeps", "/shared/sweeps"), shared_results=True)


def test_everything_that_would_be_lost_with_the_job_is_refused_at_once(monkeypatch):
    text = SPEC.replace("s3://bucket/sweeps", "results").replace("http://mlflow:5000", "sqlite:///mlflow.db")
    said = {"all": problems(text.replace("/data/mnist", "data"))}
    text = SPEC.replace("s3://bucket/sweeps", "results")
    said["relative results"] = problems(text, shared_results=True)
    text = SPEC.replace('tracking: {uri: "http://mlflow:5000"}', "")
    said["no tracking store"] = problems(text)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:hunter2@mlflow:5000")
    said["password"] = problems(text)
    golden = Path(__file__).parent / "assets" / "refused_submissions.json"
    assert said == json.loads(golden.read_text())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    check(text)


def test_a_job_has_the_spec_and_the_code_and_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
    (tmp_path / "nets.py").write_text("NAME = 1\n")
    spec = parse_spec(SPEC)
    with launch_job(spec, "mine-1", {"nets.py": tmp_path / "nets.py"}) as job:
        folder = Path(job.runtime_env["working_dir"])
        assert sorted(path.name for path in folder.iterdir()) == ["nets.py", "sweep.json"]
        assert load_spec(folder / "sweep.json", []).canonical() == spec.canonical()
        assert shlex.split(job.entrypoint)[1:] == [
            *("ravel", "launch", "sweep.json", "--address", "auto", "--id", "mine-1"),
        ]
        assert job.runtime_env["env_vars"][CODE_SENT] == "1"
        assert "f" * 64 not in json.dumps(dict(job.runtime_env)) + job.entrypoint
    monkeypatch.chdir(tmp_path)
    assert not pathlib.Path(folder).exists()
    with resume_job("s3://bucket/sweeps/mine-1", "mine-1.resume-ab12", {}) as job:
        assert job.entrypoint == "exec ravel resume s3://bucket/sweeps/mine-1 --address auto"
        assert CODE_SENT not in job.runtime_env["env_vars"]


@pytest.mark.parametrize(
    ("status", "code", "exits"),
    [("SUCCEEDED", 0, 0), ("FAILED", 1, 1), ("FAILED", 3, 3), ("FAILED", None, 1), ("STOPPED", None, 130)],
)
def test_a_submission_exits_as_its_sweep_does(status, code, exits):
    assert exit_code(Job("mine-1", status, 0.0, code)) == exits


class BrokenConnections:
    """Client whose connections break: each receives the output from the start, and the last one all of it."""

    def __init__(self, *connections):
        self.connections = iter(connections)

    async def tail_job_logs(self, _):
        for piece in next(self.connections):
            if piece is None:
                raise RuntimeError("WebSocket connection closed unexpectedly")
            yield piece

    def get_job_info(self, _):
        return SimpleNamespace(submission_id="mine-1", status="SUCCEEDED", start_time=0, driver_exit_code=0)


def test_output_is_written_once_though_the_connection_breaks(monkeypatch):
    monkeypatch.setattr(jobs, "POLL_S", 0.0)
    dashboard, written = Dashboard.__new__(Dashboard), []
    dashboard.address = "http://head:8265"
    dashboard._client = BrokenConnections(["on", "e\n", None], [None], ["one\n", "two\n"])
    assert dashboard.follow("mine-1", written.append).status == "SUCCEEDED"
    assert "".join(written) == "one\ntwo\n"
    dashboard._client = BrokenConnections(*[[None]] * 10)
    with pytest.raises(PreflightError, match=r"no longer answers \(WebSocket .*\); the sweep may still run"):
        dashboard.follow("mine-1", written.append)


def test_a_dashboard_that_is_none_is_named():
    with pytest.raises(PreflightError, match=r"^--address http://127.0.0.1:1: nothing listens on that port"):
        Dashboard("http://127.0.0.1:1")
    with pytest.raises(PreflightError, match=r"no-such-host.invalid:8265: no host has that name; check it$"):
        Dashboard("http://no-such-host.invalid:8265")


def answer_once(server, reply):
    connection, _ = server.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(reply)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"\0\0\x12\4\0\0\0\0\0\0\3", "it speaks no HTTP"),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "it answers 404"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", "it answers with something else"),
    ],
)
def test_a_port_of_another_server_is_no_dashboard(reply, reason, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(2) as pool:
        for _ in range(2):  # without a token, and with it
            pool.submit(answer_once, server, reply)
        with pytest.raises(PreflightError, match=rf"is no dashboard of Ray \({reason}\); the dashboard's port is 8265"):
            Dashboard(f"http://127.0.0.1:{server.getsockname()[1]}")
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
