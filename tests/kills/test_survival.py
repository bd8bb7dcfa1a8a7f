"""What is asked of the end of a driver: silent about a good one, and each planted fault is named."""

from types import SimpleNamespace

import pytest
from kill_moments import KINDS
from survival import INTERRUPTED, RAY_LOST, _faults_of_end

from orchestrator.state.events import SweepEnded, SweepStarted, TrialEnded

LOST = "Ray's GCS at 127.0.0.1:6379 no longer answers"
STOPPED = "the driver was stopped (SIGTERM)"


def ended(reason, *, of_trial=None, printed="", code):
    """A driver that ended with a code, after a sweep was interrupted for a reason."""
    events = (
        SweepStarted(time=1.0, generation=1, host="here", pid=1),
        TrialEnded(time=2.0, trial="t000", status="interrupted", reason=of_trial or reason),
        SweepEnded(time=3.0, status="interrupted", reason=reason),
    )
    output = f"{printed}\nContinue with: ravel resume killed-1"
    return SimpleNamespace(sweep=object(), events=events, output=output, name="killed-1"), code


@pytest.mark.parametrize(
    ("kind", "end", "fault"),
    [
        ("GCS killed", ended(LOST, code=RAY_LOST), None),
        ("SIGTERM to the group", ended(STOPPED, code=INTERRUPTED), None),
        ("GCS killed", ended(LOST, code=INTERRUPTED), "the exit code is 130, not 3"),
        ("raylet killed", ended(LOST, code=RAY_LOST), f"interrupted as {LOST!r}"),
        ("GCS killed", ended("ValueError: boom", code=RAY_LOST), "interrupted as 'ValueError: boom'"),
        ("GCS killed", ended(LOST, of_trial="a bug", code=RAY_LOST), "trials were interrupted for ['a bug']"),
        ("SIGTERM to the group", ended(STOPPED, printed="raylet exited", code=INTERRUPTED), "what Ray says"),
    ],
    ids=["lost", "stopped", "another code", "another server", "another reason", "reason of a trial", "words of Ray"],
)
def test_a_fault_of_the_end_is_named_and_a_good_end_has_none(kind, end, fault):
    faults = list(_faults_of_end(*end, KINDS[kind]))
    assert (faults == []) if fault is None else (len(faults) == 1 and fault in faults[0]), faults
