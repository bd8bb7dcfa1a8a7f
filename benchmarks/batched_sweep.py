"""A sweep whose workers batch their trials against the same one without batches, in pairs within one run.

Both run in worker processes, on all cores of an idle machine. A line of JSON for each sweep has: trials and epochs for
each hour, from the start of the sweep to its end as the log has them (without the start of the command and the
measurement of `auto`); CPU seconds of the driver and all it started for each epoch, sampled four times a second; the
best value of the objective; the number of decisions in the log, and of those that a replay does not repeat (0 is
right). Then come the ratios, batched to not batched: their median, and their extremes.

The two do not train the same epochs: with more trials at a time, a scheduler decides with fewer that have ended, and
`scheduler.kind: auto` stops trials where it paused them. So compare epochs, too; of a sweep with a budget both spend
about the same. `--set scheduler.kind=stopping` gives both one kind.

    python benchmarks/batched_sweep.py                                                   the demo, batches of 8, 3 pairs
    python benchmarks/batched_sweep.py --set search.num_trials=8 --set trial.epochs=3 --pairs 1       a first look
    python benchmarks/batched_sweep.py examples/digits.yaml --batch auto --set trial.model.name=mlp
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from orchestrator.analysis.replay import replay
from orchestrator.analysis.result import SweepResult
from orchestrator.state.event_log import read_events
from orchestrator.state.events import SweepEnded, SweepStarted
from orchestrator.state.sweep_lookup import find_sweep

DEMO = Path(__file__).parents[1] / "examples" / "digits.yaml"
SAMPLE_S = 0.25
MARK = "RAVEL_BENCHMARK"
COMPARED = ("trials_per_hour", "epochs_per_hour", "cpu_s_per_epoch")


@dataclass(frozen=True)
class Run:
    """Measurements of one sweep; ``batch`` is the number of trials of a worker."""

    batch: int
    trials: int
    epochs: int
    seconds: float
    trials_per_hour: float
    epochs_per_hour: float
    cpu_s_per_epoch: float
    best: float
    decisions: int
    not_repeated: int


def main() -> None:
    """Print a line for each sweep, and the ratios of all pairs with their extremes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path, nargs="?", default=DEMO, help="spec of the sweep; by default the demo")
    parser.add_argument("--batch", default="8", help="resources.batch of the batched sweep: a number above 1, or auto")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of sweeps; every second pair begins with batches")
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="PATH=VALUE", help="field of both sweeps"
    )
    arguments = parser.parse_args()
    if arguments.batch == "1":
        parser.error("argument --batch: must be a number above 1, or auto, got 1, which is what it is compared with")
    runs: dict[str, list[Run]] = {"1": [], arguments.batch: []}
    for pair in range(arguments.pairs):
        for batch in sorted(runs, key=list(runs).index, reverse=pair % 2 == 1):
            runs[batch].append(run_of(arguments.spec.resolve(), arguments.overrides, batch))
            print(json.dumps(asdict(runs[batch][-1])), flush=True)
    for name in COMPARED:
        singles, batched = ([getattr(run, name) for run in measured] for measured in runs.values())
        ratios = sorted(after / before for before, after in zip(singles, batched, strict=True))
        text = f"{median(singles):.3g} without batches, {median(batched):.3g} with, ratio {median(ratios):.2f}"
        print(f"{name}: {text} [{ratios[0]:.2f}, {ratios[-1]:.2f}]", flush=True)


def run_of(spec: Path, overrides: list[str], batch: str) -> Run:
    """Launch a sweep in a folder of its own, and measure it to its end."""
    with tempfile.TemporaryDirectory(prefix="bs", dir="/tmp") as name:
        folder = Path(name)
        words = [word for override in [*overrides, f"resources.batch={batch}"] for word in ("--set", override)]
        command = [str(Path(sys.executable).with_name("ravel")), "launch", str(spec), "--address", "processes", *words]
        environment = {**os.environ, MARK: name, "MLFLOW_TRACKING_URI": f"sqlite:///{name}/mlflow.db"}
        used = dict[int, float]()
        with (folder / "output.txt").open("wb") as output:
            driver = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)  # noqa: S603
            while driver.poll() is None:
                used |= {pid: cpu_s(pid) for pid in marked(name)}
                time.sleep(SAMPLE_S)
        if driver.returncode:
            raise SystemExit((folder / "output.txt").read_text())
        result = SweepResult.read(find_sweep(folder / "results"))
        events, state = [event for event, _ in read_events(result.folder.events)], result.state
        again = replay(result.plan, events)
        began, *_ = (event.time for event in events if isinstance(event, SweepStarted))
        *_, ended = (event.time for event in events if isinstance(event, SweepEnded))
        hours, trials, epochs = (ended - began) / 3600, len(state.trials), state.epochs_run
        return Run(
            batch=result.plan.batch,
            trials=trials,
            epochs=epochs,
            seconds=ended - began,
            trials_per_hour=trials / hours,
            epochs_per_hour=epochs / hours,
            cpu_s_per_epoch=sum(used.values()) / epochs,
            best=result.best().score,
            decisions=sum(again.counts.values()),
            not_repeated=len(again.differences),
        )


def marked(mark: str) -> list[int]:
    """Return the living processes of a sweep."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process so far."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


if __name__ == "__main__":
    main()
