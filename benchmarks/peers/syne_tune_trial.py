"""Training script of Syne Tune: parameters are arguments, and each epoch is reported."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import mlflow
from settings import Settings
from trial import Trial


class Arguments(NamedTuple):
    """What Syne Tune's local backend passes to the script: the trial's folder of checkpoints has its number."""

    settings: str
    checkpoints: Path
    point: dict[str, float]

    @classmethod
    def parsed(cls, words: Sequence[str]) -> "Arguments":
        """Return the arguments of a command line; all that are not named here are of the point."""
        parser = argparse.ArgumentParser()
        parser.add_argument("--settings", required=True)
        parser.add_argument("--st_checkpoint_dir", type=Path, required=True)
        own, rest = parser.parse_known_args(words)
        point = {name.removeprefix("--"): float(value) for name, value in zip(rest[::2], rest[1::2], strict=True)}
        return cls(own.settings, own.st_checkpoint_dir, point)

    @property
    def number(self) -> int:
        """Number of the trial."""
        return int(self.checkpoints.parent.name)


def main() -> None:
    """Train a point."""
    from syne_tune import Reporter  # noqa: PLC0415  so that the arguments are tested where it is not installed

    arguments = Arguments.parsed(sys.argv[1:])
    settings, number, report = Settings.read(arguments.settings), arguments.number, Reporter()
    if number >= len(settings.points):  # two workers were free when one point was left, and each trial must report
        report(epoch=settings.epochs, accuracy=0.0)  # at no rung that decides on another trial
        return
    trial = Trial(settings, arguments.point)
    checkpoint = arguments.checkpoints / "trial.pt"
    if checkpoint.exists():
        trial.load(checkpoint)
    arguments.checkpoints.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(settings.tracking_uri)
    mlflow.set_experiment("peers")
    with mlflow.start_run(run_name=str(number)):
        mlflow.log_params(arguments.point)
        while trial.epoch < settings.epochs:
            accuracy = trial.run_epoch()
            settings.report(number, trial.epoch, accuracy)
            trial.save(checkpoint)
            mlflow.log_metric("accuracy", accuracy, step=trial.epoch)
            report(epoch=trial.epoch, accuracy=accuracy)


if __name__ == "__main__":
    main()
