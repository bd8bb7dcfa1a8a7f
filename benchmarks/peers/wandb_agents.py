"""The work in the manner of W&B Sweeps, without its server: agents that take the next point, and report to wandb.

`wandb.agent` asks a server for points and for which runs to stop. Here agents share a file of reports in its place, and
ask the engine that the server runs (`sweeps`, by its makers) with `early_terminate: hyperband`, as in
https://docs.wandb.ai/guides/sweeps/define-sweep-configuration. wandb itself is in its offline mode: it tracks each run
in a file of the folder. The first process starts the agents.
"""

import fcntl
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from settings import Settings


def sweep_of(settings: Settings) -> dict[str, Any]:
    """Return the configuration of the sweep."""
    return {
        "method": "random",
        "metric": {"name": "accuracy", "goal": "maximize"},
        "early_terminate": {"type": "hyperband", "min_iter": settings.rungs[0], "eta": settings.factor},
        "parameters": {
            name: {
                "distribution": "log_uniform_values" if domain.get("log") else "uniform",
                "min": domain["low"],
                "max": domain["high"],
            }
            for name, domain in settings.space.items()
        },
    }


def histories(settings: Settings) -> dict[int, list[dict[str, float]]]:
    """Return what each trial has reported, by its number.

    The engine counts steps from 0, so that the first step is before the training: its accuracy is taken to be 0. Then
    its bands are epochs.
    """
    found = defaultdict[int, list[dict[str, float]]](lambda: [{"accuracy": 0.0}])
    for line in settings.reports.read_text(encoding="utf-8").splitlines():
        report = json.loads(line)
        found[report["trial"]].append({"accuracy": report["accuracy"]})
    return found


def is_stopped(settings: Settings, number: int) -> bool:
    """Return True if the engine would stop a trial now."""
    import sweeps  # noqa: PLC0415  of the agents alone

    runs = [
        sweeps.SweepRun(
            name=str(trial),
            state=sweeps.RunState.running if trial == number else sweeps.RunState.finished,
            sampledHistory=history,
        )
        for trial, history in histories(settings).items()
    ]
    return bool(sweeps.stop_runs(sweep_of(settings), runs))


def numbers(settings: Settings) -> Iterator[int]:
    """Yield the numbers of points that no other agent has taken."""
    while True:
        with Path(settings.folder, "next.txt").open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            number = len(file.read())
            if number >= len(settings.points):
                return
            file.write(".")
        yield number


def work(settings: Settings) -> None:
    """Train points until all of them are taken: one of the agents."""
    import wandb  # noqa: PLC0415  of the agents alone
    from trial import Trial  # noqa: PLC0415

    for number in numbers(settings):
        point = settings.points[number]
        trial = Trial(settings, point)
        with wandb.init(project="peers", name=str(number), config=dict(point), dir=settings.folder) as run:
            while trial.epoch < settings.epochs:
                accuracy = trial.run_epoch()
                settings.report(number, trial.epoch, accuracy)
                trial.save(Path(settings.folder, f"{number}.pt"))
                run.log({"accuracy": accuracy}, step=trial.epoch)
                if is_stopped(settings, number):
                    break


def main() -> None:
    """Start the agents, or be one of them."""
    settings = Settings.read(sys.argv[1])
    if "--agent" in sys.argv:
        work(settings)
        return
    os.environ["WANDB_MODE"] = "offline"
    command = [sys.executable, __file__, sys.argv[1], "--agent"]
    agents = [subprocess.Popen(command) for _ in range(settings.slots)]  # noqa: S603
    codes = [agent.wait() for agent in agents]
    if any(codes):
        raise SystemExit("an agent failed")


if __name__ == "__main__":
    main()
