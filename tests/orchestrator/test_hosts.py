"""Hosts that lose their workers: what the log has of them, and which get no more trials."""

import pickle

import pytest

from orchestrator.decisions.hosts import TRIALS_LOST, WINDOW_S, HostCounts, excluded_hosts, unreliable_hosts
from orchestrator.decisions.retries import is_paused
from orchestrator.execution.trials.worker_error import UNKNOWN, WorkerError
from orchestrator.execution.tune.worker_errors import plain_reason, worker_error
from orchestrator.state.events import AttemptFailed, AttemptStarted, TrialCreated, TrialEnded, decode, encode
from orchestrator.state.sweep_state import SweepState
from trainables.errors import CheckpointError, TrialFailed, WorkerUnusable


class Log:
    """Events of a sweep, one second after the other."""

    def __init__(self):
        self.events, self.now = [], 0.0

    def attempt(self, trial, host, *, attempt=1):
        """One trial starts on a host."""
        self._append(TrialCreated, trial=trial, origin="search", point={}, config={"epochs": 3})
        self._append(AttemptStarted, trial=trial, attempt=attempt, host=host)

    def lost(self, trial, host, cause="infrastructure", shared_by=None):
        """One attempt on a host is lost."""
        self.attempt(trial, host)
        lost = {"trial": trial, "attempt": 1, "cause": cause, "reason": "its worker died", "shared_by": shared_by}
        self._append(AttemptFailed, **lost)

    def ended(self, trial, host, status="completed", cause=None):
        """One trial ends on a host."""
        self.attempt(trial, host)
        self._append(TrialEnded, trial=trial, status=status, cause=cause)

    def _append(self, kind, **fields):
        self.now += 1.0
        self.events.append(kind(time=self.now, **fields))

    def unreliable(self, *, later=0.0):
        """The hosts that the log, as it is on disk, makes unreliable."""
        state = SweepState(decode(encode(event)) for event in self.events)
        return unreliable_hosts(state.hosts, now=self.now + later)


@pytest.fixture
def log():
    return Log()


def test_a_host_that_loses_three_trials_is_unreliable_for_an_hour(log):
    for trial in ("t000", "t001"):
        log.lost(trial, "bad")
        assert log.unreliable() == {}
    log.lost("t002", "bad")
    assert log.unreliable() == {"bad": HostCounts(lost=3, kept=0)}
    assert log.unreliable(later=WINDOW_S / 2) == log.unreliable()
    assert log.unreliable(later=WINDOW_S) == {}


def test_a_trial_that_kills_its_worker_everywhere_makes_no_host_unreliable(log):
    for _ in range(5):
        log.lost("t000", "good")
    assert log.unreliable() == {}


def test_a_host_that_keeps_most_of_its_attempts_stays(log):
    for number, status in enumerate(("completed", "stopped", "paused", "diverged")):
        log.ended(f"t10{number}", "busy", status=status)
    for number in range(4):
        log.lost(f"t00{number}", "busy")
    assert log.unreliable() == {}
    log.lost("t004", "busy")
    assert log.unreliable() == {"busy": HostCounts(lost=5, kept=4)}


def test_a_trial_that_fails_for_good_counts_against_its_host_if_that_lost_it(log):
    for number in range(TRIALS_LOST):
        log.ended(f"t00{number}", "lost it", status="failed", cause="infrastructure")
        log.ended(f"t00{number}", "own error", status="failed", cause="user")
    assert list(log.unreliable()) == ["lost it"]


@pytest.mark.parametrize("cause", ["preemption", "user"])
def test_only_losses_to_the_infrastructure_count(log, cause):
    for number in range(9):
        log.lost(f"t00{number}", "host", cause=cause)
    assert log.unreliable() == {}


def test_a_failure_that_trials_of_a_worker_share_counts_against_no_host_and_no_trial(log):
    for number in range(9):
        log.lost(f"t00{number}", "host", shared_by=9)
    assert log.unreliable() == {}
    trial = SweepState(log.events).trials["t000"]
    assert (trial.failures_of("infrastructure"), is_paused(trial, now=log.now)) == (0, False)
    alone = AttemptFailed(time=log.now, trial="t000", attempt=2, cause="infrastructure", reason="its worker died")
    trial.failures.extend([alone, alone, trial.failures[0].model_copy(update={"time": log.now})])
    assert (trial.failures_of("infrastructure"), is_paused(trial, now=log.now)) == (2, False)
    trial.failures.append(alone)
    assert is_paused(trial, now=log.now)


