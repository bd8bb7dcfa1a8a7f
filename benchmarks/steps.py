"""Training steps per second of this checkout against another one, in one run.

Each checkout trains in a process of its own, one at a time: here, other, other, here in each round, so that a machine
that slows down or speeds up favours neither. Two processes with the same code differ by up to a tenth on a busy machine
for as long as they live (where their memory lies, the order of their sets), so each ratio is that of two fresh ones:
above 1 if this checkout is faster. The line has the median of the ratios, and the order statistics that enclose it with
a probability of at least 95 %. The control is this checkout against itself.
Both train the same trials: if a loss of theirs differs, the line says so. Seconds are the processor's where one thread
of a CPU trains, so that other processes on the machine disturb less.

The other checkout is a folder or a revision of this repository; by default the one before trials could have networks,
data sets and regularizers of a user's own, which is what these doors cost the project's own networks.

Predicted before measuring: 0.99 to 1.01 with every network, as a step of theirs still has no hooks; less with
'everything', where regularizers are called through one protocol.

    python benchmarks/steps.py                                # against 7b29eb8, about eight minutes on two cores
    python benchmarks/steps.py --other .                      # the control
    python benchmarks/steps.py --other ../checkout --only cnn mlp
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, TextIO, cast

HERE = Path(__file__).resolve().parents[1]
BEFORE_OWN_CODE = "7b29eb8"
PAIRS = 8
ROUNDS = 2
TURN_S = 0.4
CONFIDENCE = 0.95
PLAIN = {"optimizer.schedule": "constant", "optimizer.lr": 1e-4, "epochs": 10**6, "evaluation.robust_epsilon": 0.0}
TRIALS = {
    "mlp": {"model.name": "mlp"},
    "cnn": {"model.name": "cnn"},
    "cnn_bn": {"model.name": "cnn_bn"},
    "preact_resnet18": {"model.name": "preact_resnet18", "model.width": 0.25},
    "wide_resnet28_10": {"model.name": "wide_resnet28_10", "model.width": 0.1},
    "everything": {
        "model.name": "cnn",
        "snnl.weight": -0.01,
        "mixup.alpha": 1.0,
        "mixup.layers": "input+hidden",
        "adversarial.epsilon": 0.1,
    },
}


class Turn(NamedTuple):
    """Result of one turn: the seconds of a step, and the mean loss of its last epoch."""

    step_s: float
    loss: float


class Checkout:
    """Process that trains with the code of one checkout when it is asked to."""

    def __init__(self, folder: Path, *, threads: int, device: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-P", __file__, "--serve", "--device", device]
        self._process = subprocess.Popen(  # noqa: S603  our own command
            command, cwd=folder, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def begin(self, trial: str) -> float:
        """Begin a trial and train it for an epoch, to warm up; return the seconds of a second epoch."""
        return float(self._answer({"begin": trial}))

    def turn(self, epochs: int) -> Turn:
        """Train so many epochs."""
        return Turn(*self._answer({"epochs": epochs}))

    def end(self) -> None:
        """End the process."""
        cast("TextIO", self._process.stdin).close()
        self._process.wait()

    def _answer(self, request: dict[str, object]) -> object:
        """Send one request, and return the answer.

        Raises:
            SystemExit: the process ended; it has written why.
        """
        questions, answers = cast("TextIO", self._process.stdin), cast("TextIO", self._process.stdout)
        questions.write(f"{json.dumps(request)}\n")
        questions.flush()
        line = answers.readline()
        if not line:
            sys.exit(f"the checkout in {self._process.args} ended")
        return json.loads(line)


def serve(device: str) -> None:
    """Train as asked on standard input, with the code of the working directory."""
    import trainables  # noqa: PLC0415 - that of the checkout
    from trainables.config.trial import TrialConfig  # noqa: PLC0415
    from trainables.tasks.classifier.run import start  # noqa: PLC0415

    if not Path(trainables.__file__).is_relative_to(Path.cwd()):
        sys.exit(f"trainables must be those of {Path.cwd()}, got {trainables.__file__}")
    trained, run = 0, None
    clock = time.process_time if device == "cpu" and os.environ["OMP_NUM_THREADS"] == "1" else time.perf_counter
    for line in sys.stdin:
        request = json.loads(line)
        if "begin" in request:
            trained, run = 2, start(TrialConfig.from_point({**PLAIN, **TRIALS[request["begin"]], "device": device})).run
            run.train_epoch(1)
            started = clock()
            run.train_epoch(2)
            answer: object = clock() - started
        else:
            started, epochs = clock(), request["epochs"]
            for epoch in range(trained + 1, trained + epochs + 1):
                metrics = run.train_epoch(epoch)
            trained += epochs
            answer = (clock() - started) / (epochs * run.batches_per_epoch), metrics["train/loss"]
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Return the order statistics that enclose the median with at least the confidence, or the extremes.

    >>> interval([0.9, 1.0, 1.1, 1.2, 1.3, 1.4])
    (0.9, 1.4)
    """
    ordered, count = sorted(ratios), len(ratios)
    outside, low = 2 * 0.5**count, 0
    while (more := outside + 2 * math.comb(count, low + 1) * 0.5**count) <= 1 - CONFIDENCE:
        outside, low = more, low + 1
    return ordered[low], ordered[-1 - low]


