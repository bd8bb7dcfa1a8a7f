"""Mahalanobis scores: those of scikit-learn's covariance, whatever the units, and those of a network."""

import numpy as np
import pytest
import torch

from trainables.config.trial import ModelConfig
from trainables.data import Split
from trainables.evaluation.core.prediction import as_pixels
from trainables.evaluation.uncertainty.mahalanobis import TiedGaussians, fit_gaussians, mahalanobis_scores
from trainables.models import build


def features(images=90, units=4, *, classes=3, seed=0):
    stream = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    mixing = torch.randn(units, units, generator=stream, dtype=torch.float64)
    centres = 3 * torch.randn(classes, units, generator=stream, dtype=torch.float64)
    return centres[labels] + torch.randn(images, units, generator=stream, dtype=torch.float64) @ mixing, labels


def scikit_learn(train, labels, images):
    """The paper's released code: one empirical covariance of the features around their class means."""
    from sklearn.covariance import EmpiricalCovariance

    x, y, z = train.numpy(), labels.numpy(), images.numpy()
    means = {label: x[y == label].mean(0) for label in np.unique(y)}
    around = EmpiricalCovariance(assume_centered=True).fit(x - np.stack([means[label] for label in y]))
    precision = np.linalg.pinv(around.covariance_, rcond=1e-12, hermitian=True)
    return np.max([-np.einsum("nd,de,ne->n", z - mean, precision, z - mean) for mean in means.values()], axis=0)


@pytest.mark.parametrize("units", [1, 4, 12])
def test_scores_are_those_of_scikit_learns_covariance(units):
    x, y = features(units=units)
    images, _ = features(20, units, seed=1)
    assert TiedGaussians.of(x, y).score(images).numpy() == pytest.approx(scikit_learn(x, y, images), rel=1e-9)


def test_dead_and_repeated_units_are_left_out_and_change_no_score():
    x, y = features()
    images, _ = features(20, seed=1)
    wide = TiedGaussians.of(torch.cat([x, torch.zeros(90, 2), x[:, :1]], dim=1), y)
    assert wide.num_left_out == 3
    expected = TiedGaussians.of(x, y).score(images)
    torch.testing.assert_close(wide.score(torch.cat([images, torch.ones(20, 2), images[:, :1]], dim=1)), expected)


def test_another_basis_and_origin_of_the_units_changes_no_score():
    x, y = features()
    images, _ = features(20, seed=1)
    stream = torch.Generator().manual_seed(5)
    turned = torch.randn(4, 4, generator=stream, dtype=torch.float64)
    moved = TiedGaussians.of(x @ turned + 1e4, y).score(images @ turned + 1e4)
    torch.testing.assert_close(moved, TiedGaussians.of(x, y).score(images), rtol=1e-6, atol=1e-6)


def test_scores_of_a_network_are_those_of_its_pooled_features_in_batches():
    stream = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (300, 1, 8, 8), dtype=torch.uint8, generator=stream)
    split = Split(pixels, torch.arange(300) % 3)
    model = build(ModelConfig(name="cnn", width=1 / 16), image_shape=(1, 8, 8), num_classes=3)
    taps = ("conv1", "penultimate")
    gaussians = fit_gaussians(model.train(), split, taps=taps)
    assert model.training
    scores = mahalanobis_scores(model, split, gaussians=gaussians)
    with torch.no_grad():
        read = model.eval().features(as_pixels(split.images_NCHW), taps=taps).taps
    for tap, x in (("conv1", read["conv1"].mean((2, 3))), ("penultimate", read["penultimate"])):
        whole = TiedGaussians.of(x, split.labels_N)
        torch.testing.assert_close(scores[tap], whole.score(x), rtol=1e-3, atol=1e-3)
        assert (scores[tap] <= 0).all()
