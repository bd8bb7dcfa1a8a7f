"""Metrics on the validation split during training, under the names of `metrics`."""

from torch import Tensor

from trainables.config.trial import EvaluationConfig, SnnlConfig
from trainables.data import Split
from trainables.evaluation.core.clean import accuracy, expected_calibration_error, negative_log_likelihood
from trainables.evaluation.core.entanglement import entanglement
from trainables.evaluation.core.evaluation_attack import robust_accuracy, zero_gradients
from trainables.evaluation.core.prediction import balanced_subset
from trainables.models import TappedClassifier, measured_taps

__all__ = ["probe", "validate"]

ENTANGLEMENT_IMAGES = 512


def validate(logits_NK: Tensor, labels_N: Tensor) -> dict[str, float]:
    """Measure the cheap metrics of every epoch: accuracy, likelihood and calibration."""
    return {
        "val/accuracy": accuracy(logits_NK, labels_N),
        "val/nll": negative_log_likelihood(logits_NK, labels_N),
        "val/ece": expected_calibration_error(logits_NK, labels_N),
    }


def probe(model: TappedClassifier, val: Split, *, settings: EvaluationConfig, snnl: SnnlConfig) -> dict[str, float]:
    """Measure the costly metrics of some epochs: robust accuracy, and entanglement at `measured_taps`."""
    return {**_robustness(model, val, settings), **_entanglement(model, val, snnl)}


def _robustness(model: TappedClassifier, val: Split, settings: EvaluationConfig) -> dict[str, float]:
    if settings.robust_epsilon == 0:
        return {}
    subset = balanced_subset(val, size=settings.robust_images)
    value = robust_accuracy(
        model, subset, epsilon=settings.robust_epsilon, norm=settings.robust_norm, steps=settings.robust_steps
    )
    return {"val/robust_accuracy": value, "val/zero_gradients": zero_gradients(model, subset)}


def _entanglement(model: TappedClassifier, val: Split, settings: SnnlConfig) -> dict[str, float]:
    subset = balanced_subset(val, size=ENTANGLEMENT_IMAGES)
    taps = measured_taps(settings.layers, model)
    minima = entanglement(model, subset, taps=taps, distance=settings.distance)
    values = {f"entanglement/{tap}": minimum.value for tap, minimum in minima.items()}
    # At the edge T->inf there is no temperature to report, and a tracking server takes no infinity.
    temperatures = {
        f"temperature/{tap}": minimum.temperature for tap, minimum in minima.items() if minimum.edge != "T->inf"
    }
    chance = next(minimum.chance for minimum in minima.values())
    return values | temperatures | {"val/entanglement_chance": chance}
