"""Training steps of a trial as functions without arguments, timed in turns; and trials that train at the same time."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, cast, final

import torch

from trainables.config.trial import TrialConfig
from trainables.tasks.classifier.run import ClassifierRun, start

PLAIN = {"optimizer.schedule": "constant", "optimizer.lr": 1e-4, "epochs": 10**6, "evaluation.robust_epsilon": 0.0}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "snnl": {"snnl.weight": -0.01},
    "mixup": {"mixup.alpha": 1.0, "mixup.layers": "input+hidden"},
    "pgd": {
        "adversarial.epsilon": 0.1,
        "adversarial.attack": "pgd",
        "adversarial.steps": 7,
        "adversarial.clean_fraction": 0.0,
    },
    "trades": {"adversarial.epsilon": 0.1, "adversarial.attack": "trades", "adversarial.steps": 7},
}
WARM_UP = 3
Step = Callable[[], object]


def run_of(point: Mapping[str, Any], method: str, **settings: Any) -> ClassifierRun:
    """Return a trial of a method that is ready to train."""
    run = start(TrialConfig.from_point({**PLAIN, **point, **METHODS[method], **settings})).run
    run.model.train()
    return run


def step_of(run: ClassifierRun) -> Step:
    """Return the training step of a trial: each call takes the next batch of an order that is sampled once."""
    order_SB = run.order().to(run.placement.device)
    taken = [0]

    def step() -> object:
        taken[0] += 1
        return run._step(order_SB[taken[0] % len(order_SB)], step=taken[0])  # noqa: SLF001  what is measured

    return step


def in_turns(steps: Mapping[str, Step], *, rounds: int, turn_s: float, device: str) -> dict[str, list[float]]:
    """Return the seconds of a step of each kind in each round; all take turns, in an order that rotates."""
    counts = {name: max(1, round(turn_s / warmed(step, device=device))) for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for number in range(rounds):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            seconds[name].append(seconds_of(steps[name], counts[name], device=device))
    return seconds


def warmed(step: Step, *, device: str) -> float:
    """Run a step until it is warm, and return the seconds of one more."""
    seconds_of(step, WARM_UP, device=device)
    return seconds_of(step, 1, device=device)


def seconds_of(step: Step, count: int, *, device: str) -> float:
    """Return the mean seconds of so many steps."""
    synchronise(device)
    began = time.perf_counter()
    for _ in range(count):
        step()
    synchronise(device)
    return (time.perf_counter() - began) / count


def synchronise(device: str) -> None:
    """Wait for a GPU to finish."""
    if device != "cpu":
        torch.cuda.synchronize()


@final
class Trainer:
    """Process that trains a trial by itself, for so many seconds at a time."""

    def __init__(self, point: Mapping[str, Any], method: str, *, threads: int) -> None:
        document = json.dumps({"point": point, "method": method, "threads": threads})
        command = [sys.executable, str(Path(__file__).resolve()), document]
        self._process = subprocess.Popen(  # noqa: S603  our own command
            command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def begin(self, seconds: float) -> None:
        """Have it train for so long."""
        questions = cast("TextIO", self._process.stdin)
        questions.write(f"{seconds}\n")
        questions.flush()

    def steps_per_s(self) -> float:
        """Wait for its steps per second.

        Raises:
            SystemExit: the process ended; it has written why.
        """
        line = cast("TextIO", self._process.stdout).readline()
        if not line:
            raise SystemExit("a process that trains ended; its error is above")
        return float(line)

    def end(self) -> None:
        """End the process."""
        self._process.communicate()


def together(trainers: Sequence[Trainer], seconds: float) -> float:
    """Return the steps per second of trials that train at the same time, all together."""
    for trainer in trainers:
        trainer.begin(seconds)
    return sum(trainer.steps_per_s() for trainer in trainers)


def serve(point: Mapping[str, Any], method: str, threads: int) -> None:
    """Train for as long as each line of standard input says, and print the steps per second."""
    torch.set_num_threads(threads)
    step, device = step_of(run_of(point, method)), str(point["device"])
    one_s = warmed(step, device=device)
    for line in sys.stdin:
        seconds, began, count = float(line), time.perf_counter(), 0
        some = max(1, round(0.2 / one_s))
        while time.perf_counter() < began + seconds:
            seconds_of(step, some, device=device)
            count += some
        print(count / (time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    serve(**json.loads(sys.argv[1]))
