"""Gradient ascent on a split against the attacks it is made of, and the images that it skips."""

import pytest
import torch

from trainables.attacks import fgsm, pgd
from trainables.config.trial import DataConfig, TrialConfig
from trainables.data import load_splits
from trainables.evaluation.core.evaluation_attack import unattacked, withstands
from trainables.evaluation.core.prediction import as_pixels, balanced_subset
from trainables.evaluation.robustness.gradient_ascent import ascent, start_noise
from trainables.tasks.classifier.training import train


@pytest.fixture(scope="module")
def honest():
    torch.set_num_threads(1)
    return train(TrialConfig.from_point({"epochs": 4, "model.name": "mlp"})).model


@pytest.fixture(scope="module")
def few():
    return balanced_subset(load_splits(DataConfig()).val, size=60)


def test_one_step_of_the_radius_is_fgsm(honest, few):
    x, y = as_pixels(few.images_NCHW), few.labels_N
    expected = honest(fgsm(honest, x, y, epsilon=0.1)).argmax(1) == y
    result = withstands(few, ascent(honest, epsilon=0.1, norm="linf", steps=1, step_size=0.1))
    assert torch.equal(result, expected)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_ascent_finds_all_that_pgd_finds_from_the_same_noise(honest, few, norm):
    x, y = as_pixels(few.images_NCHW), few.labels_N
    epsilon = 0.1 if norm == "linf" else 0.8
    noise = start_noise(few, norm=norm, seed=0, purpose="a test")
    settings = {"epsilon": epsilon, "norm": norm, "steps": 13, "step_size": epsilon / 4}
    attacked = pgd(honest, x, y, start=x + epsilon * noise, random_start=False, **settings)
    by_pgd = honest(attacked).argmax(1) != y
    result = ~withstands(few, ascent(honest, noise_NCHW=noise, **settings))
    assert by_pgd.any()
    assert (result & by_pgd).sum() == by_pgd.sum()


def test_images_outside_the_candidates_count_as_broken_and_keep_their_noise(honest, few):
    among = torch.arange(60) % 3 == 0
    noise = start_noise(few, norm="linf", seed=0, purpose="a test")
    attack = ascent(honest, epsilon=0.1, norm="linf", steps=5, step_size=0.025, noise_NCHW=noise)
    assert torch.equal(withstands(few, attack, among_N=among), withstands(few, attack) & among)


def test_no_image_and_no_attack_are_fine(honest, few):
    none = torch.zeros(60, dtype=torch.bool)
    assert not withstands(few, unattacked(honest), among_N=none).any()


def test_a_step_is_a_quarter_of_the_radius_unless_it_is_given(honest, few):
    settings = {"epsilon": 0.06, "norm": "linf", "steps": 3}
    by_default, same, smaller = (
        withstands(few, ascent(honest, **settings, **step)) for step in ({}, {"step_size": 0.015}, {"step_size": 0.001})
    )
    assert torch.equal(by_default, same)
    assert not torch.equal(by_default, smaller)
