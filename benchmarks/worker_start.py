"""Start of the workers of a sweep, one after another against all at once, in pairs within one run.

The time from the start of the driver's work (Ray is up) to the first epoch of the N-th worker, read from the event
log, with N slots of half a CPU. ``one by one`` lets Tune start one actor at a time, as before slots followed the
cluster.

Result on two cores that other work kept busy (load 12 to 18), two pairs: 2 slots 38.0, 36.7 s against 31.9, 21.4 s
(ratio 1.45); 4 slots 41.9, 92.0 s against 59.0, 65.6 s (1.06, which is noise). Here a start is bound by the cores,
which import torch once for each worker. Starts on different machines were not measured.

    python benchmarks/worker_start.py --pairs 2
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from orchestrator.state.event_log import read_events
from orchestrator.state.events import EpochReported, SweepStarted
from orchestrator.state.sweep_lookup import find_sweep

SPEC = """
name: start
trial: {data.name: digits, model.name: mlp, optimizer.name: sgd, epochs: 200}
space: {use: [mixup]}
search: {num_trials: NUM, sampler: random}
scheduler: {name: none}
resources: {cpus: 0.5, gpus: 0, max_concurrent: NUM}
"""
WAYS = {"one by one": {"TUNE_MAX_PENDING_TRIALS_PG": "1"}, "together": {}}


def main() -> None:
    """Print the seconds of each start, and the ratio of the medians of all pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--slots", type=int, nargs="+", default=[2, 4])
    arguments = parser.parse_args()
    for slots in arguments.slots:
        runs: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(arguments.pairs):
            for way, measured in runs.items():
                measured.append(seconds_to_last_worker(slots, WAYS[way]))
        for way, measured in runs.items():
            print(f"{slots} slots, {way:10}: {', '.join(f'{seconds:.1f}' for seconds in measured)} s", flush=True)
        ratio = median(before / after for before, after in zip(*runs.values(), strict=True))
        print(f"{slots} slots: ratio {ratio:.2f}", flush=True)


def seconds_to_last_worker(slots: int, variables: dict[str, str]) -> float:
    """Launch a sweep, and return the seconds to the first epoch of its last worker; the sweep is stopped then."""
    with tempfile.TemporaryDirectory(prefix="ws", dir="/tmp") as name:
        folder = Path(name)
        (folder / "spec.yaml").write_text(SPEC.replace("NUM", str(slots)), encoding="utf-8")
        command = [str(Path(sys.executable).with_name("ravel")), "launch", "spec.yaml", "--address", "local"]
        with (folder / "output.txt").open("wb") as output:
            driver = subprocess.Popen(  # noqa: S603
                command, cwd=folder, env={**os.environ, **variables}, stdout=output, stderr=output
            )
            try:
                while driver.poll() is None and len(times := first_epochs(folder)) <= slots:
                    try:
                        driver.wait(0.5)
                    except subprocess.TimeoutExpired:
                        continue
            finally:
                driver.terminate()
                driver.wait()
        start, *epochs = times
        return sorted(epochs)[slots - 1] - start


def first_epochs(folder: Path) -> list[float]:
    """Return the time at which the driver's work began, then those of the first epoch of each trial."""
    if not list(folder.glob("results/*/events.jsonl")):
        return []
    start, epochs = [], dict[str, float]()
    for event, _ in read_events(find_sweep(folder / "results").events):
        match event:
            case SweepStarted():
                start.append(event.time)
            case EpochReported():
                epochs.setdefault(event.trial, event.time)
            case _:
                pass
    return [*start, *epochs.values()]


if __name__ == "__main__":
    main()
