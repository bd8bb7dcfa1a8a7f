"""The trivial sweep under plain Ray Tune: the same trials, with and without loggers. `scale.py` runs it.

Actors are kept from trial to trial, as Ravel keeps them. Plain Tune saves no checkpoint here; Ravel saves one at each
rung and at the end.
"""

import argparse
import os
from pathlib import Path
from typing import Any

LOGGERS = ("none", "files", "mlflow")
EPOCHS = 3


def main() -> None:
    """Run the sweep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument(
        "--loggers", choices=LOGGERS, default="files", help="none; Tune's own files; and MLflow as well"
    )
    options = parser.parse_args()
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    if options.loggers == "none":
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    import ray  # noqa: PLC0415  reads the settings above when it is imported
    from ray import tune  # noqa: PLC0415
    from ray.air.integrations.mlflow import MLflowLoggerCallback  # noqa: PLC0415
    from ray.tune.schedulers import ASHAScheduler  # noqa: PLC0415

    class AtOnce(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.point, self.epoch = config, 0

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            self.epoch += 1
            values = {"score": sum(self.point.values()) / 6 + self.epoch, "loss": 1 / self.epoch}
            return {**values, "epoch": self.epoch, "done": self.epoch == EPOCHS}

    tracked = [MLflowLoggerCallback(tracking_uri=f"sqlite:///{Path.cwd()}/mlflow.db", experiment_name="scale")]
    ray.init(address="local", log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    results = tune.Tuner(
        AtOnce,
        param_space={name: tune.uniform(0.0, 1.0) for name in "abcdef"},
        tune_config=tune.TuneConfig(
            metric="score",
            mode="max",
            num_samples=options.trials,
            reuse_actors=True,
            scheduler=ASHAScheduler(time_attr="epoch", max_t=EPOCHS, grace_period=1, reduction_factor=3),
        ),
        run_config=tune.RunConfig(
            name="scale",
            storage_path=f"{Path.cwd()}/results",
            verbose=0,
            callbacks=tracked if options.loggers == "mlflow" else [],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # else Tune saves each trial of a class
        ),
    ).fit()
    ray.shutdown()
    if results.num_errors:
        raise SystemExit(f"{results.num_errors} of {options.trials} trials failed: {results.errors[0]}")


if __name__ == "__main__":
    main()
