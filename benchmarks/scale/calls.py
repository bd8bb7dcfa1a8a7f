"""Function calls and SQL statements for each trial of a sweep, which no other program on the machine changes.

`scale.py` runs it in a process of its own, and it prints JSON. It runs a sweep in worker processes, counts in the
thread that runs its trials, and then in what reads its log. No MLflow runs meanwhile.
"""

import argparse
import cProfile
import io
import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from sweeps import HERE, SPEC

from orchestrator import launch
from orchestrator.analysis.replay import replay
from orchestrator.analysis.result import SweepResult
from orchestrator.analysis.sweep_progress import progress
from orchestrator.cli.shared.live_display import PlainDisplay
from orchestrator.decisions.trial_views import DecisionState
from orchestrator.execution.exporters import Exporter
from orchestrator.execution.trials.loop_thread import LoopThread
from orchestrator.planning.loading import override, parse_spec
from orchestrator.state.event_log import read_events
from orchestrator.state.sweep_state import SweepState
from orchestrator.tracking.tracker import Tracker

FEW = 10
"""Trials of the sweep that is run first, so that what is done once is not counted."""


def counted(action: Callable[[], object]) -> int:
    """Return the number of function calls of an action."""
    profile = cProfile.Profile()
    profile.runcall(action)
    return calls_of(profile)


def calls_of(profile: cProfile.Profile) -> int:
    """Return the number of function calls that a profile counted."""
    profile.create_stats()
    return sum(calls for _, calls, *_ in profile.stats.values())  # type: ignore[attr-defined]


def swept(trials: int) -> tuple[SweepResult, int]:
    """Run a sweep with the lines of `ravel launch`; return it, with the calls of the thread that ran its trials."""
    profile, run = cProfile.Profile(), LoopThread.run
    LoopThread.run = lambda self: profile.runcall(run, self)  # type: ignore[method-assign]
    try:
        spec = override(parse_spec(SPEC), [f"search.num_trials={trials}"])
        display = PlainDisplay(Console(file=io.StringIO(), width=200))
        return launch(spec, address="processes", callback=display), calls_of(profile)
    finally:
        LoopThread.run = run  # type: ignore[method-assign]


def tracked(result: SweepResult) -> dict[str, int]:
    """Send a sweep to a new store as a running driver does, a few events at a time; return calls and statements."""
    statements, connect = [0], sqlite3.connect

    def counting(*arguments: object, **settings: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **settings)  # type: ignore[call-overload]
        connection.set_trace_callback(lambda _: statements.__setitem__(0, statements[0] + 1))
        return connection

    sqlite3.dbapi2.connect = sqlite3.connect = counting  # type: ignore[assignment]
    tracker = Tracker(result.plan, result.folder)
    tracker.advance()  # which makes the store
    statements[0] = 0

    def send() -> None:
        while tracker.advance():
            pass

    return {"tracking": counted(send), "statements": statements[0]}


def main() -> None:
    """Print what each trial of a sweep costs in calls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trials", type=int)
    trials = parser.parse_args().trials
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        Path("trivial.py").write_text((HERE / "trivial.py").read_text(encoding="utf-8"), encoding="utf-8")
        sys.path.insert(0, folder)
        Exporter.start = lambda _: None  # type: ignore[method-assign]
        Exporter.stop = lambda *_, **__: True  # type: ignore[method-assign]
        swept(FEW)
        result, loop = swept(trials)
        log, plan = result.folder.events, result.plan
        counts = {
            "driver": loop,
            "reading": counted(lambda: SweepState.read(log)),
            "status": counted(lambda: progress(plan, SweepState.read(log), now=0.0)),
            "resuming": counted(lambda: DecisionState(plan, SweepState.read(log))),
            "replaying": counted(lambda: replay(plan, (event for event, _ in read_events(log)))),
            **tracked(result),
        }
        print(json.dumps({name: count / trials for name, count in counts.items()}))


if __name__ == "__main__":
    main()
