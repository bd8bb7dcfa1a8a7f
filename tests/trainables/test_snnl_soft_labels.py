"""The loss for points that belong to several classes."""

import pytest
import torch
from torch.nn import functional

from trainables.snnl import soft_label_loss, soft_nearest_neighbor_loss, soft_training_term, training_term

MODES = ["minimised", "learned", "relative", "absolute"]


def random_batch(size=40, classes=4, seed=3):
    stream = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (size,), generator=stream)
    labels[0] = classes  # a singleton
    centres = torch.randn(classes + 1, 6, generator=stream, dtype=torch.float64)
    return centres[labels] + torch.randn(size, 6, generator=stream, dtype=torch.float64), labels


def test_hard_and_soft_values_equal_the_vectors(mixup_vectors):
    given, expected = mixup_vectors["snnl"]["in"], mixup_vectors["snnl"]["expected"]
    z, y = torch.tensor(given["Z"], dtype=torch.float64), torch.tensor(given["y"])
    targets = torch.tensor(given["soft_targets"], dtype=torch.float64)
    assert float(soft_label_loss(z, targets, given["T"])) == pytest.approx(expected["soft_inner_product"], rel=1e-9)
    assert float(soft_nearest_neighbor_loss(z, y, given["T"])) == pytest.approx(expected["hard"], rel=1e-9)


@pytest.mark.parametrize("distance", ["sqeuclidean", "cosine"])
@pytest.mark.parametrize("mode", MODES)
def test_one_hot_targets_give_the_hard_term_and_its_gradient(mode, distance):
    x, y = random_batch()
    x.requires_grad_()
    hard = training_term(x, y, mode=mode, distance=distance)
    soft = soft_training_term(x, functional.one_hot(y), mode=mode, distance=distance)
    torch.testing.assert_close(soft.loss, hard.loss, rtol=1e-6, atol=1e-12)
    (expected,), (actual,) = (torch.autograd.grad(term.loss, x) for term in (hard, soft))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-8)


def test_soft_loss_passes_gradcheck():
    x, y = random_batch(size=8, classes=2)
    mixed = functional.one_hot(y).double().lerp(functional.one_hot(y).double().flip(0), 0.3)
    assert torch.autograd.gradcheck(lambda x: soft_label_loss(x, mixed, 0.7), (x.requires_grad_(),))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["duplicates", "strangers", "far"])
def test_degenerate_batches_have_finite_loss_and_gradient(kind, mode):
    noise = torch.randn(6, 3, generator=torch.Generator().manual_seed(5))
    x = {"duplicates": torch.zeros(6, 3), "strangers": noise, "far": 1e5 * noise}[kind]
    targets = torch.eye(6) if kind == "strangers" else torch.eye(6)[[0, 0, 1, 1, 2, 2]]
    x.requires_grad_()
    loss = soft_training_term(x, targets, mode=mode, temperature=0.1).loss
    (gradient,) = torch.autograd.grad(loss, x)
    assert loss.isfinite()
    assert gradient.isfinite().all()


def test_minimised_soft_loss_never_exceeds_that_of_an_infinite_temperature():
    x, y = random_batch()
    targets = functional.one_hot(y.flip(0)).double().lerp(functional.one_hot(y).double(), 0.5)
    loss = soft_training_term(x, targets, mode="minimised").loss
    assert float(loss) <= float(soft_label_loss(x, targets, 1e9)) * (1 + 1e-6)


def test_hard_labels_are_refused():
    x, y = random_batch()
    with pytest.raises(ValueError, match="targets: must be one row of class shares per point"):
        soft_label_loss(x, y, 1.0)
