"""A training function under plain Ray Tune and under Ravel: lines to write, time, epochs, and a driver that is killed.

Both sweep the softmax regression of `ravel init --from own-task`, with ASHA (first rung after 1 epoch, a third goes
on), random points, and MLflow in a fresh sqlite file. Plain Tune is as Ray's guides teach it, with a checkpoint for
each epoch: `plain_tune/tune_digits.py`. Each way runs in a process of its own, one after the other. With
`--kill-after`, both drivers get SIGKILL after so many reported epochs, and are started once more to continue.

    python benchmarks/plain_tune.py --trials 200
    python benchmarks/plain_tune.py --trials 40 --kill-after 40
"""

import argparse
import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
TEMPLATE = HERE.parent / "orchestrator/cli/templates/own-task"
PLAIN = HERE / "plain_tune/tune_digits.py"
ASHA = ("search.sampler=random", "scheduler={name: asha, kind: stopping, grace_period: 1, reduction_factor: 3}")


def python_lines(source: str) -> int:
    """Return the number of lines that are neither blank nor comments nor docstrings.

    >>> python_lines('"a module"' + chr(10) + "x = 1  # one" + chr(10) * 2 + "# two" + chr(10) + "y = 2")
    2
    """
    documented = (ast.Module, ast.FunctionDef, ast.ClassDef)
    texts = [
        node.body[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, documented) and ast.get_docstring(node) is not None
    ]
    skipped = {line for text in texts for line in range(text.lineno, (text.end_lineno or 0) + 1)}
    lines = enumerate(source.splitlines(), 1)
    return sum(number not in skipped and _is_code(line) for number, line in lines)


def yaml_lines(text: str) -> int:
    """Return the number of lines that are neither blank nor comments."""
    return sum(map(_is_code, text.splitlines()))


def _is_code(line: str) -> bool:
    return bool(line.strip()) and not line.strip().startswith("#")


def reported(folder: Path, pattern: str, word: str) -> int:
    """Return the number of epochs in the files of a sweep: lines with a word."""
    return sum(word in line for file in folder.glob(pattern) for line in file.read_text().splitlines())


def timed(command: Sequence[str], folder: Path, *, files: str, word: str, kill_after: int | None) -> tuple[float, int]:
    """Run a command, kill it after so many reported epochs if asked to; return the seconds and the epochs reported."""
    started = time.perf_counter()
    with (folder / "output.txt").open("a") as output:
        driver = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, start_new_session=True)  # noqa: S603
        while driver.poll() is None:
            if kill_after is not None and reported(folder, files, word) >= kill_after:
                os.kill(driver.pid, signal.SIGKILL)
                driver.wait()
                break
            time.sleep(0.2)
    if driver.returncode not in {0, -signal.SIGKILL}:
        raise SystemExit((folder / "output.txt").read_text()[-4000:])
    return time.perf_counter() - started, reported(folder, files, word)


def sweep(
    name: str, start: Sequence[str], again: Sequence[str], folder: Path, **how: str | int | None
) -> dict[str, float]:
    """Run a sweep, continue it if it was killed, and print and return what was measured."""
    seconds, epochs = timed(start, folder, **how)  # type: ignore[arg-type]
    measured = {"s": round(seconds, 1), "epochs": epochs}
    if how["kill_after"] is not None:
        more_s, epochs = timed(again, folder, **{**how, "kill_after": None})  # type: ignore[arg-type]
        measured |= {"s": round(seconds + more_s, 1), "epochs": epochs, "epochs at the kill": measured["epochs"]}
    print(name, json.dumps(measured), flush=True)
    return measured


def main() -> None:
    """Count the lines, run both ways, and print their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--kill-after", type=int, metavar="EPOCHS", default=None)
    options = parser.parse_args()
    plain = python_lines(PLAIN.read_text())
    training, spec = (
        python_lines((TEMPLATE / "training.py").read_text()),
        yaml_lines((TEMPLATE / "sweep.yaml").read_text()),
    )
    print(f"lines: plain Tune {plain}, Ravel {training + spec} ({training} of Python, {spec} of YAML)", flush=True)
    settings = [word for name in (f"search.num_trials={options.trials}", *ASHA) for word in ("--set", name)]
    ravel = str(Path(sys.executable).with_name("ravel"))
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ravel"), Path(folder, "tune")
        shutil.copytree(TEMPLATE, ours)
        theirs.mkdir()
        launch, resume = [ravel, "launch", "sweep.yaml", *settings], [ravel, "resume", "own-task"]
        mine = sweep(
            "Ravel", launch, resume, ours,
            files="results/*/events*.jsonl", word='"epoch_reported"', kill_after=options.kill_after,
        )  # fmt: skip
        run = [sys.executable, str(PLAIN), "--trials", str(options.trials)]
        other = sweep(
            "plain Tune", run, run, theirs,
            files="results/digits/*/result.json", word='"training_iteration"', kill_after=options.kill_after,
        )  # fmt: skip
    print(f"plain Tune / Ravel: {other['s'] / mine['s']:.2f} in time, {other['epochs'] / mine['epochs']:.2f} in epochs")


if __name__ == "__main__":
    main()
