"""What Ray's servers report to a driver is logged, and not printed between the lines of a sweep."""

import logging
import threading
from types import SimpleNamespace

import pytest

from orchestrator.execution.cluster import messages

pytest.importorskip("ray")
from ray._private import worker

LOST = "The node with node id: 5b1f and address: 10.77.0.3 has been marked dead because the detector has missed too"


def listen_to(line):
    """Run Ray's own listener until its connection ends; the server has one message."""
    received = iter([{"job_id": None, "error_message": line}])

    def poll():
        message = next(received, None)
        if message is None:
            raise ConnectionError("the server is gone")
        return b"", message

    job = SimpleNamespace(binary=lambda: b"1")
    subscriber = SimpleNamespace(subscribe=lambda: None, poll=poll)
    worker.listen_error_messages(
        SimpleNamespace(gcs_error_subscriber=subscriber, current_job_id=job), threading.Event()
    )


@pytest.fixture(autouse=True)
def quiet_listener(monkeypatch):
    """Silence what the listener says about the end of the connection, which is ours."""
    monkeypatch.setattr(worker.logger, "error", lambda *_: None)


def test_messages_of_rays_servers_reach_the_log_and_not_the_terminal(capsys, caplog):
    with caplog.at_level(logging.INFO, logger=messages.__name__), messages.logged():
        listen_to(LOST)
    assert capsys.readouterr().out == ""
    assert [record.getMessage() for record in caplog.records] == [f"Ray: {LOST}"]


def test_ray_prints_its_messages_as_before_when_the_sweep_has_ended(capsys):
    with messages.logged():
        pass
    listen_to(LOST)
    assert LOST in capsys.readouterr().out