class Pair(NamedTuple):
    """What two processes measured of one trial."""

    steps_per_s: float
    ratio: float
    equal_losses: bool


def compare(trial: str, here: Checkout, other: Checkout, *, rounds: int) -> Pair:
    """Measure one trial in both checkouts."""
    epochs = max(1, round(TURN_S / max(here.begin(trial), other.begin(trial))))
    here_s, other_s, equal = 0.0, 0.0, True
    for _ in range(rounds):
        first, second, third, fourth = (checkout.turn(epochs) for checkout in (here, other, other, here))
        here_s, other_s = here_s + first.step_s + fourth.step_s, other_s + second.step_s + third.step_s
        equal = equal and (first.loss, fourth.loss) == (second.loss, third.loss)
    return Pair(2 * rounds / here_s, other_s / here_s, equal)


def summary(trial: str, pairs: Sequence[Pair]) -> dict[str, object]:
    """Summarise a trial over all pairs of processes."""
    low, high = interval([pair.ratio for pair in pairs])
    return {
        "trial": trial,
        "steps_per_s": statistics.median(pair.steps_per_s for pair in pairs),
        "ratio": statistics.median(pair.ratio for pair in pairs),
        "low": low,
        "high": high,
        "equal_losses": all(pair.equal_losses for pair in pairs),
    }


def unpack(revision: str, folder: Path) -> Path:
    """Write the files of a revision of this repository into a folder."""
    command = ["git", "archive", revision]
    packed = subprocess.run(command, cwd=HERE, check=True, stdout=subprocess.PIPE).stdout  # noqa: S603  our own command
    with tarfile.open(fileobj=BytesIO(packed)) as files:
        files.extractall(folder, filter="data")
    return folder


def main() -> None:
    """Measure each trial in each pair of processes, and print a line for each trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", default=BEFORE_OWN_CODE, help="folder, or revision of this repository")
    parser.add_argument("--only", nargs="+", choices=TRIALS, default=list(TRIALS))
    parser.add_argument("--pairs", type=int, default=PAIRS, help="pairs of processes")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.device)
        return
    with tempfile.TemporaryDirectory() as name:
        given = Path(arguments.other)
        other = given.resolve() if given.is_dir() else unpack(arguments.other, Path(name))
        measured: dict[str, list[Pair]] = {trial: [] for trial in arguments.only}
        for _ in range(arguments.pairs):
            pair = [Checkout(folder, threads=arguments.threads, device=arguments.device) for folder in (HERE, other)]
            for trial, pairs in measured.items():
                pairs.append(compare(trial, *pair, rounds=arguments.rounds))
            for checkout in pair:
                checkout.end()
        for trial, pairs in measured.items():
            line = summary(trial, pairs)
            text = "{trial:>18}  {steps_per_s:8.1f} steps/s   ratio {ratio:.3f} [{low:.3f}, {high:.3f}]".format(**line)
            note = "" if line["equal_losses"] else "   other losses"
            print(json.dumps(line) if arguments.json else f"{text}{note}", flush=True)


if __name__ == "__main__":
    main()
