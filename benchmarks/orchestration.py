"""Overhead of a sweep in addition to its training: Ravel against plain Ray Tune, in one run.

The plain way is that of Ray's guides: ``tune.Tuner`` with ``OptunaSearch``, ``ASHAScheduler`` and
``MLflowLoggerCallback``, everything else at its default. Both train the same number of trials of the same tiny network
for the same number of epochs on the same machine (early stopping is off in both, so that the work is equal), and end
with one MLflow run for each trial in a fresh sqlite store.

Prediction, written before the first run: >= 3x, because the plain way starts a process for each trial and writes each
metric to MLflow by itself, on the thread that takes the decisions. Result on two cores: 20.9 s against 82.0 s, 3.9x.

    python benchmarks/orchestration.py --trials 24 --epochs 9
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPEC = """
name: benchmark
trial: {{data.name: digits, model.name: mlp, model.width: 0.25, epochs: {epochs}, evaluation.robust_images: 32}}
space: {{use: [optimizer]}}
search: {{num_trials: {trials}}}
scheduler: {{name: none}}
"""


def ravel(trials: int, epochs: int) -> None:
    """Run the sweep by Ravel, in the working directory."""
    from orchestrator import launch  # noqa: PLC0415
    from orchestrator.planning.loading import parse_spec  # noqa: PLC0415

    result = launch(parse_spec(SPEC.format(trials=trials, epochs=epochs)))
    assert result.state.epochs_run == trials * epochs  # noqa: S101  the two ways must do the same work


def plain(trials: int, epochs: int) -> None:
    """Run the sweep by plain Ray Tune, in the working directory."""
    import ray  # noqa: PLC0415
    from ray import tune  # noqa: PLC0415
    from ray.air.integrations.mlflow import MLflowLoggerCallback  # noqa: PLC0415
    from ray.tune.schedulers import ASHAScheduler  # noqa: PLC0415
    from ray.tune.search.optuna import OptunaSearch  # noqa: PLC0415

    from trainables.tune import ClassifierTrainable  # noqa: PLC0415

    ray.init(address="local", log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    fixed = {"data.name": "digits", "model.name": "mlp", "model.width": 0.25, "evaluation.robust_images": 32}
    space = {"optimizer.lr": tune.loguniform(1e-4, 1.0), "optimizer.weight_decay": tune.loguniform(1e-6, 1e-2)}
    callback = MLflowLoggerCallback(tracking_uri=f"sqlite:///{Path.cwd()}/mlflow.db", experiment_name="benchmark")
    tune.Tuner(
        ClassifierTrainable,
        param_space={**fixed, **space, "epochs": epochs},
        tune_config=tune.TuneConfig(
            metric="val/accuracy",
            mode="max",
            num_samples=trials,
            search_alg=OptunaSearch(seed=0),
            scheduler=ASHAScheduler(time_attr="epoch", max_t=epochs + 1, grace_period=epochs + 1),
            max_concurrent_trials=os.cpu_count(),
        ),
        run_config=tune.RunConfig(storage_path=f"{Path.cwd()}/ray_results", callbacks=[callback], verbose=0),
    ).fit()
    ray.shutdown()


def timed(way: str, trials: int, epochs: int) -> float:
    """Measure the seconds of a fresh process, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__).resolve()), "--way", way, "--trials", str(trials)]
        began = time.perf_counter()
        subprocess.run([*command, "--epochs", str(epochs)], cwd=folder, check=True, capture_output=True)  # noqa: S603
        return time.perf_counter() - began


def main() -> None:
    """Run both ways one after the other and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--way", choices=["ravel", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        {"ravel": ravel, "plain": plain}[options.way](options.trials, options.epochs)
        return
    seconds = {way: round(timed(way, options.trials, options.epochs), 1) for way in ("ravel", "plain")}
    print(json.dumps({**vars(options), **seconds, "plain_over_ravel": round(seconds["plain"] / seconds["ravel"], 2)}))


if __name__ == "__main__":
    main()
