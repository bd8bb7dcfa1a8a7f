"""The training function of `ravel init --from own-task` under plain Ray Tune, as Ray's guides teach it.

Run it once more to continue after an interruption.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from sklearn.datasets import load_digits

NUM_CLASSES = 10
EPOCHS = 27


def train(config: dict[str, Any]) -> None:
    """Train, and report what each epoch measured, with a checkpoint."""
    (x_train, y_train), (x_val, y_val) = splits()
    weights, first = np.zeros((x_train.shape[1], NUM_CLASSES)), 0
    rng = np.random.default_rng(config["seed"])
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            state = json.loads(Path(folder, "state.json").read_text())
        weights, first = np.array(state["weights"]), state["epoch"]
        rng.bit_generator.state = state["rng"]
    for epoch in range(first, EPOCHS):
        order = rng.permutation(len(x_train))
        for start in range(0, len(order), config["batch_size"]):
            batch = order[start : start + config["batch_size"]]
            error = softmax(x_train[batch] @ weights) - np.eye(NUM_CLASSES)[y_train[batch]]
            weights -= config["lr"] * (x_train[batch].T @ error / len(batch) + config["weight_decay"] * weights)
        probabilities = softmax(x_val @ weights)
        metrics = {
            "val/accuracy": float((probabilities.argmax(1) == y_val).mean()),
            "val/nll": float(-np.log(probabilities[np.arange(len(y_val)), y_val] + 1e-12).mean()),
        }
        with tempfile.TemporaryDirectory() as folder:
            state = {"weights": weights.tolist(), "epoch": epoch + 1, "rng": rng.bit_generator.state}
            Path(folder, "state.json").write_text(json.dumps(state))
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


def splits() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return the training and the validation images and labels; pixels are in [0, 1]."""
    digits = load_digits()
    images, labels = digits.data / 16, digits.target
    return (images[:1200], labels[:1200]), (images[1200:], labels[1200:])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of each row."""
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def main() -> None:
    """Run the sweep, or continue it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=200)
    trials = parser.parse_args().trials
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    ray.init(address="local", include_dashboard=False)
    folder = Path("results").resolve()
    callback = MLflowLoggerCallback(tracking_uri=f"sqlite:///{Path.cwd()}/mlflow.db", experiment_name="digits")
    if tune.Tuner.can_restore(str(folder / "digits")):
        tuner = tune.Tuner.restore(str(folder / "digits"), trainable=train, resume_unfinished=True)
    else:
        tuner = tune.Tuner(
            train,
            param_space={
                "lr": tune.loguniform(0.001, 10.0),
                "weight_decay": tune.choice([0.0, 0.0, 1e-6, 1e-4, 1e-2]),
                "batch_size": tune.choice([16, 32, 64, 128]),
                "seed": tune.randint(0, 2**31),
            },
            tune_config=tune.TuneConfig(
                metric="val/accuracy",
                mode="max",
                num_samples=trials,
                scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=1, reduction_factor=3),
            ),
            run_config=tune.RunConfig(name="digits", storage_path=str(folder), callbacks=[callback]),
        )
    best = tuner.fit().get_best_result()
    print(f"best val/accuracy {best.metrics['val/accuracy']:.4f} of {best.config}")


if __name__ == "__main__":
    main()
