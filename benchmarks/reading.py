"""Measure what a sweep of 2,000 trials costs the commands that read its log, and the tracker.

The sweep is made up, as ASHA would leave it: a quarter of the trials with all 60 epochs, the rest stopped after 3 to
14, twelve metrics each. ``EventLog`` writes its log, and ``Tracker`` sends it to a sqlite file. A command is a whole
process, from start to exit, the median of three. A sweep a sixteenth as large is sent twice.

Prediction, written before the first run: about 510,000 points at 7,000 points/s; ``best``, ``status`` and ``list`` 1.5
s, of which half is reading the log; ``sync``, which sends everything a second time, half as fast as the first time.
Bound: 2 s for the three commands. Result on two idle cores: 511,716 points at 7,900 points/s; ``best``, ``status`` and
``list`` 0.5 s; ``sync`` 3,000 points/s, none added. On cores half as fast, ``best`` takes 0.8 to 1.2 s.

    python benchmarks/reading.py --trials 2000
"""

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

METRICS = (
    *("train/loss", "train/ce", "train/snnl", "val/accuracy", "val/nll", "val/ece", "val/robust_accuracy"),
    *("entanglement/conv1", "entanglement/conv2", "time/epoch_s", "time/images_per_s", "cost/gpu_s"),
)
EPOCHS = 60
SPEC = f"""
name: scale
trial: {{epochs: {EPOCHS}}}
space: {{use: [snnl, mixup, adversarial]}}
search: {{num_trials: %d}}
scheduler: {{grace_period: 3, reduction_factor: 3}}
"""
BOUND_S = 2.0
TIMES = 3
SYNCED = 16
RAVEL = str(Path(sys.executable).with_name("ravel"))


def make_sweep(root: Path, trials: int) -> tuple[Any, Any]:
    """Write a plan and its whole log to a folder of results below ``root``."""
    from orchestrator.planning.loading import parse_spec  # noqa: PLC0415
    from orchestrator.planning.plan import make_plan  # noqa: PLC0415
    from orchestrator.state.event_log import EventLog  # noqa: PLC0415
    from orchestrator.state.sweep_folder import SweepFolder  # noqa: PLC0415

    folder = SweepFolder(root / "results" / "scale-20260101-000000")
    folder.path.mkdir(parents=True)
    plan = make_plan(parse_spec(SPEC % trials), folder, slots=4, now=0.0, working_directory=root)
    plan.save(folder)
    with EventLog(folder.events) as log:
        for event in events(plan, trials):
            log.append(event)
    return plan, folder


def events(plan: Any, trials: int) -> Iterator[Any]:
    """Yield the events of one trial after the other, a second for each epoch."""
    from orchestrator.state.events import SweepEnded, SweepStarted  # noqa: PLC0415

    rng, now = random.Random(0), 1e9
    yield SweepStarted(time=now, generation=1, host="here", pid=1)
    for index, point in enumerate(plan.spec.space.sample_many(trials, seed=0)):
        epochs = EPOCHS if index % 4 == 0 else rng.randint(3, 14)
        yield from events_of_trial(plan, index, point, epochs=epochs, now=now, rng=rng)
        now += epochs + 1
    yield SweepEnded(time=now, status="completed")


def events_of_trial(
    plan: Any, index: int, point: dict[str, Any], *, epochs: int, now: float, rng: random.Random
) -> Iterator[Any]:
    """Yield the events of a trial, which was stopped if it lacks epochs."""
    from orchestrator.planning.seeds import trial_id  # noqa: PLC0415
    from orchestrator.planning.trial_configs import trial_config  # noqa: PLC0415
    from orchestrator.state.events import (  # noqa: PLC0415
        AttemptStarted,
        CheckpointSaved,
        EpochReported,
        TrialCreated,
        TrialEnded,
    )

    trial, best = trial_id(index), rng.random()
    config, origin = trial_config(plan, trial, point), "search" if index else "baseline"
    yield TrialCreated(time=now, trial=trial, origin=origin, point=point, config=config)
    yield AttemptStarted(time=now, trial=trial, attempt=1)
    for epoch in range(1, epochs + 1):
        metrics = {name: best - rng.random() / epoch for name in METRICS}
        yield EpochReported(time=now + epoch, trial=trial, attempt=1, epoch=epoch, since_restore=epoch, metrics=metrics)
    yield CheckpointSaved(time=now + epochs, trial=trial, epoch=epochs, path=f"checkpoints/{trial}/{epochs}")
    ended = {"status": "completed"} if epochs == EPOCHS else {"status": "stopped", "rung": epochs}
    yield TrialEnded(time=now + epochs, trial=trial, **ended)


