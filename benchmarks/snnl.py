"""The soft nearest neighbour loss against its usual implementation, in one run; then a whole data set.

The usual implementation follows the first released code: the kernel of all pairs, autograd
through it, and an epsilon of 1e-5 in both places. Both make one forward and one backward pass over the same batch,
alternating. Memory is the growth of the process's peak resident set above what it held with its input, each in a
process of its own, after a warm-up on a small batch. Then `streaming_losses` (a fixed temperature) and
`minimise_temperature` on data that no matrix of pairs would fit.

Prediction, from counting products. 512 x 12,544: the usual way takes three; ours takes one and, as Gram matrices
are symmetric, three quarters: 1.7x. 4,096 x 512: ours takes one, and twice a half for blocks that are recomputed:
1.5x, and blocks that stay in the cache make it 2.5x. Memory: the gradient and a few small matrices against two or three
batches' worth, 2x; against a dozen matrices, 10x.
Result on two idle cores: 1.8x and 2.7x; memory 3.8x and 20x. Give it no more threads than there are idle cores: ours
has more and smaller parallel regions, and with two threads at twice the load the first ratio fell to 0.9x to 1.2x.

The minimising temperature of a training batch took 22 exponentials of all pairs. Prediction: a grid on a few anchors
and four Newton steps on more should cost less than a fifth of that. Result on one thread, forward and backward with
`mode='minimised'`, before and after: 512 x 128: 94 ms and 16 ms; 1,024 x 512: 633 ms and 98 ms; 2,048 x 512: 3.4 s and
0.5 s. exp2 takes a quarter of the time of exp there, and is no slower where it underflows; exp is, by a factor of ten.

    python benchmarks/snnl.py            # N = 50,000: minutes
    python benchmarks/snnl.py --quick    # N = 10,000
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from trainables.snnl import minimise_temperature, soft_nearest_neighbor_loss, streaming_losses

CLASSES = 10
DIMENSIONS = 512


class Case(NamedTuple):
    """A batch size, with the required ratios of time and memory."""

    points: int
    dimensions: int
    speed_target: float
    memory_target: float = 2.0


CASES = (Case(512, 12_544, 1.3), Case(4_096, 512, 2.0))


def usual(x_BD: Tensor, y_B: Tensor, temperature: float) -> Tensor:
    """Return the loss as in most code."""
    squares_B = (x_BD * x_BD).sum(1)
    distances_BB = squares_B[:, None] + squares_B[None] - 2 * x_BD @ x_BD.T
    kernel_BB = torch.exp(-distances_BB / temperature) - torch.eye(len(x_BD))
    picked_BB = kernel_BB / (1e-5 + kernel_BB.sum(1, keepdim=True))
    same_BB = (y_B[:, None] == y_B[None]).float()
    return -torch.log(1e-5 + (picked_BB * same_BB).sum(1)).mean()


FORMS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"usual": usual, "ravel": soft_nearest_neighbor_loss}


def batch(points: int, dimensions: int) -> tuple[Tensor, Tensor]:
    """Sample overlapping Gaussian classes."""
    stream = torch.Generator().manual_seed(0)
    y_B = torch.randint(CLASSES, (points,), generator=stream)
    centres_KD = 0.3 * torch.randn(CLASSES, dimensions, generator=stream)
    return torch.randn(points, dimensions, generator=stream).add_(centres_KD[y_B]), y_B


def step(form: str, x_BD: Tensor, y_B: Tensor) -> None:
    """Run one forward and one backward pass, at half the median distance."""
    x_BD.grad = None
    FORMS[form](x_BD, y_B, float(x_BD.shape[1])).backward()


def seconds(case: Case, repeats: int) -> dict[str, float]:
    """Measure the median seconds of a step of each form, alternating between the forms."""
    x_BD, y_B = batch(case.points, case.dimensions)
    x_BD.requires_grad_()
    took: dict[str, list[float]] = {form: [] for form in FORMS}
    for repeat in range(repeats + 1):
        for form in FORMS:
            began = time.perf_counter()
            step(form, x_BD, y_B)
            if repeat:  # the first is a warm-up
                took[form].append(time.perf_counter() - began)
    return {form: statistics.median(times) for form, times in took.items()}


def resident(field: str) -> float:
    """Return the memory of this process in MiB: VmRSS now, or VmHWM at the peak since `reset_peak`."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def reset_peak() -> None:
    """Reset VmHWM to the memory that is resident now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def measured(work: Callable[[], object]) -> dict[str, float]:
    """Measure the seconds of a function, and its peak memory in MiB above the resident memory before."""
    reset_peak()
    before, began = resident("VmRSS"), time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - began, "mib": resident("VmHWM") - before}


def measure(form: str, points: int, dimensions: int) -> dict[str, float]:
    """Make one measurement; meant for a process of its own."""
    x_ND, y_N = batch(points, dimensions)
    small_x, small_y = batch(64, 32)
    if form in FORMS:
        step(form, small_x.requires_grad_(), small_y)
        x_ND.requires_grad_()
        return measured(lambda: step(form, x_ND, y_N))
    if form == "fixed":
        return measured(lambda: streaming_losses(x_ND, y_N, float(dimensions)))
    return measured(lambda: minimise_temperature(x_ND, y_N))


def elsewhere(form: str, points: int, dimensions: int) -> dict[str, float]:
    """Run `measure` in a fresh process."""
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", form, str(points), str(dimensions)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  ourselves
    result: dict[str, float] = json.loads(done.stdout)
    return result


def row(name: str, by_form: dict[str, float], target: float, *, unit: str) -> bool:
    """Print one comparison, and return True if the target is met."""
    ratio = by_form["usual"] / by_form["ravel"]
    outcome = "ok" if ratio >= target else "MISSED"
    numbers = f"{by_form['usual']:9.3f} {by_form['ravel']:9.3f} {unit:4}{ratio:7.2f} {target:7.2f}"
    print(f"{name:28} {numbers}  {outcome}", flush=True)
    return ratio >= target


def compare(case: Case, repeats: int) -> list[bool]:
    """Print both rows of one batch size."""
    name = f"{case.points:,} x {case.dimensions:,}"
    mib = {form: elsewhere(form, case.points, case.dimensions)["mib"] for form in FORMS}
    return [
        row(f"{name} time", seconds(case, repeats), case.speed_target, unit="s"),
        row(f"{name} memory", mib, case.memory_target, unit="MiB"),
    ]


def stream(points: int) -> None:
    """Print the cost of a whole data set."""
    for form in ("fixed", "minimised"):
        cost = elsewhere(form, points, DIMENSIONS)
        print(f"{points:,} x {DIMENSIONS} {form:10} {cost['seconds']:9.1f} s {cost['mib'] / 1024:7.2f} GiB", flush=True)


def main() -> int:
    """Print the table; 1 if a ratio misses its target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="stream over 10,000 points instead of 50,000")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--measure", nargs=3, metavar=("FORM", "POINTS", "DIMENSIONS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        form, points, dimensions = options.measure
        print(json.dumps(measure(form, int(points), int(dimensions))))
        return 0
    print(f"{'':28} {'usual':>9} {'ravel':>9} {'':4}{'ratio':>7} {'target':>7}")
    met = [row_met for case in CASES for row_met in compare(case, options.repeats)]
    stream(10_000 if options.quick else 50_000)
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
