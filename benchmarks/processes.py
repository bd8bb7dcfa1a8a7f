"""A sweep in worker processes against the same one on a private Ray, in pairs within one run.

For each way, from the start of the command: seconds to the first report of an epoch, and to the end; CPU seconds of the
driver and all it started, and the most memory that they had together (PSS: what processes share is counted once), both
sampled four times a second. The sweeps have one trial at a time, so they train the same epochs.

Result on two cores (EPYC), one pair of the demo, 446 epochs each: first epoch after 9.9 s on Ray and 2.9 s in processes
(0.29 of it), end after 151.7 and 145.2 s (0.96), 150.0 and 146.2 CPU seconds (0.97), 1,050 and 848 MB (0.81).

    python benchmarks/processes.py examples/digits.yaml --pairs 3 --set search.num_trials=8
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from peers.process_tree import measured

from orchestrator.state.event_log import read_events
from orchestrator.state.events import EpochReported
from orchestrator.state.sweep_lookup import find_sweep

WAYS = ("local", "processes")
PRIORITY = {"RAY_worker_niceness": "0"}
"""Ray's workers have niceness 15, with which a machine that does other work would starve them alone."""


@dataclass(frozen=True)
class Run:
    """Measurements of one sweep."""

    first_epoch_s: float
    end_s: float
    cpu_s: float
    most_mb: float
    epochs: int


def main() -> None:
    """Print a line for each way and the ratios of the medians of all pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()
    overrides = ["resources.max_concurrent=1", *arguments.overrides]
    runs: dict[str, list[Run]] = {way: [] for way in WAYS}
    for _ in range(arguments.pairs):
        for way, done in runs.items():
            done.append(run_of(arguments.spec.resolve(), overrides, way))
            print(f"{way:10} {json.dumps(done[-1].__dict__)}", flush=True)
    for name in ("first_epoch_s", "end_s", "cpu_s", "most_mb"):
        before, after = ([getattr(run, name) for run in runs[way]] for way in WAYS)
        ratio = median(after) / median(before)
        print(f"{name}: {median(before):.1f} on Ray, {median(after):.1f} in processes, {ratio:.2f} of it", flush=True)


def run_of(spec: Path, overrides: list[str], way: str) -> Run:
    """Launch a sweep in a folder of its own, and measure it to its end."""
    with tempfile.TemporaryDirectory(prefix="bp", dir="/tmp") as name:
        folder = Path(name)
        words = [word for override in overrides for word in ("--set", override)]
        command = [str(Path(sys.executable).with_name("ravel")), "launch", str(spec), "--address", way, *words]
        environment = {**os.environ, **PRIORITY, "MLFLOW_TRACKING_URI": f"sqlite:///{name}/mlflow.db"}
        cores = len(os.sched_getaffinity(0))
        usage = measured(command, environment=environment, folder=folder, cores=cores)
        events = [event for event, _ in read_events(find_sweep(folder / "results").events)]
        epochs = [event.time for event in events if isinstance(event, EpochReported)]
        return Run(epochs[0] - usage.began, usage.wall_s, usage.cpu_s, usage.pss_mb, len(epochs))


if __name__ == "__main__":
    main()
