"""Trials per hour of K batched trials against the same K trials one after another, in one process and one run.

Both train the same trials with evaluation: an epoch of one trial, an epoch of all of them batched, an epoch of one
trial again, in each round, so that a machine that slows down or speeds up favours neither. The ratio is K times the
mean time of the single epochs by that of the batched one, median over the rounds, with the extremes: above 1 if batched
trials are faster. Seconds are the processor's where one thread of a CPU trains, so that other processes on the machine
disturb less. The split says where the time of an epoch goes, for a trial: reading and varying images, sampling, loss
(an attack included), gradient, optimizer, and the rest (evaluation, and what batched trials copy). Evaluation that
belongs to the last epoch alone is left out.

Predicted before measuring: gains where a step is many small operations (mlp, narrow networks, small batches), none
where one step fills a core (MNIST at batch 128), with a loss there, since grouped convolutions of oneDNN are slower.

    python benchmarks/batched.py                               digits: mlp, cnn, narrow cnn and cnn_bn, K = 2 to 32
    python benchmarks/batched.py --only mnist --data-root D    MNIST below D/MNIST/raw
    python benchmarks/batched.py --only cnn --methods snnl     other steps: plain, snnl, mixup, fgsm, mixed
"""

import argparse
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from trainables.batched import epoch as batched_epoch
from trainables.batched.epoch import StackedEpoch
from trainables.batched.steppers import STEPPERS
from trainables.batched.trials import BatchedTrials
from trainables.config.trial import TrialConfig
from trainables.tasks.classifier import run as single
from trainables.tasks.classifier.run import ClassifierRun, start

SIZES = (2, 4, 8, 16, 32)
ROUNDS = 3
COMMON = {
    "optimizer.schedule": "constant",
    "optimizer.lr": 1e-3,
    "epochs": 10**6,
    "evaluation.robust_epsilon": 0.0,
    "batch_size": 32,
    "precision": "float32",
}
TRIALS: Mapping[str, Mapping[str, Any]] = {
    "mlp": {"model.name": "mlp"},
    "cnn": {"model.name": "cnn"},
    "narrow cnn": {"model.name": "cnn", "model.width": 0.25},
    "cnn_bn": {"model.name": "cnn_bn"},
    "mnist": {"model.name": "cnn", "batch_size": 128, "data.name": "mnist", "data.fraction": 0.02},
}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "snnl": {"snnl.weight": -0.01},
    "mixup": {"mixup.alpha": 1.0, "mixup.layers": "input+hidden"},
    "fgsm": {"adversarial.epsilon": 0.1, "adversarial.attack": "fgsm_rs"},
}
PARTS: Mapping[str, tuple[tuple[Any, str], ...]] = {
    "images": ((ClassifierRun, "_images"), (StackedEpoch, "_images"), (single, "augment"), (batched_epoch, "augment")),
    "sampling": ((single, "draw"), (batched_epoch, "draw")),
    "loss": ((single, "step_loss"), (batched_epoch, "stacked_loss")),
    "gradient": ((ClassifierRun, "_differentiate"), (torch.autograd, "grad")),
    "optimizer": ((ClassifierRun, "_descend"), *((stepper, "step") for stepper in STEPPERS.values())),
}


class Split:
    """Seconds in each part of an epoch; a part within another one counts for the outer one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.seconds, self._clock, self._inside = Counter[str](), clock, False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Time the functions of `PARTS` in the block."""
        before = [(owner, name, getattr(owner, name)) for places in PARTS.values() for owner, name in places]
        for part, places in PARTS.items():
            for owner, name in places:
                setattr(owner, name, self._timed(part, getattr(owner, name)))
        try:
            yield
        finally:
            for owner, name, function in before:
                setattr(owner, name, function)

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            if self._inside:
                return function(*arguments, **named)
            self._inside, started = True, self._clock()
            try:
                return function(*arguments, **named)
            finally:
                self._inside = False
                self.seconds[part] += self._clock() - started

        return timed


def configs(trial: str, methods: str, size: int, place: Mapping[str, Any]) -> list[TrialConfig]:
    """Return trials that differ in seed and rate; with 'mixed', in their methods too."""
    names = list(METHODS) if methods == "mixed" else [methods]
    return [
        TrialConfig.from_point(
            {
                **COMMON,
                **TRIALS[trial],
                **METHODS[names[i % len(names)]],
                **place,
                "seed": i,
                "optimizer.lr": 1e-3 / (i + 1),
            }
        )
        for i in range(size)
    ]


def measure(members: list[TrialConfig], *, rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Measure epochs of all members, batched and one after another."""
    alone, together = [start(config) for config in members[: len(METHODS)]], BatchedTrials()
    for place, config in enumerate(members):
        together.join(str(place), start(config))

    def timed(split: Split, epoch: Callable[[], object]) -> float:
        started = clock()
        with split.installed():
            epoch()
        return clock() - started

    for loop in alone:
        loop.run_epoch()
    together.run_epoch()
    splits = Split(clock), Split(clock)
    singles, batched, ratios = [], [], []
    for place in range(rounds):
        # Where members differ in their methods, the single epochs are of each kind in turn.
        before = [timed(splits[0], loop.run_epoch) for loop in alone]
        batched.append(timed(splits[1], together.run_epoch))
        after = [timed(splits[0], loop.run_epoch) for loop in alone]
        singles += [*before, *after]
        ratios.append(len(members) * statistics.mean([*before, *after]) / batched[place])
    trained = (len(singles), rounds * len(members))
    seconds = (sum(singles), sum(batched))
    return {
        "epoch_s": seconds[0] / trained[0],
        "batched_epoch_s": seconds[1] / trained[1],
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "split": [
            {
                **{part: split.seconds[part] / count for part in PARTS},
                "rest": (total - sum(split.seconds.values())) / count,
            }
            for split, count, total in zip(splits, trained, seconds, strict=True)
        ],
    }


def main() -> None:
    """Measure each trial at each number of members, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TRIALS, default=[name for name in TRIALS if name != "mnist"])
    parser.add_argument("--methods", choices=[*METHODS, "mixed"], default="plain")
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="numbers of members")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--data-root")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if (arguments.device, arguments.threads) == ("cpu", 1) else time.perf_counter
    place = {"device": arguments.device, "precision": arguments.precision, "data.root": arguments.data_root}
    for trial in arguments.only:
        for size in arguments.sizes:
            members = configs(trial, arguments.methods, size, place)
            line = {"trial": trial, "methods": arguments.methods, "members": size}
            line |= measure(members, rounds=arguments.rounds, clock=clock)
            print(json.dumps(line) if arguments.json else text(line), flush=True)


def text(line: Mapping[str, Any]) -> str:
    """Return a line for people, with the split in milliseconds of one trial's epoch, single and batched."""
    parts = [
        f"{part} {1000 * line['split'][0][part]:.0f} -> {1000 * line['split'][1][part]:.0f}"
        for part in (*PARTS, "rest")
    ]
    head = f"{line['trial']:>10} {line['methods']:>6}  K = {line['members']:<3}"
    return f"{head} ratio {line['ratio']:.2f} [{line['low']:.2f}, {line['high']:.2f}]   ms: {', '.join(parts)}"


if __name__ == "__main__":
    main()
