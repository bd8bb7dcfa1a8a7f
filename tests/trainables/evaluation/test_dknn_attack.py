"""The adaptive attack: it stays in its ball, does what it says, and is stronger than blind ones."""

import pytest
import torch
from torch import nn

from trainables.data import Split
from trainables.evaluation.core.prediction import as_pixels
from trainables.evaluation.uncertainty import dknn_attack
from trainables.evaluation.uncertainty.dknn import fit
from trainables.evaluation.uncertainty.dknn_attack import AttackEffort, attack_neighbors, attack_network
from trainables.models import StagedClassifier


class Blind(nn.Module):
    """Logits that do not depend on the hidden states: attacks on them find no way."""

    def forward(self, hidden_BD):
        return torch.stack([hidden_BD[:, 0] * 0 + 1, hidden_BD[:, 0] * 0], dim=1)


def plane(seed=0, number=60):
    """Two clouds in a plane of pixels: class 0 at (0.35, 0.65), class 1 at (0.65, 0.35)."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % 2
    centres = torch.tensor([[0.35, 0.65], [0.65, 0.35]])[labels]
    pixels = centres + 0.03 * torch.randn(number, 2, generator=source)
    return Split((pixels * 255).round().to(torch.uint8).reshape(-1, 1, 1, 2), labels)


def detector(head, *, distance="sqeuclidean", taps=("penultimate",)):
    model = StagedClassifier({"penultimate": nn.Flatten()}, head, channels=1)
    return fit(model, bank=plane(), calibration=plane(1), taps=taps, k=5, distance=distance, calibration_images=40)


def images():
    split = plane(2, number=10)
    return as_pixels(split.images_NCHW), split.labels_N


@pytest.mark.parametrize("distance", ["cosine", "sqeuclidean"])
def test_it_fools_neighbours_where_attacks_on_the_network_cannot(distance):
    x, y = images()
    result = detector(Blind(), distance=distance)
    blind = attack_network(result.model, x, y, epsilon=0.25, norm="linf", steps=10)
    assert (result.predict_pixels(blind).prediction_N == y).all()
    attacked = attack_neighbors(result, x, y, epsilon=0.25)
    assert attacked.fooled_N.all()
    assert (attacked.prediction.credibility_N > 0.1).all(), "and is credible at that"


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_attacked_images_stay_in_the_ball_and_the_box(norm):
    x, y = images()
    attacked = attack_neighbors(detector(Blind()), x, y, epsilon=0.3, norm=norm).x_NCHW
    delta = (attacked - x).flatten(1)
    length = delta.abs().amax(1) if norm == "linf" else delta.square().sum(1).sqrt()
    assert length.max() <= 0.3 + 1e-6
    assert 0 <= attacked.min() <= attacked.max() <= 1
    assert length.max() > 0.15


def test_a_ball_too_small_to_cross_fools_nothing():
    x, y = images()
    assert not attack_neighbors(detector(Blind()), x, y, epsilon=0.01).fooled_N.any()


def test_the_prediction_is_that_of_the_images_returned():
    x, y = images()
    result = detector(nn.Linear(2, 2))
    attacked = attack_neighbors(result, x, y, epsilon=0.15)
    repeated = result.predict_pixels(attacked.x_NCHW)
    assert torch.equal(repeated.alpha_NK, attacked.prediction.alpha_NK)
    assert torch.equal(repeated.prediction_N != y, attacked.fooled_N)


def test_it_is_the_same_each_time():
    x, y = images()
    result = detector(Blind())
    first, repeated = (attack_neighbors(result, x, y, epsilon=0.15).x_NCHW for _ in range(2))
    assert torch.equal(first, repeated)


def test_no_radius_is_no_attack():
    x, y = images()
    assert torch.equal(attack_neighbors(detector(Blind()), x, y, epsilon=0.0).x_NCHW, x)


def test_the_target_is_the_wrong_class_of_most_votes_then_of_the_largest_logit():
    result = detector(Blind())
    result.labels_M[:3] = torch.tensor([2, 3, 0])
    alpha = torch.tensor([[0, 4, 4, 5], [3, 0, 9, 2]])
    logits = torch.tensor([[9.0, 0.0, 1.0, 2.0], [0.0, 9.0, 0.0, 0.0]])
    target = dknn_attack._conforming_other(alpha, logits, result, torch.tensor([0, 1]))
    assert target.tolist() == [2, 3]


def test_a_class_that_the_bank_lacks_is_no_target():
    result = detector(Blind())
    target = dknn_attack._conforming_other(torch.tensor([[0, 9, 1]]), torch.zeros(1, 3), result, torch.tensor([0]))
    assert target.tolist() == [1]


def test_guides_are_the_nearest_of_their_class():
    result = detector(Blind())
    x, y = images()
    bank = result.banks["penultimate"]
    rows = dknn_attack._of_class(bank, x, 1 - y, labels_M=result.labels_M, number=3)
    for image in range(len(x)):
        members = bank.rows_MD[result.labels_M == 1 - y[image]]
        order = (members - x[image].flatten()).square().sum(1).argsort(stable=True)[:3]
        assert torch.equal(rows[image], members[order])


def test_the_objective_rises_towards_the_other_class():
    result = detector(Blind())
    x, y = images()
    guides = dknn_attack._all_guides(result, x, y, 1 - y, number=5)["penultimate"]
    near = torch.stack([rows.mean(0) for rows in guides.other_NmD])
    away, close = (dknn_attack._tap_log_odds(rows, guides, temperature=0.3) for rows in (x.flatten(1), near))
    assert away < 0 < close


def test_a_bank_of_one_class_cannot_be_attacked():
    result = detector(Blind())
    result.labels_M[:] = 1
    x, y = images()
    with pytest.raises(ValueError, match="bank: must hold at least two classes to be attacked, got 1 only"):
        attack_neighbors(result, x, y, epsilon=0.1)


@pytest.mark.parametrize("name", ["rounds", "steps", "relative_step", "guides", "temperature"])
def test_an_effort_of_nothing_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}: must be > 0, got 0"):
        AttackEffort(**{name: 0})
