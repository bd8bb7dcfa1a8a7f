"""Writer of offline runs, in a process of its own: the one door to wandb. It reads a run a line from standard input."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import wandb


def settings(host: str) -> wandb.Settings:
    """Return settings with which wandb records what it gets, and nothing of this process or machine."""
    import wandb  # noqa: PLC0415  an optional library

    return wandb.Settings(
        mode="offline",
        host=host,
        console="off",
        silent=True,
        save_code=False,
        disable_code=True,
        disable_git=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )


def write(document: dict[str, Any]) -> None:
    """Write one run, see ``wandb_runs.run_of``."""
    import wandb  # noqa: PLC0415

    run = wandb.init(**document["init"], settings=settings(document["host"]))
    for step, metrics in document["steps"]:
        run.log(metrics, step=step)
    run.summary.update(document["summary"])
    run.finish()


def main() -> None:
    """Write every run of standard input."""
    for line in sys.stdin:
        write(json.loads(line))


if __name__ == "__main__":
    main()
