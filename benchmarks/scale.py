"""What a sweep of 2,000 trials costs whoever looks at it: the commands that read its log, and MLflow's table of it.

The sweep is made up, as ASHA would leave it: a quarter of the trials with all 60 epochs, the others stopped after 3 to
14, twelve metrics each; its log is written by ``EventLog`` and tracked to a sqlite file by ``Tracker``. Commands are
whole processes, from start to exit, the median of three. The table view is the time from its address, in an open tab,
to the frame with its first row, in headless Chromium, the median of seven (left out where there is no Chromium): in a
fresh browser, there in turn with plain ``mlflow ui``; in one with a profile that was there twice and keeps the pages'
scripts compiled; and coming from the list of experiments. A sweep a sixteenth as large is sent twice, and its table
opened too: what the pages cost at any size.

Prediction, written before the first run: about 510,000 points at 7,000 points/s; ``best``, ``status`` and ``list`` 1.5
s, of which half is reading the log; the table view 1.5 s; ``sync``, which sends all of it again, half as fast as the
first time. Bound: 2 s for the three commands and the table view. Result on two idle cores: 511,716 points at 7,900
points/s; ``best``, ``status`` and ``list`` 0.5 s; ``sync`` 3,000 points/s, none added; a first visit to the table 1.99
s, as long with 125 trials. That was with Playwright, which follows every request on the cores that the page wants (a
quarter of the time, on the cores below), and with all 100 rows drawn before one was seen (a fifth).

All later numbers are from cores half as fast (``best`` 0.8 s, in the last runs 1.2 s), whose speed changes by a third
within minutes. A first visit takes 1.7 to 2.7 s (medians of eight runs, three of them within the bound), 0.62 to 0.72
of what it takes with ``mlflow ui``; where the profile was there before 1.3 to 1.9 s; from the list 1.0 to 1.5 s. Two
thirds of it are the pages' own script on the browser's main thread, a third of that compiling functions when they are
first called; the thread waits for a core a fifth of the time. Tried, and no faster by more than chance: the later
scripts announced in the page (``preload``, ``prefetch``), or all in one file (0.95), compile hints for V8, React's
concurrent root (1.07), answers without white space, fewer columns or none chosen, fewer rows drawn ahead, no
animations, no garbage collection in the server, the server at a lower priority.

    python benchmarks/scale.py --trials 2000
"""

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pages.chromium import CHROMIUM, Chromium

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
TIMES, VISITS = 3, 7
KEPT_AFTER = 2
"""Visits after which Chromium keeps a page's scripts compiled."""
SYNCED = 16
RAVEL, MLFLOW = (str(Path(sys.executable).with_name(name)) for name in ("ravel", "mlflow"))
LISTED = "a[href*='/experiments/1']"
FIRST_ROW = ".ag-pinned-left-cols-container .ag-row[row-index='0']"


def make_sweep(root: Path, trials: int) -> tuple[Any, Any]:
    """A plan and its whole log, in a folder of results below ``root``."""
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
    """One trial after the other, a second for each epoch."""
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
    """A trial that was stopped where it has not all its epochs."""
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
    """How many metric points of trials a sqlite store holds."""
    import sqlite3  # noqa: PLC0415

    with contextlib.closing(sqlite3.connect(store)) as connection:
        of_trials = "SELECT run_uuid FROM tags WHERE key = 'ravel.kind' AND value = 'trial'"
        (count,) = connection.execute(f"SELECT count(*) FROM metrics WHERE run_uuid IN ({of_trials})").fetchone()  # noqa: S608
    return int(count)


