"""Start of the private Ray of a sweep against ``ray.init(address="local")``, in pairs within one run.

Three states of the bytecode of Ray's processes: ``warm`` (all compiled), ``cold`` (none, but kept), ``never`` (the
installation as it is with ``PYTHONDONTWRITEBYTECODE``, as in many container images). Seconds are from an empty process
to a usable connection; CPU seconds and memory are those of Ray's processes and the driver at that moment.

Result on two cores that other work kept busy (load 12 to 15), three pairs: ``warm`` 20.0, 18.4, 12.9 s
against 7.5, 8.1, 6.8 s (2.3x), 4.3 against 2.4 CPU seconds, 458 against 323 MB; ``cold`` 30.4, 51.7, 44.6 s against
24.2, 23.6, 18.0 s (2.2x), 7.7 against 5.4 CPU seconds; ``never``: ``ray.init`` did not start.

    python benchmarks/ray_start.py --pairs 3
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

MEASURE = """
import json, os, sys, time
started = time.monotonic()
{start}
    ray.nodes()
    ready_s = time.monotonic() - started
    import psutil
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    cpu_s = sum(process.cpu_times().user + process.cpu_times().system for process in processes)
    mb = sum(process.memory_full_info().uss for process in processes) / 2**20
    print(json.dumps({{"ready_s": ready_s, "cpu_s": cpu_s, "mb": mb, "processes": len(processes)}}))
"""
WAYS = {
    "ray.init": """
import ray
settings = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
with ray.init(address="local", _temp_dir=os.environ["TMPDIR"], object_store_memory=200_000_000, **settings):
""",
    "ravel": """
from orchestrator.execution.ray_cluster import connect
with connect("local"):
    import ray
""",
}


def main() -> None:
    """Print a line for each state and way, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    pairs = parser.parse_args().pairs
    for state in ("warm", "cold", "never"):
        with tempfile.TemporaryDirectory(prefix="rs", dir="/tmp") as cache:
            if state != "cold":
                for way in WAYS:
                    measure(way, variables_of(state, Path(cache), 0))
            runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
            for pair in range(pairs):
                for way, measured in runs.items():
                    measured.append(measure(way, variables_of(state, Path(cache), f"{pair}-{way}")))
        for way, measured in runs.items():
            seconds = ", ".join(f"{run['ready_s']:.1f}" for run in measured)
            cpu_s, mb, processes = (median(run[name] for run in measured) for name in ("cpu_s", "mb", "processes"))
            print(
                f"{state:5} {way:8} ready after {seconds} s; {cpu_s:.1f} CPU s, {mb:.0f} MB, {processes:.0f} processes"
            )
        ratio = median(a["ready_s"] / b["ready_s"] for a, b in zip(*runs.values(), strict=True))
        print(f"{state:5} ratio {ratio:.2f}", flush=True)


def variables_of(state: str, cache: Path, start: object) -> dict[str, str]:
    """Return the environment of one start."""
    common = {"RAVEL_CACHE": str(cache / "ravel"), "RAY_USAGE_STATS_ENABLED": "0"}
    if state == "never":
        return {**common, "PYTHONDONTWRITEBYTECODE": "1"}
    return {**common, "PYTHONPYCACHEPREFIX": str(cache / (str(start) if state == "cold" else "compiled"))}


def measure(way: str, variables: dict[str, str]) -> dict[str, float]:
    """Start Ray in a new process and return what it measured; infinity if it did not start."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHONDONT")}
    with tempfile.TemporaryDirectory(prefix="rs", dir="/tmp") as temporary:
        environment = {**inherited, **variables, "TMPDIR": temporary}
        command = [sys.executable, "-c", MEASURE.format(start=WAYS[way].strip())]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        return dict.fromkeys(("ready_s", "cpu_s", "mb", "processes"), math.inf)
    return json.loads(done.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
