"""The classification term beyond its vectors: label smoothing, precision, limits."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch.nn import functional

from trainables.config.sections import LossConfig
from trainables.tasks.classifier.cross_entropy import classification_loss, smoothed

NAMES = ("cross_entropy", "binary_cross_entropy")


@given(seed=st.integers(0, 2**32), amount=st.floats(0, 0.9))
def test_smoothing_is_that_of_torch(seed, amount):
    stream = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, 4, generator=stream, dtype=torch.float64)
    labels = torch.randint(4, (5,), generator=stream)
    targets = functional.one_hot(labels, 4).double()
    found = classification_loss(logits, targets, settings=LossConfig(label_smoothing=amount))
    torch.testing.assert_close(found, functional.cross_entropy(logits, labels, label_smoothing=amount))


@given(amount=st.floats(0, 0.99), classes=st.integers(2, 9))
def test_smoothed_targets_stay_distributions(amount, classes):
    torch.testing.assert_close(smoothed(torch.eye(classes), amount).sum(1), torch.ones(classes))


def test_binary_cross_entropy_is_that_of_torch_on_the_softmax():
    stream = torch.Generator().manual_seed(0)
    logits, targets = (torch.randn(6, 5, generator=stream, dtype=torch.float64) for _ in range(2))
    expected = functional.binary_cross_entropy(logits.softmax(1), targets.softmax(1))
    found = classification_loss(logits, targets.softmax(1), settings=LossConfig(name="binary_cross_entropy"))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_logits_are_scored_in_float32(name):
    logits = torch.tensor([[8.0, 0.0, -4.0]], dtype=torch.bfloat16)
    loss = classification_loss(logits, torch.tensor([[1.0, 0.0, 0.0]]), settings=LossConfig(name=name))
    full = classification_loss(logits.float(), torch.tensor([[1.0, 0.0, 0.0]]), settings=LossConfig(name=name))
    assert loss.dtype == torch.float32
    assert torch.equal(loss, full)


@pytest.mark.parametrize("name", NAMES)
def test_confidently_wrong_is_finite_with_a_finite_gradient(name):
    logits = torch.tensor([[500.0, -500.0]], requires_grad=True)
    loss = classification_loss(logits, torch.tensor([[0.0, 1.0]]), settings=LossConfig(name=name))
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(logits.grad.isfinite().all())
