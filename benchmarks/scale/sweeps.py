"""Whole sweeps through the command line, and the commands that read them."""

import json
import shutil
import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from watched import Run, watch

from orchestrator.state.log_segments import segments
from orchestrator.state.sweep_lookup import find_sweep

HERE = Path(__file__).parent
RAVEL = str(Path(sys.executable).with_name("ravel"))
PARAMETERS = "abcdef"
SPEC = f"""
name: scale
trial: {{task: "trivial:at_once", epochs: 3}}
space: {{parameters: {{{", ".join(f"{name}: {{float: [0.0, 1.0]}}" for name in PARAMETERS)}}}}}
objective: {{metric: score, mode: max}}
search: {{sampler: random, num_trials: 1, seed: 0}}
scheduler: {{name: asha, kind: stopping, grace_period: 1, reduction_factor: 3}}
resources: {{cpus: 1, gpus: 0}}
"""
SMALL = 1000
"""Size up to which a reading command is measured three times."""


def environ(folder: Path) -> dict[str, str]:
    """Return the environment of the commands: a store of their own, and workers that other programs do not starve."""
    return {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "RAY_worker_niceness": "0",
        "RAY_ADDRESS": "",
        "PYTHONPATH": str(HERE.parents[1]),
    }


def ravel(folder: Path, *arguments: str, **how: Any) -> Run:
    """Run a command of the sweep in a folder, and watch its process."""
    return watch([RAVEL, *arguments], folder, environ=environ(folder), **how)


def launched(way: str, trials: int, folder: Path) -> dict[str, float]:
    """Launch a sweep of so many trials in a new folder, and measure it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(HERE / "trivial.py", folder)
    (folder / "sweep.yaml").write_text(SPEC, encoding="utf-8")
    run = ravel(folder, "launch", "sweep.yaml", "--address", way, "--set", f"search.num_trials={trials}")
    return measured(run, folder, trials)


def measured(run: Run, folder: Path, trials: int) -> dict[str, float]:
    """Return what a launch cost, from its log and the samples of its driver."""
    times: dict[str, list[float]] = {"attempt_started": [], "trial_ended": [], "sweep_ended": []}
    epochs = events = 0
    for event in logged(folder):
        events += 1
        epochs += event["kind"] == "epoch_reported"
        if event["kind"] in times:
            times[event["kind"]].append(event["time"])
    first, last, ended = times["attempt_started"][0], times["trial_ended"][-1], times["sweep_ended"][-1]
    size = sum(segment.size for segment in segments(find_sweep(folder / "results").events))
    return {
        "seconds": run.seconds,
        "trials_s": last - first,
        "s_per_trial": (last - first) / trials,
        "cpu_ms_per_trial": 1e3 * (run.at(last).cpu_s - run.at(first).cpu_s) / trials,
        "tracked_after_s": run.ended - ended,
        "tracking_cpu_ms_per_trial": 1e3 * (run.cpu_s - run.at(ended).cpu_s) / trials,
        "peak_mb_trials": run.at(last).peak_mb,
        "peak_mb": run.peak_mb,
        "log_bytes_per_trial": size / trials,
        "events_per_trial": events / trials,
        "epochs_per_trial": epochs / trials,
    }


def reading(command: str, trials: int, folder: Path) -> dict[str, float]:
    """Measure a command that reads a sweep which has ended: the median of three, or of one if the sweep is large."""
    runs = [ravel(folder, command, "scale") for _ in range(3 if trials <= SMALL else 1)]
    return {
        "seconds": statistics.median(run.seconds for run in runs),
        "cpu_s": statistics.median(run.cpu_s for run in runs),
        "peak_mb": max(run.peak_mb for run in runs),
    }


def synced(trials: int, folder: Path) -> dict[str, float]:
    """Measure `ravel sync` into a new sqlite store."""
    for store in folder.glob("mlflow.db*"):
        store.unlink()
    shutil.rmtree(folder / "mlartifacts", ignore_errors=True)
    run = ravel(folder, "sync", "scale")
    megabytes = sum(store.stat().st_size for store in folder.glob("mlflow.db*")) / 1e6
    return {
        "seconds": run.seconds,
        "cpu_s": run.cpu_s,
        "peak_mb": run.peak_mb,
        "runs_per_s": trials / run.seconds,
        "store_kb_per_trial": 1e3 * megabytes / trials,
    }


def half_resumed(way: str, trials: int, folder: Path) -> dict[str, float]:
    """Cut the log after half of the trials, as a kill there would have, and measure a resume to its first attempt.

    What MLflow had beyond is removed with the store.
    """
    cut(folder, trials // 2)
    for name in ("mlflow.db", "mlflow.db-wal", "mlflow.db-shm"):
        (folder / name).unlink(missing_ok=True)
    find_sweep(folder / "results").cursor.unlink(missing_ok=True)
    log = find_sweep(folder / "results").events.parent
    before = set(log.glob("events-*"))

    def attempts() -> list[Mapping[str, Any]]:
        """Return the attempts that the new driver has started."""
        lines = (line for path in set(log.glob("events-*")) - before for line in path.read_bytes().split(b"\n")[:-1])
        return [json.loads(line) for line in lines if b'"attempt_started"' in line]

    run = ravel(folder, "resume", "scale", "--address", way, stop=lambda: bool(attempts()))
    begun = min(event["time"] for event in attempts())
    return {
        "seconds": begun - run.began,
        "cpu_s": run.at(begun).cpu_s,
        "peak_mb": run.at(begun).peak_mb,
        "trials_over": trials // 2,
    }


def cut(folder: Path, trials: int) -> None:
    """Cut the log of a sweep after the line that ends so many trials."""
    ended, is_cut = 0, False
    for segment in segments(find_sweep(folder / "results").events):
        if is_cut:
            segment.path.unlink()
            continue
        kept = 0
        for line in segment.path.read_bytes().splitlines(keepends=True):
            kept += len(line)
            ended += b'"kind":"trial_ended"' in line
            if ended == trials:
                is_cut = True
                with segment.path.open("r+b") as file:
                    file.truncate(kept)
                break


def logged(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the events of the sweep in a folder, as JSON."""
    for segment in segments(find_sweep(folder / "results").events):
        for line in segment.path.read_bytes().splitlines():
            yield json.loads(line)
