"""Supervised contrastive loss: equation 2 of the paper by loops, its gradient, and what a trial makes of it."""

import math

import pytest
import torch
from torch.nn import functional

from search_spaces import SearchSpace
from trainables.config.trial import TrialConfig
from trainables.errors import ConfigError
from trainables.regularizers.fragments import with_fragments
from trainables.regularizers.protocol import Batch
from trainables.regularizers.terms.supervised_contrastive import SupervisedContrastive, company, contrast
from trainables.regularizers.user_terms import build
from trainables.tasks.classifier.training import train

LABELS = [0, 1, 0, 2, 1, 0, 0]  # image 3 is alone


def features(labels, *, shape=(5,), seed=0):
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(len(labels), *shape, generator=stream, dtype=torch.float64), torch.tensor(labels)


def equation_2(x, weight, temperature):
    """The paper's loop over anchors i, positives p and all others a, in plain Python."""
    rows = [[float(value) for value in row.flatten()] for row in x]
    lengths = [math.sqrt(sum(value * value for value in row)) for row in rows]
    size, anchors = len(rows), []
    for i in range(size):
        scores = {
            a: math.exp(
                sum(u * v for u, v in zip(rows[i], rows[a], strict=True)) / lengths[i] / lengths[a] / temperature
            )
            for a in range(size)
            if a != i
        }
        whole = sum(weight(i, p) for p in scores)
        if whole:
            anchors.append(
                -sum(weight(i, p) * math.log(score / sum(scores.values())) for p, score in scores.items()) / whole
            )
    return sum(anchors) / len(anchors)


def batch_of(taps, labels, *, targets=None, classes=3):
    logits = torch.zeros(len(labels), classes)
    mixed = targets is not None
    return Batch(taps, logits, labels, targets or {}, mixed=mixed, images=logits, forward=None)


@pytest.mark.parametrize("temperature", [0.07, 0.5, 3.0])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 3)], ids=["units", "channels"])
def test_the_term_is_equation_2_summed_over_layers_and_counts_images_alone(temperature, shape):
    x, y = features(LABELS, shape=shape)
    other, _ = features(LABELS, seed=1)
    term = SupervisedContrastive(temperature).term(batch_of({"a": x, "b": other}, y), {})
    expected = sum(equation_2(layer, lambda i, p: int(y[i] == y[p]), temperature) for layer in (x, other))
    assert float(term.value) == pytest.approx(expected, rel=1e-12)
    assert int(term.metrics["alone"]) == 1


def test_soft_targets_weigh_pairs_by_their_agreement_and_hard_ones_change_nothing():
    x, y = features(LABELS)
    one_hot = functional.one_hot(y, 3).double()
    soft = (one_hot + 0.4 * one_hot.roll(1, 0)) / 1.4
    mixed = batch_of({"a": x}, y, targets={"a": soft})
    expected = equation_2(x, lambda i, p: float(soft[i] @ soft[p]), 0.2)
    assert float(SupervisedContrastive(0.2).term(mixed, {}).value) == pytest.approx(expected, rel=1e-12)
    hard = SupervisedContrastive(0.2).term(batch_of({"a": x}, y, targets={"a": one_hot}), {}).value
    assert float(hard) == pytest.approx(float(SupervisedContrastive(0.2).term(batch_of({"a": x}, y), {}).value))


def test_the_gradient_is_that_of_differences_of_the_value():
    x, y = features([0, 1, 0, 1], shape=(2,))
    pairs = company(functional.one_hot(y), dtype=torch.float64)
    value = contrast(x.requires_grad_(), pairs, temperature=0.3)
    (slope,) = torch.autograd.grad(value, x)
    for row, column in [(0, 0), (1, 1), (3, 0)]:
        step = torch.zeros_like(x)
        step[row, column] = 1e-5
        up, down = (float(contrast(moved.detach(), pairs, temperature=0.3)) for moved in (x + step, x - step))
        assert float(slope[row, column]) == pytest.approx((up - down) / 2e-5, rel=1e-7)


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 0, 1]], ids=["no pair", "a dead row"])
def test_the_gradient_is_finite_without_pairs_and_where_every_unit_is_dead(labels):
    x, y = features(labels)
    x[1] = 0
    value = contrast(x.requires_grad_(), company(functional.one_hot(y), dtype=torch.float64), temperature=0.1)
    value.backward()
    assert x.grad.isfinite().all()
    assert not x.grad[1].any()
    assert (value.item() == 0) == (labels == [0, 1, 2])


def test_the_scale_of_the_activations_does_not_count():
    x, y = features(LABELS)
    pairs = company(functional.one_hot(y), dtype=torch.float64)
    scales = torch.linspace(0.1, 9, len(y), dtype=torch.float64)[:, None]
    one, other = contrast(x, pairs, temperature=0.1), contrast(scales * x, pairs, temperature=0.1)
    assert float(one) == pytest.approx(float(other), rel=1e-12)


def test_a_temperature_of_zero_is_refused_at_its_place():
    point = {"regularizers.contrast.use": "supervised_contrastive", "regularizers.contrast.temperature": 0.0}
    settings = TrialConfig.from_point(point).regularizers.by_label["contrast"]
    with pytest.raises(ConfigError, match=r"^regularizers\.contrast\.temperature: .*greater than 0"):
        build("contrast", settings, num_classes=10)


def test_use_in_a_space_searches_its_weight_and_temperature():
    document = with_fragments({"use": ["supervised_contrastive"]}, catalog=[])
    space = SearchSpace.from_dict(document)
    on = {"regularizers.supervised_contrastive.use": "supervised_contrastive"}
    assert space.contains({**on, "regularizers.supervised_contrastive.weight": 0.0})
    prefix = "regularizers.supervised_contrastive"
    assert space.contains({**on, f"{prefix}.weight": 0.1, f"{prefix}.temperature": 0.1})


def test_a_trial_that_weighs_it_ends_with_more_contrast_than_one_that_does_not():
    def contrast_after(weight):
        point = {"epochs": 2, "device": "cpu", "precision": "float32", "model.name": "mlp", "data.fraction": 0.3}
        point |= {"evaluation.robust_epsilon": 0.0, "regularizers.contrast.use": "supervised_contrastive"}
        reports = []
        train(TrialConfig.from_point({**point, "regularizers.contrast.weight": weight}), report=reports.append)
        return reports[-1].metrics["train/contrast"]

    assert contrast_after(1.0) < contrast_after(1e-6) - 0.05
