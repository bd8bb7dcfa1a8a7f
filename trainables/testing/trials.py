"""Short trials on the embedded digits, which checks train, resume and compare."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from trainables.config.trial import TrialConfig
from trainables.engine.epoch_loop import EpochLoop
from trainables.errors import Diverged
from trainables.tasks.classifier.run import ClassifierRun, restore, start

__all__ = ["Trained", "check_resumed", "measured", "train"]

SMALL: Mapping[str, Any] = {
    "model.name": "mlp",
    "epochs": 2,
    "device": "cpu",
    "precision": "float32",
    "evaluation.robust_epsilon": 0.0,
}


@dataclass(frozen=True, slots=True)
class Trained:
    """Trial after its last epoch: weights, memory of regularizers, and each epoch's metrics that measure no time."""

    weights: Mapping[str, torch.Tensor]
    memory: Mapping[str, torch.Tensor]
    metrics: tuple[Mapping[str, float], ...]

    def equals(self, other: "Trained") -> bool:
        """Return True if both trials have the same weights, bit for bit."""
        return _same(self.weights, other.weights)


def train(name: str, point: Mapping[str, Any]) -> Trained:
    """Train a short trial; `name` is that of the code in question, for messages.

    Raises:
        ConfigError: the trial is refused.
        AssertionError: a term of its loss is not finite.
    """
    try:
        return _trained(start(TrialConfig.from_point({**SMALL, **point})))
    except Diverged as error:
        raise AssertionError(f"{name}: a short trial on digits must stay finite, got: {error}") from error


def check_resumed(name: str, point: Mapping[str, Any], whole: Trained) -> None:
    """Check that a trial that is saved after its first epoch and restored ends as the whole one, bit for bit.

    Raises:
        AssertionError: it does not.
    """
    config = TrialConfig.from_point({**SMALL, **point})
    loop = start(config)
    loop.run_epoch()
    with tempfile.TemporaryDirectory() as folder:
        loop.save(folder)
        resumed = restore(folder, config=config)
    end = _trained(resumed)
    differences = {
        "weights": not whole.equals(end),
        "memory": not _same(whole.memory, end.memory),
        "metrics": whole.metrics[1:] != end.metrics,
    }
    if any(differences.values()):
        what = " and ".join(part for part, differs in differences.items() if differs)
        raise AssertionError(f"{name}: a trial that is resumed after its first epoch ends with other {what}")


def measured(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """Return the metrics that do not measure time.

    >>> measured({"val/accuracy": 0.5, "time/epoch_s": 3.0})
    {'val/accuracy': 0.5}
    """
    return {name: value for name, value in metrics.items() if not name.startswith(("time/", "cost/"))}


def _trained(loop: EpochLoop[ClassifierRun]) -> Trained:
    metrics = tuple(measured(report.metrics) for report in loop.run_all())
    weights = {name: value.detach().clone() for name, value in loop.run.model.state_dict().items()}
    memories = (loop.run.memory or {}).items()
    memory = {f"{place} {name}": value.clone() for place, kept in memories for name, value in kept.items()}
    return Trained(weights, memory, metrics)


def _same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())
