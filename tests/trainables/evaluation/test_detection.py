"""Detection scores against scikit-learn and by hand, and the suite."""

import math

import numpy as np
import pytest
import torch

from trainables.data import Split
from trainables.evaluation.core.results import EvaluationBudget
from trainables.evaluation.uncertainty import detection as module
from trainables.evaluation.uncertainty.detection import NAMES, separation, some_of, suite
from trainables.evaluation.uncertainty.mahalanobis import fit_gaussians
from trainables.evaluation.uncertainty.outliers import noise


def brute_force(inside, outside):
    pairs = [(a > b) + 0.5 * (a == b) for a in inside for b in outside]
    thresholds = sorted({*inside, *outside}, reverse=True)
    for threshold in thresholds:
        if np.mean([a >= threshold for a in inside]) >= 0.95:
            return np.mean(pairs), np.mean([b >= threshold for b in outside])
    raise AssertionError


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize(("inside", "outside"), [(40, 40), (61, 17), (1, 9)])
def test_numbers_equal_those_of_scikit_learn(levels, inside, outside):
    from sklearn.metrics import average_precision_score, roc_auc_score

    source = torch.Generator().manual_seed(levels + inside)
    a = torch.randint(0, levels, (inside,), generator=source) + levels // 5
    b = torch.randint(0, levels, (outside,), generator=source)
    truth = np.concatenate([np.ones(inside), np.zeros(outside)])
    scores = torch.cat([a, b]).numpy()
    result = separation(a, b)
    assert result.auroc == pytest.approx(roc_auc_score(truth, scores), rel=1e-12)
    assert result.aupr == pytest.approx(average_precision_score(truth, scores), rel=1e-12)
    assert result.aupr_out == pytest.approx(average_precision_score(1 - truth, -scores), rel=1e-12)
    auroc, fpr = brute_force(a.tolist(), b.tolist())
    assert result.auroc == pytest.approx(auroc, rel=1e-12)
    assert result.fpr95 == pytest.approx(fpr, rel=1e-12)


def test_scores_that_are_all_equal_tell_nothing():
    result = separation(torch.zeros(30), torch.zeros(10))
    assert (result.auroc, result.aupr, result.aupr_out, result.fpr95) == (0.5, 0.75, 0.25, 1.0)


def test_scores_far_apart_tell_all():
    result = separation(torch.tensor([2.0, math.inf]), torch.tensor([1.0, -math.inf]))
    assert (result.auroc, result.aupr, result.aupr_out, result.fpr95) == (1.0, 1.0, 1.0, 0.0)


def test_the_threshold_accepts_at_least_95_percent_and_no_more_than_needed():
    # 19 of 20 are 95 %: the one low test image is given up, and with it the outlier of the same score.
    inside = torch.tensor([5.0] * 19 + [0.0])
    assert separation(inside, torch.tensor([0.0, 5.0])).fpr95 == 0.5
    assert separation(inside[1:], torch.tensor([0.0, 5.0])).fpr95 == 1.0


@pytest.mark.parametrize(("inside", "outside"), [([], [1.0]), ([1.0], [math.nan])])
def test_no_score_and_nan_are_refused(inside, outside):
    with pytest.raises(ValueError, match="must be at least one score and no NaN"):
        separation(torch.tensor(inside), torch.tensor(outside))


def test_of_many_outliers_the_same_sample_is_taken_each_time():
    split = Split(torch.zeros(50, 1, 1, 1, dtype=torch.uint8), torch.arange(50))
    some, notes = some_of(split, name="letters", at_most=10, seed=0)
    assert len(some.labels_N.unique()) == 10
    assert notes == ("letters: 10 of 50 images, as many as test images",)
    assert torch.equal(some.labels_N, some_of(split, name="letters", at_most=10, seed=0)[0].labels_N)
    assert some_of(split, name="letters", at_most=50, seed=0) == (split, ())


@pytest.fixture(scope="module")
def result(digits_subject):
    return suite(digits_subject, EvaluationBudget(images=150), lambda _, __: None)["detection"]


def test_without_outliers_the_suite_turns_and_shuffles_the_test_images(result):
    assert result.outside == {"rotated": 150, "permuted": 150}
    assert set(result.separations) == {(name, score) for name in ("rotated", "permuted") for score in NAMES}


def test_metrics_are_finite_and_named_for_set_score_and_measure(result):
    metrics = result.metrics()
    assert {"ood/rotated_msp_auroc", "ood/permuted_credibility_aupr", "ood/permuted_own_votes_fpr95"} <= set(metrics)
    assert all(0 <= value <= 1 for value in metrics.values())


def test_the_table_has_a_row_for_each_set_and_score(result):
    assert len(result.table().rows) == 2 * len(NAMES)


def test_the_figure_has_a_bar_for_each_score(result):
    pytest.importorskip("plotly")
    assert [bar.name for bar in result.figure().data] == list(NAMES)


def test_limits_name_what_was_cut(result):
    assert result.limits[0] == "test: 150 of 359 images, class-balanced"
    assert "calibrated on 350 validation images, not on 750: there are no more" in result.limits


def test_neighbours_tell_noise_from_digits(digits_subject):
    from dataclasses import replace

    with_noise = replace(digits_subject, outliers={"noise": noise(digits_subject.test)})
    metrics = suite(with_noise, EvaluationBudget(images=150), lambda _, __: None)["detection"].metrics()
    assert metrics["ood/noise_mahalanobis_sum_auroc"] > 0.9
    assert metrics["ood/noise_credibility_auroc"] > 0.7
    assert metrics["ood/noise_knn_auroc"] > 0.8


def test_test_images_against_themselves_are_a_guess(digits_subject):
    detector = module.fit_subject(digits_subject)
    test = digits_subject.test
    gaussians = fit_gaussians(detector.model, digits_subject.train, taps=detector.taps)
    for result in module.detection(detector, test, {"same": test}, gaussians=gaussians).separations.values():
        assert result.auroc == pytest.approx(0.5, abs=1e-12)
