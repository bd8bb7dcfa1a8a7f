"""A training step against its limit: the step's matrix products and convolutions alone, on the same threads.

The limit is recorded from a step and repeated (limits/products.py). Limit, step, and step with `compile: true` take
turns in one process; each round gives a ratio, and a value is the median of the rounds, with the extremes. The work is
that of the SNNL paper's network on images of MNIST's size, in batches of 128.

    python benchmarks/step_limit.py                            all on the CPU, printed: about ten minutes on two cores
    python benchmarks/step_limit.py list                       units, and minutes
    python benchmarks/step_limit.py run --results benchmarks/limits/step_limit.jsonl
    python benchmarks/step_limit.py run --methods plain --rounds 5 --turn 0.2
    python benchmarks/step_limit.py gpu --results benchmarks/limits/step_limit.jsonl    needs a GPU: about 20 minutes
    python benchmarks/step_limit.py write                      tables of docs/benchmarks.md

On a GPU the work is PreActResNet-18 on 32x32 colour images in batches of 128, bfloat16, channels last: the step as it
is, compiled, compiled with CUDA graphs, and captured whole in one; then 1, 2, 4 and 8 trials on the GPU, each in a
process of its own. Attacks, soft nearest neighbours and evaluation stay in float32, there and here.

A unit that has a line in the file of results is skipped; --again measures it once more, and the last line counts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from limits.step_page import tables
from scale.markers import write
from scale.results import ROOT, Results, busy_cores, spread

RESULTS = ROOT / "benchmarks/limits/step_limit.jsonl"
PAGE = ROOT / "docs/benchmarks.md"
METHODS = ("plain", "snnl", "mixup", "pgd", "trades")
PRECISIONS = ("float32", "bfloat16")
PACKED = ("plain", "pgd")
"""Methods whose steps are measured on all threads, too, and with several trials at a time."""
ON_A_GPU = (1, 2, 4, 8)
ROUNDS = 5
TURN_S = 1.0
BATCH = 128
CORES = len(os.sched_getaffinity(0))
CPU: Mapping[str, Any] = {"data.name": "mnist", "model.name": "cnn", "device": "cpu", "batch_size": BATCH}
GPU: Mapping[str, Any] = {
    "data.name": "image_folder",
    "model.name": "preact_resnet18",
    "device": "cuda",
    "precision": "bfloat16",
    "batch_size": BATCH,
}
Values = dict[str, float]


class Unit(NamedTuple):
    """A stage of some words, of which the second is a method, at a size: threads, or images of a batch on a GPU."""

    stage: str
    size: int


def units(methods: Sequence[str], *, bfloat16: bool, cores: int = CORES) -> list[Unit]:
    """Return the units on a CPU.

    >>> [tuple(unit) for unit in units(["plain"], bfloat16=False, cores=2)]
    [('cpu plain float32', 1), ('cpu plain float32', 2), ('slots plain', 2)]
    """
    single = [
        Unit(f"cpu {method} {precision}", threads)
        for method in methods
        for precision in PRECISIONS[: 1 + bfloat16]
        for threads in ((1, cores) if method in PACKED and cores > 1 else (1,))
    ]
    return single + [Unit(f"slots {method}", cores) for method in methods if method in PACKED]


def gpu_units(methods: Sequence[str]) -> list[Unit]:
    """Return the units on a GPU."""
    single = [Unit(f"gpu {method}", BATCH) for method in methods]
    return single + [Unit(f"packed {method}", BATCH) for method in methods if method in PACKED]


def layouts(cores: int) -> list[tuple[int, int]]:
    """Return slots and threads of each: one thread, all of them in one trial, and a trial on each core.

    >>> layouts(4), layouts(1)
    ([(1, 1), (1, 4), (2, 2), (4, 1)], [(1, 1)])
    """
    return sorted({(1, 1), (1, cores), (cores, 1), *({(cores // 2, 2)} if cores > 2 else ())})


def predicted_s(unit: Unit, *, rounds: int, turn_s: float) -> float:
    """Return the seconds that a unit takes on idle cores, by a guess."""
    return 10 + 5 * rounds * turn_s * (4 if unit.stage.startswith(("slots", "packed")) else 1)


def measure(unit: Unit, folder: Path, *, rounds: int, turn_s: float) -> Values:
    """Measure one unit, in this process."""
    import torch  # noqa: PLC0415
    from limits.cuda_graphs import ways_of  # noqa: PLC0415
    from limits.steps_of import in_turns  # noqa: PLC0415

    kind, method, *rest = unit.stage.split()
    place = {"data.root": str(folder), "data.cache": str(folder / "cache")}
    match kind:
        case "cpu":
            torch.set_num_threads(unit.size)
            ways, gigaflops = on_cpu({**CPU, **place, "precision": rest[0]}, method)
            return {**compared(in_turns(ways, rounds=rounds, turn_s=turn_s, device="cpu")), "gigaflops": gigaflops}
        case "gpu":
            ways = ways_of({**GPU, **place}, method)
            return compared(in_turns(ways, rounds=rounds, turn_s=turn_s, device="cuda"))
        case "slots":
            return at_once({**CPU, **place}, method, layouts(unit.size), rounds=rounds, turn_s=turn_s)
        case _:
            packed = [(slots, max(1, CORES // slots)) for slots in ON_A_GPU]
            return at_once({**GPU, **place}, method, packed, rounds=rounds, turn_s=turn_s)


def on_cpu(point: Mapping[str, Any], method: str) -> tuple[dict[str, Any], float]:
    """Return the limit, the step and the compiled step of a method, and billions of operations of its products."""
    from limits.products import recorded  # noqa: PLC0415
    from limits.steps_of import run_of, step_of  # noqa: PLC0415

    step = step_of(run_of(point, method))
    step()
    products = recorded(step)
    compiled = step_of(run_of(point, method, compile=True))
    return {"limit": products.repeat, "step": step, "compiled": compiled}, products.flops / 1e9


def compared(seconds: Mapping[str, Sequence[float]]) -> Values:
    """Return the milliseconds of each way, and its ratio to the limit of the same round.

    >>> compared({"limit": [1.0, 2.0, 1.0], "step": [2.0, 3.0, 2.0]})["step ratio"]
    2.0
    """
    values = {key: v for name, found in seconds.items() for key, v in spread(f"{name}_ms", found, 1e3).items()}
    for name, found in seconds.items():
        if name != "limit" and "limit" in seconds:
            ratios = [own / limit for own, limit in zip(found, seconds["limit"], strict=True)]
            values |= spread(f"{name} ratio", ratios)
    return values


def at_once(
    point: Mapping[str, Any], method: str, places: Sequence[tuple[int, int]], *, rounds: int, turn_s: float
) -> Values:
    """Return the steps per second of several trials that train at the same time, by slots and threads of each."""
    from limits.steps_of import Trainer, together  # noqa: PLC0415

    trainers = {place: [Trainer(point, method, threads=place[1]) for _ in range(place[0])] for place in places}
    found: dict[tuple[int, int], list[float]] = {place: [] for place in places}
    try:
        for place in places:
            together(trainers[place], 0.1)  # until all are warm
        for number in range(rounds):
            first = number % len(places)
            for place in (*places[first:], *places[:first]):
                found[place].append(together(trainers[place], 3 * turn_s))
    finally:
        for trainer in (trainer for some in trainers.values() for trainer in some):
            trainer.end()
    return {
        key: v for (slots, threads), rates in found.items() for key, v in spread(f"{slots}x{threads}", rates).items()
    }


def in_own_process(unit: Unit, folder: Path, *, rounds: int, turn_s: float) -> Values:
    """Measure a unit in a new process, as threads and compiled code belong to one.

    Raises:
        SystemExit: it failed; its error is above.
    """
    document = json.dumps({"unit": unit, "folder": str(folder), "rounds": rounds, "turn_s": turn_s})
    command = [sys.executable, str(Path(__file__).resolve()), "--unit", document]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603  ourselves
    if done.returncode:
        raise SystemExit(f"{unit.stage} {unit.size}: its process ended with {done.returncode}")
    values: Values = json.loads(done.stdout.splitlines()[-1])
    return values


def run(chosen: Sequence[Unit], results: Results, *, rounds: int, turn_s: float) -> None:
    """Measure units, and say how many minutes are left."""
    from training import lay_out_colour, lay_out_digits  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="sl", dir="/tmp") as name:
        if any(unit.stage.startswith(("cpu", "slots")) for unit in chosen):
            lay_out_digits(Path(name))
        if any(unit.stage.startswith(("gpu", "packed")) for unit in chosen):
            lay_out_colour(Path(name))
        for number, unit in enumerate(chosen):
            minutes = sum(predicted_s(other, rounds=rounds, turn_s=turn_s) for other in chosen[number:]) / 60
            print(f"{unit.stage} {unit.size}: {minutes:.0f} min left", flush=True)
            busy = busy_cores()
            results.append(*unit, in_own_process(unit, Path(name), rounds=rounds, turn_s=turn_s), busy=busy)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=["run", "gpu", "list", "write"], default="run")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--turn", type=float, default=TURN_S, help="seconds of a turn")
    parser.add_argument("--results", type=Path, help="file of results; without one they are printed alone")
    parser.add_argument("--again", action="store_true", help="measure what has a line, too")
    parser.add_argument("--unit", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.unit:
        asked = json.loads(options.unit)
        found = measure(Unit(*asked["unit"]), Path(asked["folder"]), rounds=asked["rounds"], turn_s=asked["turn_s"])
        print(json.dumps(found))
        return
    if options.command == "write":
        write(tables(Results(RESULTS).rows()), PAGE)
        return
    import torch  # noqa: PLC0415
    from limits.cuda_graphs import require_gpu  # noqa: PLC0415

    from trainables.engine.placement import resolve_precision  # noqa: PLC0415

    if options.command == "gpu":
        require_gpu()
        chosen = gpu_units(options.methods)
    else:
        bfloat16 = resolve_precision("auto", torch.device("cpu")) == torch.bfloat16
        chosen = units(options.methods, bfloat16=bfloat16)
    results = Results(options.results)
    left = [unit for unit in chosen if options.again or tuple(unit) not in results.rows()]
    if options.command == "list":
        for unit in left:
            print(f"{unit.stage} {unit.size}: {predicted_s(unit, rounds=options.rounds, turn_s=options.turn):.0f} s")
        return
    run(left, results, rounds=options.rounds, turn_s=options.turn)


if __name__ == "__main__":
    main()
