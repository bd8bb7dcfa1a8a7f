"""Deep k-nearest neighbours in the conventions of the first released code, for comparison with its published run.

The published run (cleverhans, pull request 1073) trained this network with Adam at 0.001 in batches of 500 for six
epochs on all 60,000 images; it calibrated on the first 750 test images and was scored on the others. Here 50,000 are
trained on and are the bank, the calibration is 750 of the first 1,000 test images, class-balanced, and the other 9,000
are scored; taps of more than 2,048 numbers are projected to 512. FGSM takes the labels that the network predicts.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from trainables.attacks import evaluating, fgsm
from trainables.data import Split
from trainables.evaluation.core.prediction import batches
from trainables.evaluation.core.results import Subject
from trainables.evaluation.uncertainty.conformal import ConformalPrediction
from trainables.evaluation.uncertainty.dknn import SKETCH_ABOVE, fit
from trainables.models import TappedClassifier

EPSILON, CALIBRATION, BINS, BATCH_SIZE = 0.25, 1000, 10, 256
NAME = "as released"
RECIPE: Mapping[str, Any] = {
    "optimizer.name": "adamw",
    "optimizer.lr": 0.001,
    "optimizer.weight_decay": 0.0,
    "optimizer.schedule": "constant",
    "batch_size": 500,
    "epochs": 6,
}
COLUMNS = {
    "accuracy": "released/accuracy",
    "mean credibility": "released/credibility",
    "in the highest of 10 bins": "released/highest_bin",
    "accuracy, FGSM 0.25": "released/fgsm_accuracy",
    "mean credibility, FGSM": "released/fgsm_credibility",
    "in the lowest bin, FGSM": "released/fgsm_lowest_bin",
}


def measured(subject: Subject) -> dict[str, float]:
    """Measure accuracy and credibility on clean and attacked test images."""
    numbers = torch.arange(len(subject.test))
    calibration, scored = subject.test.take(numbers[:CALIBRATION]), subject.test.take(numbers[CALIBRATION:])
    detector = fit(
        subject.model, bank=subject.train, calibration=calibration, mode="cleverhans", sketch_above=SKETCH_ABOVE
    )
    clean = detector.predict(scored)
    attacked = ConformalPrediction.joined([detector.predict_pixels(x) for x in _attacked(subject.model, scored)])
    return {
        "released/accuracy": _mean(clean.prediction_N == scored.labels_N),
        "released/credibility": _mean(clean.credibility_N),
        "released/highest_bin": _mean(clean.credibility_N >= 1 - 1 / BINS),
        "released/fgsm_accuracy": _mean(attacked.prediction_N == scored.labels_N),
        "released/fgsm_credibility": _mean(attacked.credibility_N),
        "released/fgsm_lowest_bin": _mean(attacked.credibility_N < 1 / BINS),
    }


def _attacked(model: TappedClassifier, scored: Split) -> Iterator[Tensor]:
    for x, _ in batches(scored, size=BATCH_SIZE):
        with evaluating(model), torch.no_grad():
            guessed_B = model(x).argmax(1)
        yield fgsm(model, x, guessed_B, epsilon=EPSILON)


def _mean(values: Tensor) -> float:
    return float(values.double().mean())
