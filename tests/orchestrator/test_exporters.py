"""What follows the log beside a sweep: little at a time, everything when it is late and at the end."""

import time

import pytest

from orchestrator.execution import exporters
from orchestrator.execution.exporters import Exporter


class Pages:
    """A copy of a log that nothing else reads: it takes one event at a time, or all of them."""

    def __init__(self, *, events, seconds=0.0):
        self.events, self.seconds, self.num_sent, self.calls = events, seconds, 0, []

    def advance(self):
        return self._take("advance", 1)

    def catch_up(self):
        return self._take("catch_up", self.events)

    def _take(self, name, at_most):
        self.calls.append(name)
        taken = min(at_most, self.events - self.num_sent)
        time.sleep(self.seconds if taken else 0.0)
        self.num_sent += taken
        return taken > 0


def seen(condition, *, within_s=30.0):
    deadline = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_beside_a_sweep_a_copy_takes_little_and_rests():
    copy = Pages(events=1000, seconds=0.2)
    exporter = Exporter(copy, poll_s=0.01)
    exporter.start()
    assert seen(lambda: copy.num_sent == 2)  # the first is not followed by a rest: it imports what sends
    time.sleep(0.5)  # of the 6.5 s that 0.2 s are a thirtieth of
    assert copy.calls == ["advance", "advance"]
    assert exporter.stop(timeout_s=30)
    assert copy.calls == ["advance", "advance", "catch_up"]
    assert copy.num_sent == 1000


def test_a_copy_that_lacks_something_for_too_long_takes_everything(monkeypatch):
    monkeypatch.setattr(exporters, "MAX_LAG_S", 0.2)
    copy = Pages(events=100_000)
    exporter = Exporter(copy, poll_s=0.01)
    exporter.start()
    assert seen(lambda: copy.num_sent == 100_000)
    assert copy.calls[0] == "advance"
    assert copy.calls.count("catch_up") == 1
    assert exporter.stop(timeout_s=30)


def test_a_copy_that_has_everything_is_not_late(monkeypatch):
    monkeypatch.setattr(exporters, "MAX_LAG_S", 0.2)
    copy = Pages(events=1)
    exporter = Exporter(copy, poll_s=0.01)
    exporter.start()
    assert seen(lambda: len(copy.calls) > 50)
    assert set(copy.calls) == {"advance"}
    assert exporter.stop(timeout_s=30)


@pytest.mark.parametrize("name", ["advance", "catch_up"])
def test_what_fails_is_said_once_and_sent_later(name, monkeypatch, caplog):
    """An outage ends with everything sent, whatever way it was tried."""
    monkeypatch.setattr(exporters, "MAX_LAG_S", 60.0 if name == "advance" else -1.0)
    copy = Pages(events=10)
    working = getattr(copy, name)

    def failing():
        copy.calls.append(name)
        raise ConnectionError("nobody there")

    setattr(copy, name, failing)
    exporter = Exporter(copy, poll_s=0.01)
    exporter.start()
    assert seen(lambda: len(copy.calls) >= 2)
    assert exporter.error == "ConnectionError: nobody there"
    assert caplog.text.count("MLflow is behind") == 1
    setattr(copy, name, working)
    assert seen(lambda: exporter.error is None)
    assert exporter.stop(timeout_s=30)
    assert copy.num_sent == 10