def seconds(action: Callable[[], object]) -> float:
    """How long it took."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def ravel(*arguments: str, cwd: Path) -> str:
    """What a command printed."""
    done = subprocess.run([RAVEL, *arguments], cwd=cwd, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        sys.exit(f"ravel {' '.join(arguments)}: {done.stderr[-3000:]}")
    return done.stdout


def tell(measure: str, *taken: float, bound_s: float | None = None, **facts: object) -> None:
    """One line of JSON: the median, the slowest where there are several, and whether it is within its bound."""
    line: dict[str, object] = {"measure": measure, "seconds": round(statistics.median(taken), 2)}
    if len(taken) > 1:
        line["slowest"] = round(max(taken), 2)
    if bound_s is not None:
        line |= {"bound_s": bound_s, "within": statistics.median(taken) < bound_s}
    print(json.dumps({**line, **facts}), flush=True)


@contextlib.contextmanager
def served(root: Path, *command: str) -> Iterator[str]:
    """A server's pages over the store: its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, "--port", str(port)], cwd=root, start_new_session=True, **quiet)  # noqa: S603
    try:
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            time.sleep(0.3)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def measure_table(root: Path, trials: int) -> None:
    """The prepared table view, to its first row: in a fresh browser, in one that knows the pages, and among them."""
    plain = (MLFLOW, "ui", "--backend-store-uri", "sqlite:///mlflow.db")
    with served(root, RAVEL, "ui") as address, served(root, *plain) as theirs:
        table = json.loads(ravel("compare", "scale", "--server", address, "--json", cwd=root))["views"]["table"]
        tables = {"ours": table, "theirs": table.replace(address, theirs)}
        first: dict[str, list[float]] = {name: [] for name in tables}
        for number in range(1 + VISITS):  # the first with a cold server
            for name, link in tables.items():
                first[name] += visits(link, root / f"{name}{number}", times=1)
        again = visits(table, root / "kept", times=KEPT_AFTER + VISITS)
        from_list = visits(table, root / "kept", times=VISITS, coming_from=f"{address}/#/experiments")
    ratios = (ours / theirs for ours, theirs in zip(first["ours"][1:], first["theirs"][1:], strict=True))
    tell("table view of mlflow ui, first visit", *first["theirs"][1:], trials=trials)
    of_theirs = round(statistics.median(ratios), 2)
    tell("table view, first visit", *first["ours"][1:], bound_s=BOUND_S, trials=trials, of_theirs=of_theirs)
    tell("table view, again", *again[KEPT_AFTER:], bound_s=BOUND_S, trials=trials)
    tell("table view, from the list", *from_list, bound_s=BOUND_S, trials=trials)


def visits(table: str, profile: Path, *, times: int, coming_from: str | None = None) -> list[float]:
    """Seconds to the table, each time in a new tab: of its address, or of another page that is there already."""
    taken = []
    with Chromium(profile) as browser:
        for _ in range(times):
            with browser.tab() as tab:
                if coming_from:
                    browser.seconds_until(LISTED, coming_from, tab)
                taken.append(browser.seconds_until(FIRST_ROW, table, tab))
    return taken


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
    """A sweep written and tracked, and what looks at it."""
    from orchestrator.state.event_log import num_events  # noqa: PLC0415
    from orchestrator.tracking.tracker import Tracker  # noqa: PLC0415

    began = time.perf_counter()
    plan, sweep = make_sweep(root, trials)
    size_mb = round(sum(file.stat().st_size for file in sweep.path.glob("events*.jsonl")) / 1e6, 1)
    tell("write the log", time.perf_counter() - began, events=num_events(sweep.events), megabytes=size_mb)
    taken = seconds(Tracker(plan, sweep).catch_up)
    points = points_in(root / "mlflow.db")
    tell("track it", taken, points=points, points_per_s=round(points / taken))
    for command in (["best", "scale"], ["status"], ["list"]):
        each = [seconds(lambda: ravel(*command, cwd=root)) for _ in range(TIMES)]  # noqa: B023  called at once
        tell(f"ravel {command[0]}", *each, bound_s=BOUND_S)
    tell("ravel compare", *(seconds(lambda: ravel("compare", "scale", cwd=root)) for _ in range(TIMES)))
    if CHROMIUM.exists():
        measure_table(root, trials)


def measure_sync(root: Path, trials: int) -> None:
    """Everything of a smaller sweep sent a second time, which may add nothing; its table shows what size costs."""
    from orchestrator.tracking.tracker import Tracker  # noqa: PLC0415

    Tracker(*make_sweep(root, trials)).catch_up()
    points = points_in(root / "mlflow.db")
    taken = seconds(lambda: ravel("sync", "scale", cwd=root))
    added = points_in(root / "mlflow.db") - points
    tell("ravel sync", taken, trials=trials, points_per_s=round(points / taken), points_added=added)
    assert added == 0  # noqa: S101
    if CHROMIUM.exists():
        measure_table(root, trials)


if __name__ == "__main__":
    main()
