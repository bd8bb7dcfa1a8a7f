"""Your own training function: softmax regression on handwritten digits, in plain numpy.

Replace everything in it. What Ravel needs: a function with your parameters as arguments, which yields the metrics of
each epoch. Of the arguments `context`, `epochs`, `seed` and `device`, Ravel passes those that the signature has.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

NUM_CLASSES = 10


def train(context: Any, lr: float, weight_decay: float = 0.0, batch_size: int = 32) -> Iterator[dict[str, float]]:
    """Train for `context.epochs` epochs, and yield what each one measured."""
    (x_train, y_train), (x_val, y_val) = splits()
    weights = np.zeros((x_train.shape[1], NUM_CLASSES))
    if context.restored is not None:  # the sweep was interrupted, or this trial was paused and is promoted
        weights = np.array(context.restored["weights"])
    context.save_with(lambda: {"weights": weights.tolist()})  # or a state_dict, if you use torch
    for _ in range(context.epoch, context.epochs):
        # numpy's generator is seeded for each epoch: a resumed trial sees the same batches.
        order = np.random.permutation(len(x_train))  # noqa: NPY002
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            error = softmax(x_train[batch] @ weights) - np.eye(NUM_CLASSES)[y_train[batch]]
            weights -= lr * (x_train[batch].T @ error / len(batch) + weight_decay * weights)
        probabilities = softmax(x_val @ weights)
        yield {
            "val/accuracy": float((probabilities.argmax(1) == y_val).mean()),
            "val/nll": float(-np.log(probabilities[np.arange(len(y_val)), y_val] + 1e-12).mean()),
        }


def splits() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return the training and the validation images and labels; pixels are in [0, 1]."""
    digits = load_digits()
    images, labels = digits.data / 16, digits.target
    return (images[:1200], labels[:1200]), (images[1200:], labels[1200:])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of each row."""
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)
