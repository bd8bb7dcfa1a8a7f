"""The work under Ray Tune, as its guides teach it: a function that reports with checkpoints, ASHA, MLflow's callback.

https://docs.ray.io/en/latest/tune/getting-started.html and tune/tutorials/tune-trial-checkpoints.html.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from settings import Settings
from trial import Trial


def train(config: dict[str, Any], settings: Settings) -> None:
    """Train a point, and report what each epoch measured, with a checkpoint."""
    trial = Trial(settings, config["point"])
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            trial.load(Path(folder, "trial.pt"))
    while trial.epoch < settings.epochs:
        accuracy = trial.run_epoch()
        settings.report(config["number"], trial.epoch, accuracy)
        with tempfile.TemporaryDirectory() as folder:
            trial.save(Path(folder, "trial.pt"))
            tune.report({"accuracy": accuracy}, checkpoint=tune.Checkpoint.from_directory(folder))


def main() -> None:
    """Run the sweep."""
    settings = Settings.read(sys.argv[1])
    ray.init(address="local", num_cpus=settings.slots, include_dashboard=False)
    points = [{"number": number, "point": point} for number, point in enumerate(settings.points)]
    tuner = tune.Tuner(
        tune.with_parameters(train, settings=settings),
        param_space=tune.grid_search(points),
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
            scheduler=ASHAScheduler(
                max_t=settings.epochs, grace_period=settings.rungs[0], reduction_factor=settings.factor
            ),
        ),
        run_config=tune.RunConfig(
            name="peers",
            storage_path=settings.folder,
            callbacks=[MLflowLoggerCallback(tracking_uri=settings.tracking_uri, experiment_name="peers")],
        ),
    )
    best = tuner.fit().get_best_result()
    print(f"best accuracy {best.metrics['accuracy']:.4f} of {best.config}")


if __name__ == "__main__":
    main()
