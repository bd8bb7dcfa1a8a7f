"""The sign of snnl.weight does what the paper says: positive separates the classes, negative entangles them."""

from functools import cache

import pytest

from trainables.config.trial import TrialConfig
from trainables.tasks.classifier.training import train

HIDDEN = ("fc1", "fc2")


@cache
def entanglement(weight, seed):
    metrics = train(
        TrialConfig.from_point(
            {
                "model.name": "mlp",
                "epochs": 6,
                "seed": seed,
                "snnl.weight": weight,
                "evaluation.robust_epsilon": 0.0,
            }
        )
    ).metrics
    return {tap: metrics[f"entanglement/{tap}"] for tap in HIDDEN}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_negative_weight_raises_the_minimised_loss_of_every_hidden_tap(seed):
    plain, entangled = entanglement(0.0, seed), entanglement(-0.3, seed)
    assert all(entangled[tap] > 1.05 * plain[tap] for tap in HIDDEN)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_positive_weight_lowers_the_minimised_loss_of_every_hidden_tap(seed):
    plain, separated = entanglement(0.0, seed), entanglement(1.0, seed)
    assert all(separated[tap] < 0.95 * plain[tap] for tap in HIDDEN)
