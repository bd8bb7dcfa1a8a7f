"""Many trials at once that report at a steady rate: what the driver carries, and how long a worker waits for it."""

import math
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from results import machine
from sweeps import HERE, logged, ravel

SPEC = """
name: scale
trial: {task: "trivial:steady", epochs: 150, period_s: PERIOD}
space: {parameters: {a: {float: [0.0, 1.0]}}}
objective: {metric: score, mode: max}
search: {sampler: random, num_trials: TRIALS, seed: 0}
scheduler: {name: asha, kind: stopping, grace_period: 50, reduction_factor: 3}
resources: {cpus: CPUS, gpus: 0}
"""
ASKED_PER_S = 2000
TRIALS_OF_EACH_SLOT = 3
NEARLY_ALL = 0.95
"""Share of the slots that must have a trial for a moment to count."""


def concurrent(slots: int, folder: Path) -> dict[str, float]:
    """Run a sweep with so many trials at a time, which together ask the driver 2,000 times a second."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(HERE / "trivial.py", folder)
    settings = {
        "PERIOD": slots / ASKED_PER_S,
        "TRIALS": TRIALS_OF_EACH_SLOT * slots,
        "CPUS": machine()["cores"] / slots,
    }
    spec = SPEC
    for name, value in settings.items():
        spec = spec.replace(name, str(value))
    (folder / "sweep.yaml").write_text(spec, encoding="utf-8")
    run = ravel(folder, "launch", "sweep.yaml", "--address", "processes")
    events = list(logged(folder))
    first, last = busy_window(events, slots=slots)
    reports = [event for event in events if event["kind"] == "epoch_reported" and first <= event["time"] <= last]
    waited_ms = sorted(1e3 * event["metrics"]["waited_s"] for event in reports if event["since_restore"] > 1)
    cpu_s = run.at(last).cpu_s - run.at(first).cpu_s
    return {
        "seconds": run.seconds,
        "asked_per_s": ASKED_PER_S,
        "window_s": last - first,
        "results_per_s": len(reports) / (last - first),
        "cpu_share": cpu_s / (last - first),
        "cpu_ms_per_result": 1e3 * cpu_s / len(reports),
        "waited_p50_ms": quantile(waited_ms, 0.5),
        "waited_p99_ms": quantile(waited_ms, 0.99),
        "waited_most_ms": waited_ms[-1],
        "peak_mb": run.peak_mb,
        "log_bytes_per_result": sum(path.stat().st_size for path in folder.glob("results/*/events*")) / len(reports),
        "tracked_after_s": run.ended - events[-1]["time"],
    }


def busy_window(events: Iterable[dict[str, object]], *, slots: int) -> tuple[float, float]:
    """Return the first and the last time at which nearly all slots had a trial.

    >>> kinds = ["attempt_started", "attempt_started", "trial_ended", "attempt_started", "trial_ended", "trial_ended"]
    >>> busy_window([{"kind": kind, "time": float(time)} for time, kind in enumerate(kinds)], slots=2)
    (1.0, 4.0)
    """
    running, times = 0, list[float]()
    for event in events:
        if running >= NEARLY_ALL * slots:
            times.append(float(str(event["time"])))
        running += {"attempt_started": 1, "trial_ended": -1, "attempt_failed": -1}.get(str(event["kind"]), 0)
        if running >= NEARLY_ALL * slots:
            times.append(float(str(event["time"])))
    return min(times), max(times)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which a share of ordered ones lies.

    >>> quantile([1.0, 2.0, 3.0, 4.0], 0.5), quantile([1.0, 2.0], 0.99)
    (2.0, 2.0)
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
