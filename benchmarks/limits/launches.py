"""Sweeps that are launched to see where their time goes: real training, and trials that do nothing."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from scale.results import ROOT
from scale.watched import watch

from orchestrator.state.event_log import read_events
from orchestrator.state.events import EpochReported, Event
from orchestrator.state.sweep_lookup import find_sweep

RAVEL = str(Path(sys.executable).with_name("ravel"))
LOOK_S = 0.5
"""Seconds between two looks at the log of a sweep that is to be ended."""
BATCH = 32
WIDTHS = (0.25, 0.5, 1.0)
PROBED = 600
MOST_IMAGES = 14_000
"""Images that the digits make, each in eight places, less some for a test split."""
ENDLESS = 10_000


@dataclass(frozen=True)
class Work:
    """What each trial of a sweep trains, and how many images its steps see in an epoch."""

    trial: Mapping[str, Any]
    images: int


NOTHING = Work({"task": "trivial:steady", "period_s": 1.0, "epochs": ENDLESS}, images=0)
"""Trials that report each second that they are there."""


def spec_of(work: Work, *, slots: int, trials: int, epochs: int | None = None) -> dict[str, Any]:
    """Return a spec whose slots fit on this machine; without `epochs` those of the work, and none is stopped."""
    is_own = "task" in work.trial
    learning_rate = {"optimizer.lr": {"float": [0.01, 0.1], "log": True}}
    return {
        "name": "slots",
        "trial": {**work.trial, **({"epochs": epochs} if epochs else {})},
        "space": {"parameters": {"a": {"float": [0.0, 1.0]}} if is_own else learning_rate},
        **({"objective": {"metric": "score", "mode": "max"}} if is_own else {"evaluation": {"robust_epsilon": 0.0}}),
        "search": {"num_trials": trials, "sampler": "random", "seed": 0},
        "scheduler": {"name": "asha", "grace_period": 1, "reduction_factor": 3} if epochs else {"name": "none"},
        "resources": {
            "cpus": min(1.0, len(os.sched_getaffinity(0)) / slots),
            "gpus": 0,
            "max_concurrent": slots,
        },
    }


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of commands in a folder: a store of their own, and workers of the niceness of others."""
    return {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "PYTHONPATH": str(ROOT),
        "RAY_ADDRESS": "",
        "RAY_worker_niceness": "0",
    }


@dataclass(frozen=True)
class Launch:
    """A sweep that was launched: when its command began, and its log."""

    began: float
    events: tuple[Event, ...]


@contextmanager
def folder_of(spec: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a folder with a spec and the training function of trials that do nothing; it is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="st", dir="/tmp") as name:
        folder = Path(name)
        shutil.copy(ROOT / "benchmarks/scale/trivial.py", folder)
        (folder / "sweep.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
        yield folder


def command(way: str) -> list[str]:
    """Return the command that launches the sweep of a folder; the way is an address."""
    return [RAVEL, "launch", "sweep.yaml", "--address", way]


def launched(spec: Mapping[str, Any], way: str, *, stop_after: int | None = None) -> Launch:
    """Launch a sweep and wait for its end, or end it once so many of its trials have reported."""
    with folder_of(spec) as folder:
        looked = [time.monotonic()]

        def is_filled() -> bool:
            if stop_after is None or time.monotonic() < looked[0] + LOOK_S:
                return False
            looked[0] = time.monotonic()
            return len({event.trial for event in logged(folder) if isinstance(event, EpochReported)}) >= stop_after

        run = watch(command(way), folder, environ=environment(folder), stop=is_filled)
        return Launch(run.began, tuple(logged(folder)))


def logged(folder: Path) -> list[Event]:
    """Return the events of the sweep in a folder so far."""
    if not list(folder.glob("results/*/events*")):
        return []
    return [event for event, _ in read_events(find_sweep(folder / "results").events)]


def seconds_of(arguments: Sequence[str], folder: Path) -> float:
    """Return the seconds of a whole command, from start to exit.

    Raises:
        SystemExit: it failed; shows what it printed.
    """
    started = time.perf_counter()
    done = subprocess.run(  # noqa: S603  our own command
        [RAVEL, *arguments],
        cwd=folder,
        env={**os.environ, **environment(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"ravel {' '.join(arguments)}: {done.stderr[-4000:]}")
    return seconds


def work_of(folder: Path, epoch_s: float) -> Work:
    """Lay out images of which an epoch, with its evaluation, lasts so long on one thread, and return what to train.

    The network is the first of WIDTHS for which there are enough images.

    Raises:
        SystemExit: there are too few for the widest one.
    """
    images = 0
    for width in WIDTHS:
        probe = folder / f"probe-{epoch_s:g}-{width}"
        trial = _laid_out(probe, PROBED, width)
        images = max(BATCH * 4, round(PROBED * epoch_s / _probed_s(trial)))
        if images <= MOST_IMAGES:
            trial = _laid_out(folder / f"epoch-{epoch_s:g}", images, width)
            return Work(trial, _images_of_steps(trial))
    raise SystemExit(
        f"share: an epoch of {epoch_s:g} s needs {images:,} images, and there are {MOST_IMAGES:,}; "
        f"add a wider network to WIDTHS in {__file__}"
    )


def _laid_out(root: Path, images: int, width: float) -> dict[str, Any]:
    from training import lay_out_digits  # noqa: PLC0415  imports torch

    lay_out_digits(root, images)
    return {
        "data.name": "mnist",
        "data.root": str(root),
        "data.cache": str(root / "cache"),
        "model.name": "preact_resnet18",
        "model.width": width,
        "batch_size": BATCH,
        "device": "cpu",
    }


def _probed_s(trial: Mapping[str, Any]) -> float:
    """Return the seconds of the second epoch of a trial on one thread."""
    import torch  # noqa: PLC0415

    from trainables.config.trial import TrialConfig  # noqa: PLC0415
    from trainables.tasks.classifier.run import start  # noqa: PLC0415

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        loop = start(TrialConfig.from_point({**trial, "epochs": 3, "evaluation.robust_epsilon": 0.0}))
        loop.run_epoch()
        return float(loop.run_epoch().metrics["time/epoch_s"])
    finally:
        torch.set_num_threads(threads)


def _images_of_steps(trial: Mapping[str, Any]) -> int:
    """Return the images in the batches of an epoch, all of which are full."""
    from trainables.config.trial import TrialConfig  # noqa: PLC0415
    from trainables.data import load_splits  # noqa: PLC0415

    count = len(load_splits(TrialConfig.from_point(trial).data).train)
    return BATCH * max(1, count // BATCH)