def points_in(store: Path) -> int:
    """Count the metric points of trials in a sqlite store."""
    import sqlite3  # noqa: PLC0415

    with contextlib.closing(sqlite3.connect(store)) as connection:
        of_trials = "SELECT run_uuid FROM tags WHERE key = 'ravel.kind' AND value = 'trial'"
        (count,) = connection.execute(f"SELECT count(*) FROM metrics WHERE run_uuid IN ({of_trials})").fetchone()  # noqa: S608
    return int(count)


def seconds(action: Callable[[], object]) -> float:
    """Return the time that an action takes, in seconds."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def ravel(*arguments: str, cwd: Path) -> str:
    """Return the standard output of a command."""
    done = subprocess.run([RAVEL, *arguments], cwd=cwd, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        sys.exit(f"ravel {' '.join(arguments)}: {done.stderr[-3000:]}")
    return done.stdout


def print_seconds(measure: str, *taken: float, bound_s: float | None = None, **facts: object) -> None:
    """Print one line of JSON: the median, the slowest of several, and ``within``: true if the bound is met."""
    line: dict[str, object] = {"measure": measure, "seconds": round(statistics.median(taken), 2)}
    if len(taken) > 1:
        line["slowest"] = round(max(taken), 2)
    if bound_s is not None:
        line |= {"bound_s": bound_s, "within": statistics.median(taken) < bound_s}
    print(json.dumps({**line, **facts}), flush=True)


def main() -> None:
    """Make the sweep, track it, then measure everything that reads it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    options = parser.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # the store is a file of the benchmark's own
    with tempfile.TemporaryDirectory() as folder:
        measure_reading(Path(folder), options.trials)
    with tempfile.TemporaryDirectory() as folder:
        measure_sync(Path(folder), max(1, options.trials // SYNCED))


def measure_reading(root: Path, trials: int) -> None:
    """Measure writing and tracking a sweep, and the commands that read it."""
    from orchestrator.state.log_segments import num_events  # noqa: PLC0415
    from orchestrator.tracking.tracker import Tracker  # noqa: PLC0415

    began = time.perf_counter()
    plan, sweep = make_sweep(root, trials)
    size_mb = round(sum(file.stat().st_size for file in sweep.path.glob("events*.jsonl")) / 1e6, 1)
    print_seconds("write the log", time.perf_counter() - began, events=num_events(sweep.events), megabytes=size_mb)
    taken = seconds(Tracker(plan, sweep).catch_up)
    points = points_in(root / "mlflow.db")
    print_seconds("track it", taken, points=points, points_per_s=round(points / taken))
    for command in (["best", "scale"], ["status"], ["list"]):
        taken_each = [seconds(lambda: ravel(*command, cwd=root)) for _ in range(TIMES)]  # noqa: B023  called at once
        print_seconds(f"ravel {command[0]}", *taken_each, bound_s=BOUND_S)
    print_seconds("ravel compare", *(seconds(lambda: ravel("compare", "scale", cwd=root)) for _ in range(TIMES)))


def measure_sync(root: Path, trials: int) -> None:
    """Measure sending a smaller sweep a second time, which may add no point."""
    from orchestrator.tracking.tracker import Tracker  # noqa: PLC0415

    Tracker(*make_sweep(root, trials)).catch_up()
    points = points_in(root / "mlflow.db")
    taken = seconds(lambda: ravel("sync", "scale", cwd=root))
    added = points_in(root / "mlflow.db") - points
    print_seconds("ravel sync", taken, trials=trials, points_per_s=round(points / taken), points_added=added)
    assert added == 0  # noqa: S101


if __name__ == "__main__":
    main()
