"""What a sweep must do when something happens to it: end by itself, say how to continue, lose and double nothing."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launched import name_of
from sweep_invariants import OF_EXPORTS, violations

from orchestrator.errors import OrchestratorError
from orchestrator.state.events import AttemptFailed, SweepEnded, TrialEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from launched import Launched
    from moments import Moment
    from outcomes import Outcome

BEGINS_S, ENDS_S, LEAVES_S = 420.0, 300.0, 60.0
"""Time in which a moment comes, in which a driver ends, and in which its processes do: longer is a hang.

On a busy machine a worker may need minutes to import torch.
"""
RAY_LOST = 3
RAY_EXITS = 1
"""Exit code with which Ray's own code ends a driver whose raylet dies while it registers, before a sweep begins."""
INTERRUPTED = 130
KILLED = -9
OF_RAY = ("GCS", "raylet")


@dataclass(frozen=True)
class Blow:
    """What was done at a moment: ``heal`` ends it after ``lasts_s``; ``ready`` returns when a next driver can run."""

    heal: Callable[[], object] = lambda: None
    lasts_s: float = 0.0
    ready: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Fault:
    """What happens at a moment.

    Args:
        strike: Does it; returns what ends it, if something does.
        code: Exit code of a sweep that does not complete because of it; 0 if every sweep must.
        has_noticed: Returns True once the driver knows, given the number of events at the moment.
        reason: Pattern of the reason of an interrupted sweep.
    """

    strike: Callable[[Launched, Moment], Blow | None]
    code: int
    has_noticed: Callable[[Launched, int], bool] | None = None
    reason: str = ""


def faults_of(sweep: Launched, moment: Moment, fault: Fault, outcome: Outcome) -> Iterator[str]:
    """Yield what must not be: wait for the moment, strike, wait for the end, resume."""
    if not sweep.wait_until(lambda: moment.has_come(sweep) or sweep.driver.poll() is not None, BEGINS_S):
        yield "the moment never came"
        return
    time.sleep(moment.delay_s)
    if sweep.driver.poll() is not None and moment.place != "the end":
        yield f"the driver ended with {sweep.driver.poll()} before the moment"
        return
    before, struck_at, clock = sweep.events, time.monotonic(), time.time()
    blow = fault.strike(sweep, moment) or Blow()
    if not _ended(sweep, fault, blow, outcome, num_before=len(before), struck_at=struck_at):
        yield f"the driver did not end within {ENDS_S:.0f} s"
        sweep.driver.kill()
    outcome.code, outcome.seconds = sweep.driver.wait(), time.monotonic() - struck_at
    outcome.recorded_s = sweep.events[-1].time - clock if sweep.events else None
    if not sweep.wait_until(lambda: not sweep.processes(), LEAVES_S):
        yield f"{[name_of(pid) for pid in sweep.processes()]} outlive the driver"
    if "Traceback" in sweep.output:
        yield "the driver printed a traceback"
    yield from _faults_of_end(sweep, outcome.code, fault)
    lags = " lags (" in sweep.output or outcome.code == KILLED
    yield from _broken(sweep, before, "when the driver had ended", without=OF_EXPORTS if lags else frozenset())
    blow.ready()
    yield from _faults_of_the_rest(sweep, sweep.events, outcome)


def _ended(sweep: Launched, fault: Fault, blow: Blow, outcome: Outcome, *, num_before: int, struck_at: float) -> bool:
    """Wait for the end of the driver, and end the blow in time; return False if the driver hangs."""
    with ThreadPoolExecutor(1) as pool:
        healing = None
        while (passed_s := time.monotonic() - struck_at) < ENDS_S + blow.lasts_s:
            if healing is None and passed_s >= blow.lasts_s:
                healing = pool.submit(blow.heal)
            if outcome.noticed_s is None and fault.has_noticed is not None and fault.has_noticed(sweep, num_before):
                outcome.noticed_s = passed_s
            if sweep.driver.poll() is not None:
                break
            time.sleep(0.1)
        if healing is None:
            time.sleep(max(0.0, blow.lasts_s - passed_s))
            healing = pool.submit(blow.heal)
        healing.result()
    return sweep.driver.poll() is not None


def _faults_of_end(sweep: Launched, code: int, fault: Fault) -> Iterator[str]:
    """The log says that the sweep completed, and the exit code is 0; or it says how to continue, and in the output."""
    folder, events, interrupted_code = sweep.sweep, sweep.events, fault.code
    if code == interrupted_code == KILLED:
        return
    if folder is None or not events:
        allowed = {interrupted_code, 2, RAY_EXITS} if interrupted_code == RAY_LOST else {interrupted_code}
        if code not in allowed:
            yield f"exit code {code} before a sweep began, not one of {sorted(allowed)}"
        return
    if not isinstance(events[-1], SweepEnded):
        yield f"the log ends in {events[-1].kind}, the exit code is {code}"
    elif events[-1].status == "completed":
        if code != 0:
            yield f"exit code {code} of a completed sweep"
    elif (events[-1].status, code) != ("interrupted", interrupted_code):
        yield f"the sweep is {events[-1].status}, the exit code is {code}, not {interrupted_code}"
    elif re.search(fault.reason, events[-1].reason or "") is None:
        yield f"the sweep was interrupted as {events[-1].reason!r}, not {fault.reason!r}"
    elif any(end.reason != events[-1].reason for end in _interrupted(events)):
        yield f"trials were interrupted for {sorted({end.reason for end in _interrupted(events)})}"
    elif code == INTERRUPTED and any(word in sweep.output for word in OF_RAY):
        yield "the driver printed what Ray says of its own end"
    if (code != 0) != (f"ravel resume {sweep.name}" in sweep.output):
        yield f"exit code {code}, and the output {'names' if code == 0 else 'does not name'} ravel resume"


def _interrupted(events: tuple) -> list[TrialEnded]:
    return [event for event in events if isinstance(event, TrialEnded) and event.status == "interrupted"]


def _broken(sweep: Launched, before: tuple, when: str, *, without: frozenset[str] = frozenset()) -> Iterator[str]:
    if sweep.sweep is None:
        if sweep.driver.returncode != RAY_EXITS and any(sweep.temporary.glob("ravel-ray-*")):
            yield f"a folder of Ray is left {when}"
        return
    try:
        broken = violations(sweep.evidence(before))
    except OrchestratorError as error:
        yield f"the sweep cannot be read {when}: {error}"
        return
    for name, texts in broken.items():
        if name not in without:
            yield f"{name} {when}: {'; '.join(texts[:3])}"


def _faults_of_the_rest(sweep: Launched, before: tuple, outcome: Outcome) -> Iterator[str]:
    """Resume the sweep to its end, or launch another where none had begun."""
    outcome.resumed_code, text = sweep.next_driver()
    if outcome.resumed_code != 0:
        yield f"exit code {outcome.resumed_code} of the next driver: {text[-600:]}"
    if sweep.sweep is None:
        return
    evidence = sweep.evidence(before)
    if not evidence.is_finished:
        yield "the sweep is not finished"
    lost = [event for event in evidence.events if isinstance(event, AttemptFailed) and event.cause != "user"]
    outcome.retries = len(lost)
    outcome.count(violations(evidence))
    yield from _broken(sweep, before, "at the end")
    if not sweep.wait_until(lambda: not sweep.processes(), LEAVES_S):
        yield f"{[name_of(pid) for pid in sweep.processes()]} outlive the last driver"
