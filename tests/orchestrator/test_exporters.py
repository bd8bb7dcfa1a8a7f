"""Exporters send a few events at a time during a sweep, and everything after a long lag and at the end."""

import time

import pytest

from orchestrator.execution import exporters
from orchestrator.execution.exporters import Exporter


class Pages:
    """Target that takes one event at a time, or all of them."""

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


def test_during_a_sweep_an_exporter_sends_little_and_rests():
    target = Pages(events=1000, seconds=0.2)
    exporter = Exporter(target, poll_s=0.01)
    exporter.start()
    assert seen(lambda: target.num_sent == 2)  # no rest after the first call, which imports MLflow
    time.sleep(0.5)  # of the 6.5 s that 0.2 s are a thirtieth of
    assert target.calls == ["advance", "advance"]
    assert exporter.stop(timeout_s=30)
    assert target.calls == ["advance", "advance", "catch_up"]
    assert target.num_sent == 1000


def test_an_exporter_that_lags_for_too_long_sends_everything(monkeypatch):
    monkeypatch.setattr(exporters, "MAX_LAG_S", 0.2)
    target = Pages(events=100_000)
    exporter = Exporter(target, poll_s=0.01)
    exporter.start()
    assert seen(lambda: target.num_sent == 100_000)
    assert target.calls[0] == "advance"
    assert target.calls.count("catch_up") == 1
    assert exporter.stop(timeout_s=30)


def test_an_exporter_with_nothing_to_send_does_not_lag(monkeypatch):
    monkeypatch.setattr(exporters, "MAX_LAG_S", 0.2)
    target = Pages(events=1)
    exporter = Exporter(target, poll_s=0.01)
    exporter.start()
    assert seen(lambda: len(target.calls) > 50)
    assert set(target.calls) == {"advance"}
    assert exporter.stop(timeout_s=30)


@pytest.mark.parametrize("name", ["advance", "catch_up"])
def test_a_failure_warns_once_and_is_sent_later(name, monkeypatch, caplog):
    """An outage ends with everything sent, by either method."""
    monkeypatch.setattr(exporters, "MAX_LAG_S", 60.0 if name == "advance" else -1.0)
    target = Pages(events=10)
    working = getattr(target, name)

    def failing():
        target.calls.append(name)
        raise ConnectionError("no route")

    setattr(target, name, failing)
    exporter = Exporter(target, poll_s=0.01)
    exporter.start()
    assert seen(lambda: len(target.calls) >= 2)
    assert exporter.error == "ConnectionError: no route"
    assert caplog.text.count("MLflow lags") == 1
    setattr(target, name, working)
    assert seen(lambda: exporter.error is None)
    assert exporter.stop(timeout_s=30)
    assert target.num_sent == 10