def test_an_interrupted_attempt_says_nothing_about_its_host(log):
    for number in range(9):
        log.ended(f"t10{number}", "bad", status="interrupted")
    for number in range(3):
        log.lost(f"t00{number}", "bad")
    assert log.unreliable() == {"bad": HostCounts(lost=3, kept=0)}


def test_a_loss_before_the_next_attempt_began_is_not_counted_against_the_last_host(log):
    for number in range(3):
        log.ended(f"t00{number}", "last", status="paused")
        log._append(AttemptFailed, trial=f"t00{number}", attempt=1, cause="infrastructure", reason="lost in its reset")
    assert log.unreliable() == {}


def test_attempts_of_older_logs_have_no_host(log):
    old = '{"v":4,"time":1.0,"kind":"attempt_started","trial":"t000","attempt":1}'
    ended = '{"v":4,"time":1.0,"kind":"trial_ended","trial":"t000","status":"failed"}'
    assert AttemptStarted.model_validate_json(old).host is None
    assert TrialEnded.model_validate_json(ended).cause is None
    assert b"host" not in encode(AttemptStarted.model_validate_json(old)), "the same bytes as before"
    assert b"cause" not in encode(TrialEnded.model_validate_json(ended))
    for number in range(9):
        log.lost(f"t00{number}", None)
    assert log.unreliable() == {}


@pytest.mark.parametrize(
    ("unreliable", "usable", "excluded"),
    [
        ({"a"}, {"a", "b", "c"}, {"a"}),
        ({"a", "b"}, {"a", "b", "c"}, {"a", "b"}),
        ({"a", "b"}, {"a", "b"}, set()),
        ({"a", "gone"}, {"a"}, set()),
        ({"gone"}, {"a"}, set()),
        (set(), {"a"}, set()),
        ({"a"}, set(), set()),
    ],
)
def test_never_all_hosts_are_excluded(unreliable, usable, excluded):
    assert excluded_hosts(unreliable, usable) == excluded


class Raised(Exception):
    """What Ray's error of a task has: the actor's exception as its cause."""

    def __init__(self, cause):
        super().__init__(cause)
        self.cause = cause


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TrialFailed("ValueError: boom", "Traceback"), WorkerError("user", "ValueError: boom", "Traceback")),
        (WorkerUnusable("no device", "Traceback"), WorkerError("infrastructure", "no device", "Traceback")),
        (
            CheckpointError("/c", "damaged", "use an older one"),
            WorkerError("infrastructure", "CheckpointError: /c: damaged; use an older one", "ray::train()\nTraceback"),
        ),
    ],
    ids=["own", "device", "checkpoint"],
)
def test_an_error_that_a_worker_raised_says_whose_fault_it_is(tmp_path, error, expected):
    (tmp_path / "error.txt").write_text("Failure # 1 (occurred at now)\nray::train()\nTraceback\n")
    (tmp_path / "error.pkl").write_bytes(pickle.dumps(Raised(error)))
    assert worker_error(str(tmp_path / "error.txt"), str(tmp_path / "error.pkl")) == expected


def test_a_worker_without_a_word_died(tmp_path):
    assert worker_error(None, None) == WorkerError("infrastructure", UNKNOWN, None)
    (tmp_path / "error.pkl").write_bytes(b"not a pickle")
    assert worker_error(str(tmp_path / "no"), str(tmp_path / "error.pkl")) == WorkerError(
        "infrastructure", UNKNOWN, None
    )


DIED = "The actor died unexpectedly before finishing this task.\n\tpid: 7\n"
KILLED = (
    "The actor is dead because its worker process has died. Worker unexpectedly exits with a connection error code 2."
)
NODE = "The actor died because its node has died. Node Id: 5f"
UNAVAILABLE = "The actor 3feb is unavailable: The actor is temporarily unavailable: RpcError: RPC error: Socket closed"
SETUP = "The actor died because of an error raised in its creation task, ray::Sweep.__init__()\n  File x\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "1 worker(s) were killed due to the node running low on memory.\nOOM ...",
            "its worker was killed because its",
        ),
        (DIED + KILLED, "its worker was killed or crashed; if dmesg on its machine says out of memory, run fewer"),
        (DIED + NODE, "its machine is gone, or no longer answers"),
        (UNAVAILABLE, "the connection to its worker broke"),
        (SETUP + "ObjectMissing: s3://b/data: no such object", "ObjectMissing: s3://b/data: no such object"),
        ("", UNKNOWN),
    ],
    ids=["memory", "killed", "node", "connection", "setup", "nothing"],
)
def test_a_lost_worker_has_its_reason_in_plain_words(text, reason):
    assert plain_reason(text).startswith(reason)
    assert "\n" not in plain_reason(text)
