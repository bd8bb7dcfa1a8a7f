"""Runs of chaos by fault and seed.

    python tests/chaos --fault "raylet killed" --seed 3
    python tests/chaos --seed 0 1 2 --results docs/reliability.jsonl

Without ``--fault`` every fault is run. Each run is one line; the exit code is 1 if one broke an invariant.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("tests/kills", "tests/orchestrator", "tests/orchestrator/servers")]
os.chdir(ROOT)

import chaos_runs  # noqa: E402  after the folders that it imports from
from chaos_faults import CHOICES  # noqa: E402


def main() -> int:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(prog="python tests/chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--fault", choices=list(CHOICES), nargs="+", default=list(CHOICES), help="default: all")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="default: 0")
    parser.add_argument("--results", type=Path, help="file to which each outcome is appended")
    parser.add_argument("--within-s", type=float, default=float("inf"), help="begin no run after so many seconds")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began, num_bad = time.monotonic(), 0
    results = None if arguments.results is None else arguments.results.resolve()
    with chaos_runs.world_in(Path(tempfile.mkdtemp(prefix="ravel-chaos-"))) as world:
        for seed in arguments.seed:
            for fault in arguments.fault:
                if time.monotonic() - began < arguments.within_s:
                    num_bad += not _run(fault, seed, world, results)
    return int(num_bad > 0)


def _run(fault: str, seed: int, world: chaos_runs.World, results: Path | None) -> bool:
    """Run one, and print a line of it; its folder is kept if it broke something."""
    draw = chaos_runs.drawn(fault, seed)
    folder, began = Path(tempfile.mkdtemp(prefix="ravel-chaos-run-")), time.monotonic()
    try:
        outcome = chaos_runs.run(draw, world, folder, results=results)
    except Exception:  # noqa: BLE001  the next run repairs what it needs
        print(f"{fault} {seed}: could not be run\n{traceback.format_exc()}", flush=True)
        return False
    circumstances = ", ".join([draw.moment.place, *draw.about.values()])
    ends = f"ended with {outcome.code} after {outcome.seconds:.1f} s, then {outcome.resumed_code}"
    noticed = "" if outcome.noticed_s is None else f", noticed after {outcome.noticed_s:.1f} s"
    took = f"{time.monotonic() - began:.0f} s in all"
    print(f"{fault} {seed} ({circumstances}): {ends}{noticed}, {outcome.retries} retries, {took}", flush=True)
    for text in outcome.faults:
        print(f"    {text}", flush=True)
    if outcome.faults:
        print(f"    its files are in {folder}", flush=True)
    return not outcome.faults


if __name__ == "__main__":
    sys.exit(main())
