"""The way into MLflow's pages."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from orchestrator.redaction import server_address
from orchestrator.tracking import pages
from orchestrator.tracking.cursor import Cursor

SERVE = (
    "from orchestrator.mlflow_server import processes; print('first', end=''); processes.serve({uri!r}, port={port})"
)


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("http://127.0.0.1:5000/", "http://127.0.0.1:5000"),
        ("https://ada:hunter2@host/mlflow/", "https://host/mlflow"),
        ("http://ada:hunter2@x@host:5000", "http://host:5000"),
        ("http://token@[::1]:5000", "http://[::1]:5000"),
    ],
)
def test_an_address_for_a_browser_is_without_user_and_trailing_slash(uri, address):
    assert server_address(uri) == address


def test_no_page_carries_a_password():
    cursor = Cursor(experiment="1", runs={"t000": "ab"})
    base = "http://ada:hunter2@host:5000/"
    assert pages.compare_page(base, cursor).startswith("http://host:5000/#/compare-runs?")
    assert pages.runs_page(base, cursor, "digits-1").startswith("http://host:5000/#/experiments/1/runs?")


def test_a_compare_page_names_the_first_hundred_runs():
    cursor = Cursor(experiment="1", runs={f"t{index:03d}": f"run{index:03d}" for index in range(150)})
    page = pages.compare_page("http://host", cursor)
    assert pages.MAX_RUNS_IN_ADDRESS == 100
    assert "run099" in page
    assert "run100" not in page


@pytest.mark.timeout(120)
def test_a_served_store_ends_with_the_process_that_was_started(tmp_path, free_port):
    """SIGTERM to the command ends the server too; its store's address is in no argument list."""
    uri = f"sqlite:///{tmp_path}/secret.db"
    with (tmp_path / "output.txt").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE.format(uri=uri, port=free_port)],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until_served(free_port, process)
        group = arguments_of_group(process.pid)
        assert len(group) >= 2
        assert not [arguments for arguments in group.values() if "secret.db" in arguments]
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert arguments_of_group(process.pid) == {}
    finally:
        if arguments_of_group(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
    assert (tmp_path / "output.txt").read_text().startswith("first")


def wait_until_served(port, process):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(port)


def arguments_of_group(group):
    """The arguments of each living process of a process group."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, _, of = (path / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(of) == group and state != "Z":
                found[path.name] = (path / "cmdline").read_text()
        except OSError:
            continue
    return found
