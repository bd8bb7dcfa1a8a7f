"""Accuracy, calibration error and the fitted temperature: by hand, by torchmetrics, by brute force, by properties."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn import functional

from trainables.config.trial import DataConfig, ModelConfig
from trainables.data import Split, load_splits
from trainables.evaluation.core.clean import (
    accuracy,
    brier_score,
    classwise_calibration_error,
    expected_calibration_error,
    negative_log_likelihood,
)
from trainables.evaluation.core.intervals import Proportion
from trainables.evaluation.core.prediction import logits, within
from trainables.evaluation.core.results import EvaluationBudget, Subject
from trainables.evaluation.uncertainty.calibration import calibration, suite
from trainables.evaluation.uncertainty.reliability import NUM_BINS, fit_temperature, reliability
from trainables.models import build

METRICS = {"test/accuracy", "test/nll", "test/brier", "test/ece", "test/classwise_ece"}
SCALED = {"test/temperature", *(f"{name}_scaled" for name in METRICS - {"test/accuracy"})}


def scores(num_images=400, num_classes=5, *, scale=3.0, noise=1.0, seed=0):
    """Logits of a classifier that is sometimes wrong, and labels sampled from the honest probabilities."""
    stream = torch.Generator().manual_seed(seed)
    honest = torch.randn(num_images, num_classes, generator=stream, dtype=torch.float64) * noise
    labels = torch.multinomial(honest.softmax(1), 1, generator=stream)[:, 0]
    return honest * scale, labels


def predictions(confidence, right, images):
    """Logits that give class 0 this confidence, and labels of which so many are 0."""
    row = torch.tensor([[confidence, 1 - confidence]], dtype=torch.float64).log()
    return row.repeat(images, 1), torch.tensor([0] * right + [1] * (images - right))


def joined(*parts):
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


class Table(nn.Module):
    """Says for an image the row of logits that its one pixel names."""

    def __init__(self, logits_NK):
        super().__init__()
        self.register_buffer("rows", logits_NK)

    def forward(self, x_BCHW):
        return self.rows[(x_BCHW[:, 0, 0, 0] * 255).round().long()]


def numbered(labels, *, start=0):
    images = torch.arange(start, start + len(labels), dtype=torch.uint8)
    return Split(images.reshape(-1, 1, 1, 1), torch.as_tensor(labels))


@pytest.fixture(scope="module")
def subject():
    splits = load_splits(DataConfig())
    model = build(ModelConfig(name="mlp"), image_shape=(1, 8, 8), num_classes=10, seed=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(25):
        optimizer.zero_grad()
        x = splits.train.images_NCHW.float() / 255
        functional.cross_entropy(model(x), splits.train.labels_N).backward()
        optimizer.step()
    half = len(splits.val) // 2
    val, test = (splits.val.take(part) for part in (torch.arange(half), torch.arange(half, len(splits.val))))
    return Subject(model=model, train=splits.train, val=val, test=test, epsilon=0.1)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.1, 1.0, 5.0, 40.0]), num_classes=st.integers(2, 12))
def test_calibration_error_of_torchmetrics_equals_ours(seed, scale, num_classes):
    logits_NK, labels_N = scores(num_classes=num_classes, scale=scale, seed=seed)
    result = reliability(logits_NK, labels_N).ece
    assert result == pytest.approx(expected_calibration_error(logits_NK, labels_N, num_bins=NUM_BINS), abs=2e-7)


def probabilities(logits_NK):
    """Softmax by plain Python."""
    rows = [[math.exp(value - max(row)) for value in row] for row in logits_NK.tolist()]
    return [[value / sum(row) for value in row] for row in rows]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.1, 3.0, 40.0]), num_classes=st.integers(2, 6))
def test_the_brier_score_is_its_sum_over_images_and_classes(seed, scale, num_classes):
    logits_NK, labels_N = scores(60, num_classes, scale=scale, seed=seed)
    p, y = probabilities(logits_NK), labels_N.tolist()
    expected = sum((p[n][k] - (y[n] == k)) ** 2 for n in range(60) for k in range(num_classes)) / 60
    assert brier_score(logits_NK, labels_N) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_of_two_classes_the_brier_score_is_twice_that_of_scikit_learn_and_a_guess_has_1_less_1_over_k():
    from sklearn.metrics import brier_score_loss

    logits_NK, labels_N = scores(num_classes=2)
    theirs = brier_score_loss(labels_N.numpy(), logits_NK.softmax(1)[:, 1].numpy())
    assert brier_score(logits_NK, labels_N) == pytest.approx(2 * theirs, rel=1e-12)
    assert brier_score(torch.zeros(7, 5), torch.arange(7) % 5) == pytest.approx(0.8)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.1, 3.0, 40.0]), num_classes=st.integers(2, 6))
def test_the_classwise_error_is_equation_4_of_kull_et_al(seed, scale, num_classes):
    logits_NK, labels_N = scores(60, num_classes, scale=scale, seed=seed)
    p, y, total = probabilities(logits_NK), labels_N.tolist(), 0.0
    for k in range(num_classes):
        for m in range(NUM_BINS):
            inside = [n for n in range(60) if m / NUM_BINS < p[n][k] <= (m + 1) / NUM_BINS or (m == 0 and p[n][k] == 0)]
            if inside:
                share = sum(y[n] == k for n in inside) / len(inside)
                mean = sum(p[n][k] for n in inside) / len(inside)
                total += len(inside) / 60 * abs(share - mean)
    assert classwise_calibration_error(logits_NK, labels_N) == pytest.approx(total / num_classes, rel=1e-9)


def test_the_classwise_error_sees_what_that_of_the_largest_output_does_not():
    # Two classes are confused in one direction alone; the largest output is right as often as it says.
    logits_NK = torch.tensor([[0.7, 0.2, 0.1]] * 10, dtype=torch.float64).log()
    labels_N = torch.tensor([0] * 7 + [2] * 3)
    assert expected_calibration_error(logits_NK, labels_N) == pytest.approx(0, abs=1e-12)
    assert classwise_calibration_error(logits_NK, labels_N) == pytest.approx(0.4 / 3)


def test_full_confidence_shares_the_last_bin():
    # torchmetrics by itself says 0.275 here: it keeps a confidence of exactly 1 apart.
    certain = torch.tensor([[200.0, 0.0]], dtype=torch.float64).repeat(10, 1), torch.tensor([0] * 5 + [1] * 5)
    result = reliability(*joined(certain, predictions(0.95, 10, 10)))
    assert result.ece == pytest.approx(0.225, abs=1e-6)
    assert [bin_.right for bin_ in result.bins] == [Proportion(15, 20)]


def test_bins_hold_what_falls_into_them():
    result = reliability(*joined(predictions(0.55, 3, 4), predictions(0.62, 1, 6), predictions(0.98, 9, 10)))
    assert [round(bin_.low * NUM_BINS) for bin_ in result.bins] == [8, 9, 14]
    assert [bin_.right for bin_ in result.bins] == [Proportion(3, 4), Proportion(1, 6), Proportion(9, 10)]
    assert [bin_.confidence for bin_ in result.bins] == pytest.approx([0.55, 0.62, 0.98])
    assert result.confidence == pytest.approx((4 * 0.55 + 6 * 0.62 + 10 * 0.98) / 20)
    assert result.ece == pytest.approx((4 * 0.2 + 6 * (0.62 - 1 / 6) + 10 * 0.08) / 20, abs=1e-6)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_the_gaps_of_the_bins_add_up_to_the_calibration_error(seed):
    result = reliability(*scores(seed=seed))
    gaps = [bin_.right.trials * abs(bin_.right.value - bin_.confidence) for bin_ in result.bins]
    assert sum(bin_.right.trials for bin_ in result.bins) == 400
    assert sum(gaps) / 400 == pytest.approx(result.ece, abs=2e-7)


def test_a_binary_temperature_is_the_ratio_of_log_odds():
    # 9 of 10 are right, and each is believed at log odds 6: T = 6 / log 9.
    logits_NK = torch.tensor([[6.0, 0.0]]).repeat(10, 1)
    assert fit_temperature(logits_NK, torch.tensor([0] * 9 + [1])) == pytest.approx(6 / math.log(9), rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_no_temperature_of_a_grid_is_better(seed):
    logits_NK, labels_N = scores(seed=seed)
    temperature = fit_temperature(logits_NK, labels_N)
    best = negative_log_likelihood(logits_NK / temperature, labels_N)
    grid = torch.logspace(-2, 2, 401, dtype=torch.float64).tolist()
    assert all(best <= negative_log_likelihood(logits_NK / t, labels_N) + 1e-15 for t in grid)


def test_the_slope_vanishes_at_the_fitted_temperature():
    logits_NK, labels_N = scores()
    t = torch.tensor(fit_temperature(logits_NK, labels_N), dtype=torch.float64, requires_grad=True)
    functional.cross_entropy(logits_NK / t, labels_N).backward()
    assert float(t.grad) == pytest.approx(0, abs=1e-12)


@given(factor=st.floats(1e-4, 1e4), seed=st.integers(0, 100))
@settings(max_examples=25)
def test_the_temperature_scales_with_the_logits(factor, seed):
    logits_NK, labels_N = scores(100, seed=seed)
    expected = factor * fit_temperature(logits_NK, labels_N)
    assert fit_temperature(factor * logits_NK, labels_N) == pytest.approx(expected, rel=1e-9)


def test_scaling_recovers_how_much_too_sure_the_logits_were():
    logits_NK, labels_N = scores(60_000, scale=2.5)
    assert fit_temperature(logits_NK, labels_N) == pytest.approx(2.5, rel=0.03)


@pytest.mark.parametrize(
    ("logits_NK", "labels", "expected"),
    [
        ([[2.0, 1.0], [0.0, 1.0]], [0, 1], 0.0),
        ([[1.0, 1.0, 0.0]], [0], 0.0),
        ([[2.0, 1.0], [0.0, 1.0]], [1, 0], math.inf),
        ([[3.0, 3.0], [1.0, 1.0]], [0, 1], 0.0),
    ],
    ids=["all right", "tied on top", "all wrong", "all equal"],
)
def test_without_a_minimum_the_temperature_is_at_an_edge(logits_NK, labels, expected):
    assert fit_temperature(torch.tensor(logits_NK), torch.tensor(labels)) == expected


def test_the_temperature_never_sees_the_test_images():
    test_scores, test_labels = scores(60)
    val_scores, val_labels = scores(80, scale=7.0, seed=1)
    model = Table(torch.cat([test_scores, val_scores]))
    val = numbered(val_labels, start=60)
    expected = fit_temperature(val_scores, val_labels)
    for labels in (test_labels, test_labels.flip(0)):
        result = calibration(model, numbered(labels), val=val)
        assert result.scaled.temperature == pytest.approx(expected, rel=1e-12)
        assert result.scaled.nll == pytest.approx(negative_log_likelihood(test_scores / expected, labels))


@pytest.mark.parametrize(
    ("val_labels", "message"),
    [([0, 1], "every validation image has the logit of its label on top"), ([1, 0], "no higher than the other logits")],
)
def test_a_temperature_that_does_not_exist_is_refused(val_labels, message):
    model = Table(torch.tensor([[2.0, 1.0], [0.0, 1.0]]))
    result = calibration(model, numbered([0, 0]), val=numbered(val_labels))
    assert set(result.metrics()) == METRICS
    assert len(result.refusals) == 1
    assert message in result.refusals[0]
    assert result.table().rows[0][0] == 1.0
    assert result.figure().data


@pytest.mark.parametrize("part", ["test", "val"])
def test_logits_that_are_not_finite_are_refused(part):
    model = Table(torch.tensor([[2.0, 1.0], [float("nan"), 1.0], [0.0, 1.0]]))
    good, bad = numbered([0, 1], start=2).take(torch.tensor([0])), numbered([0, 1])
    test, val = (bad, good) if part == "test" else (good, bad)
    with pytest.raises(ValueError, match=f"{part}: logits must be finite, got 1 of 2 images"):
        calibration(model, test, val=val)


def test_the_suite_agrees_with_the_functions_it_is_made_of(subject):
    steps = []
    result = suite(subject, EvaluationBudget(), lambda what, fraction: steps.append((what, fraction)))["calibration"]
    assert steps[0][1] == 0
    assert steps[-1][1] == 1
    metrics, scores_NK, labels_N = result.metrics(), logits(subject.model, subject.test), subject.test.labels_N
    assert set(metrics) == METRICS | SCALED
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["test/accuracy"] == pytest.approx(accuracy(scores_NK, labels_N))
    assert metrics["test/nll"] == pytest.approx(negative_log_likelihood(scores_NK, labels_N))
    assert metrics["test/ece"] == pytest.approx(expected_calibration_error(scores_NK, labels_N), abs=2e-7)
    scaled_NK = scores_NK.double() / metrics["test/temperature"]
    assert metrics["test/nll_scaled"] == pytest.approx(negative_log_likelihood(scaled_NK, labels_N))
    assert metrics["test/ece_scaled"] == pytest.approx(expected_calibration_error(scaled_NK, labels_N), abs=2e-7)
    assert (result.limits, result.refusals) == ((), ())


def test_scaling_lowers_the_likelihood_loss_of_the_images_it_was_fitted_on(subject):
    result = calibration(subject.model, subject.val, val=subject.val)
    assert result.scaled.nll < result.plain.nll


def test_a_budget_of_images_is_kept_and_a_limit_says_so(subject):
    result = suite(subject, EvaluationBudget(images=50), lambda *_: None)["calibration"]
    assert result.limits == (f"test: 50 of {len(subject.test)} images, class-balanced",)
    assert result.right.trials == 50
    assert within(subject.test, len(subject.test)) == (subject.test, ())


def test_table_and_figure_show_both_reliabilities(subject):
    result = suite(subject, EvaluationBudget(), lambda *_: None)["calibration"]
    table, figure = result.table(), result.figure()
    assert len(table.rows) == 2 + len(result.plain.bins) + len(result.scaled.bins)
    images = table.columns.index("images")
    for temperature in (1.0, result.scaled.temperature):
        whole, *bins = [row for row in table.rows if row[0] == temperature]
        assert sum(row[images] for row in bins) == whole[images] == len(subject.test)
    diagonal, plain, counts, *_ = figure.data
    assert list(diagonal.x) == list(diagonal.y) == [0, 1]
    assert list(plain.x) == [bin_.confidence for bin_ in result.plain.bins]
    assert list(counts.y) == [bin_.right.trials for bin_ in result.plain.bins]
    assert len(figure.data) == 5
    assert "confidence" in figure.layout.xaxis.title.text


def test_the_model_keeps_its_mode(subject):
    subject.model.train()
    calibration(subject.model, subject.test, val=subject.val)
    assert subject.model.training
