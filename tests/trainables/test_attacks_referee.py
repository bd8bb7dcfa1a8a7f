"""An independent implementation, foolbox, agrees with ours on a classifier of digits."""

import warnings

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from trainables.attacks import fgsm, pgd

with warnings.catch_warnings():
    # foolbox 3.3.4 imports a name from where SciPy no longer wants it imported.
    warnings.filterwarnings("ignore", message="Please import `gaussian_filter`", category=DeprecationWarning)
    import foolbox


@pytest.fixture(scope="module")
def classifier():
    """A network of two smooth layers, trained on the even images, with the odd ones to attack."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(labels)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(model(x[::2]), y[::2]).backward()
        optimizer.step()
    return model.eval(), x[1::2][:300], y[1::2][:300]


def theirs(attack, model, x, y, *, epsilon):
    raw, _, success = attack(foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu"), x, y, epsilons=epsilon)
    return raw, success


def accuracy(model, x, y):
    return float((model(x).argmax(1) == y).double().mean())


def test_the_classifier_is_worth_attacking(classifier):
    assert accuracy(*classifier) > 0.93


@pytest.mark.parametrize("epsilon", [0.02, 0.1, 0.3])
def test_fgsm_equals_foolbox(classifier, epsilon):
    model, x, y = classifier
    expected, success = theirs(foolbox.attacks.LinfFastGradientAttack(), model, x, y, epsilon=epsilon)
    found = fgsm(model, x, y, epsilon=epsilon)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert torch.equal(model(found).argmax(1) != y, success)


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_every_linf_iterate_of_pgd_equals_foolbox(classifier, steps):
    model, x, y = classifier
    attack = foolbox.attacks.LinfPGD(steps=steps, abs_stepsize=0.02, random_start=False)
    expected, _ = theirs(attack, model, x, y, epsilon=0.1)
    found = pgd(model, x, y, epsilon=0.1, steps=steps, step_size=0.02, random_start=False)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_every_l2_iterate_of_pgd_equals_foolbox(classifier, steps):
    model, x, y = classifier
    attack = foolbox.attacks.L2PGD(steps=steps, abs_stepsize=0.2, random_start=False)
    expected, _ = theirs(attack, model, x, y, epsilon=0.8)
    found = pgd(model, x, y, epsilon=0.8, steps=steps, step_size=0.2, random_start=False, norm="l2")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_targeted_pgd_equals_foolbox(classifier):
    model, x, y = classifier
    targets = (y + 1) % 10
    attack = foolbox.attacks.LinfPGD(steps=5, abs_stepsize=0.03, random_start=False)
    criterion = foolbox.criteria.TargetedMisclassification(targets)
    expected, success = theirs(attack, model, x, criterion, epsilon=0.15)
    found = pgd(model, x, targets, epsilon=0.15, steps=5, step_size=0.03, random_start=False, targeted=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert torch.equal(model(found).argmax(1) == targets, success)


@pytest.mark.parametrize(
    ("norm", "attack", "epsilon"), [("linf", foolbox.attacks.LinfPGD, 0.08), ("l2", foolbox.attacks.L2PGD, 0.6)]
)
def test_robust_accuracy_from_random_starts_is_that_of_foolbox(classifier, norm, attack, epsilon):
    model, x, y = classifier
    step_size = epsilon / 4
    torch.manual_seed(0)
    expected, _ = theirs(attack(steps=20, abs_stepsize=step_size), model, x, y, epsilon=epsilon)
    found = pgd(
        model,
        x,
        y,
        epsilon=epsilon,
        steps=20,
        step_size=step_size,
        random_start=True,
        norm=norm,
        generator=torch.Generator().manual_seed(0),
    )
    assert 0.15 < accuracy(model, expected, y) < 0.85
    assert accuracy(model, found, y) == pytest.approx(accuracy(model, expected, y), abs=0.01)
