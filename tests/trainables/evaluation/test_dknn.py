"""Deep k-nearest neighbours: the published toy vectors, modes, calibration, the suite."""

import copy
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.config.trial import ModelConfig
from trainables.evaluation.core.prediction import as_pixels, balanced_subset
from trainables.evaluation.core.results import EvaluationBudget
from trainables.evaluation.uncertainty import dknn_suite
from trainables.evaluation.uncertainty.conformal import nonconformity, p_values, predict, trimmed, vote_counts
from trainables.evaluation.uncertainty.credibility import reliability_bins
from trainables.evaluation.uncertainty.dknn import fit
from trainables.evaluation.uncertainty.dknn_suite import under_attack
from trainables.evaluation.uncertainty.outliers import noise
from trainables.models import build

TOY = json.loads((Path(__file__).parents[2] / "vectors" / "snnl_vectors.json").read_text())["dknn"]


def alphas(labels):
    counts = vote_counts(torch.tensor(labels), num_classes=TOY["n_classes"])
    return nonconformity(counts, k=TOY["k"])


def calibration():
    scores = alphas(TOY["calib_neighbor_labels"]).gather(1, torch.tensor(TOY["calib_labels"])[:, None])[:, 0]
    return scores.sort().values


def test_toy_calibration_scores():
    assert calibration().tolist() == TOY["calib_sorted"]
    assert trimmed(calibration()).tolist() == TOY["calib_trimmed_cleverhans"]


@pytest.mark.parametrize(("key", "mode"), [("paper_no_trim", "paper"), ("cleverhans_trim_zeros", "cleverhans")])
def test_toy_vectors(key, mode):
    alpha = alphas(TOY["test_neighbor_labels"])
    scores = trimmed(calibration()) if mode == "cleverhans" else calibration()
    p = p_values(alpha, scores)
    measured = predict(alpha, p, logits_NK=torch.zeros(len(alpha), 3), mode=mode)
    expected = [test[key] for test in TOY["tests"]]
    assert alpha.tolist() == [test["alpha"] for test in TOY["tests"]]
    # The vectors are written with ten digits.
    np.testing.assert_allclose(p.numpy(), [e["p_values"] for e in expected], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(
        measured.credibility_N.numpy(), [e["credibility"] for e in expected], rtol=1e-9, atol=1e-10
    )
    np.testing.assert_allclose(
        measured.confidence_N.numpy(), [e["confidence"] for e in expected], rtol=1e-9, atol=1e-10
    )
    assert measured.prediction_N.tolist() == [e["pred"] for e in expected]
    assert measured.prediction_N.tolist() == [test["pred_min_alpha"] for test in TOY["tests"]]


def test_far_outliers_are_not_all_class_zero_but_in_cleverhans():
    alpha, scores = torch.tensor([[8, 7, 6]]), torch.tensor([0, 1])
    p = p_values(alpha, scores)
    assert p.tolist() == [[0.0, 0.0, 0.0]]
    logits = torch.zeros(1, 3)
    assert predict(alpha, p, logits_NK=logits, mode="paper").prediction_N.tolist() == [2]
    assert predict(alpha, p, logits_NK=logits, mode="cleverhans").prediction_N.tolist() == [0]


def test_equal_alpha_is_decided_by_the_network():
    alpha, p = torch.tensor([[4, 4, 8]]), torch.tensor([[0.5, 0.5, 0.0]])
    logits = torch.tensor([[0.0, 1.0, 5.0]])
    assert predict(alpha, p, logits_NK=logits, mode="paper").prediction_N.tolist() == [1]


def test_smoothed_p_values_count_the_image_itself():
    p = p_values(torch.tensor([[0, 3, 9]]), torch.tensor([0, 1, 3, 3]), smoothed=True)
    assert p.tolist() == [[5 / 5, 3 / 5, 1 / 5]]


def test_smoothed_p_values_are_conformal():
    # Of an image exchangeable with the calibration images, P(p <= t) <= t.
    source = torch.Generator().manual_seed(0)
    draws = torch.randint(0, 30, (4000, 20), generator=source)
    p = torch.stack([p_values(row[:1, None], row[1:].sort().values, smoothed=True)[0, 0] for row in draws])
    for level in (0.05, 0.1, 0.25, 0.5):
        assert (p <= level).double().mean() <= level + 3 * math.sqrt(level / len(p))


def test_trimming_scores_that_are_all_zero_is_refused():
    with pytest.raises(ValueError, match="mode: must be 'paper' where all calibration scores are 0"):
        trimmed(torch.zeros(5, dtype=torch.int64))


@pytest.fixture(scope="module")
def subject(digits_subject):
    return replace(digits_subject, outliers={"noise": noise(digits_subject.test)})


@pytest.fixture(scope="module")
def results(subject):
    return dknn_suite.suite(subject, EvaluationBudget(images=100, attack_images=10), lambda _, __: None)


def by_hand(model, bank, images, *, k, taps):
    """Votes by loops over images and taps: cosine in numpy float64."""
    read = model.eval().features(as_pixels(bank.images_NCHW), taps=taps).taps
    asked = model.features(as_pixels(images.images_NCHW), taps=taps).taps
    votes = np.zeros((len(images), len(taps), 10), dtype=int)
    for number, tap in enumerate(taps):
        rows = read[tap].detach().double().flatten(1).numpy()
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        for image, query in enumerate(asked[tap].detach().double().flatten(1).numpy()):
            nearest = np.argsort(-(rows @ query), kind="stable")[:k]
            for label in bank.labels_N[nearest].tolist():
                votes[image, number, label] += 1
    return votes


def test_votes_and_calibration_equal_those_of_loops(subject):
    bank, few = balanced_subset(subject.train, size=300), balanced_subset(subject.test, size=20)
    calibration_split = balanced_subset(subject.val, size=40)
    taps = ("fc2", "logits")
    measured = fit(subject.model, bank=bank, calibration=subject.val, taps=taps, k=15, calibration_images=40)
    votes = by_hand(subject.model, bank, few, k=15, taps=taps)
    assert measured.predict(few).votes_NLK.tolist() == votes.tolist()
    own = by_hand(subject.model, bank, calibration_split, k=15, taps=taps).sum(1)
    scores = 15 * 2 - own[np.arange(40), calibration_split.labels_N.numpy()]
    assert measured.calibration_A.tolist() == sorted(scores)


def test_all_taps_vote_by_default(subject):
    measured = fit(subject.model, bank=subject.train, calibration=subject.val, k=5)
    assert measured.taps == subject.model.taps


def test_own_votes_are_those_of_the_network_prediction(subject):
    measured = fit(subject.model, bank=subject.train, calibration=subject.val, k=5).predict(subject.test)
    network = measured.logits_NK.argmax(1)
    expected = [[int(measured.votes_NLK[i, tap, network[i]]) for tap in range(4)] for i in range(len(subject.test))]
    assert measured.own_votes().tolist() == expected


def test_the_model_keeps_its_mode(subject):
    subject.model.train()
    fit(subject.model, bank=subject.val, calibration=subject.val, k=3).predict(subject.val)
    assert subject.model.training


def test_a_sketch_is_used_only_where_asked_for(subject):
    wide = build(ModelConfig(name="mlp", width=4.0), image_shape=(1, 8, 8), num_classes=10)
    settings = {"bank": subject.val, "calibration": subject.val, "k": 5, "taps": ("fc1", "fc2")}
    plain, sketched = fit(wide, **settings), fit(wide, **settings, sketch_above=600)
    assert [bank.rows_MD.shape[1] for bank in plain.banks.values()] == [1024, 512]
    assert [bank.rows_MD.shape[1] for bank in sketched.banks.values()] == [512, 512]
    assert "neighbours at fc1 are those in 512 random projections of its 1,024 numbers" in sketched.limits
    agreement = (
        (plain.predict(subject.test).prediction_N == sketched.predict(subject.test).prediction_N).double().mean()
    )
    assert agreement > 0.95


def test_cleverhans_mode_trims_zeros(subject):
    settings = {"bank": subject.train, "calibration": subject.val, "k": 5}
    paper, cleverhans = fit(subject.model, **settings), fit(subject.model, **settings, mode="cleverhans")
    assert 0 in paper.calibration_A.tolist()
    assert cleverhans.calibration_A.tolist() == [a for a in paper.calibration_A.tolist() if a]
    assert (cleverhans.predict(subject.test).credibility_N >= paper.predict(subject.test).credibility_N).all()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"k": 0}, "k: must be between 1 and the 1078 images of the bank, got 0"),
        ({"k": 2000}, "k: must be between 1 and the 1078 images of the bank, got 2000"),
        ({"taps": ()}, "taps: must name at least one of"),
        ({"taps": ("fc9",)}, "taps: must be among"),
        ({"mode": "cleverhans", "smoothed": True}, "smoothed: must be false in the mode 'cleverhans'"),
    ],
)
def test_wrong_choices_say_what_holds(subject, choice, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(subject.model, bank=subject.train, calibration=subject.val, **choice)


def test_bins_are_closed_below_and_the_last_above_too():
    credibility = torch.tensor([k / 10 for k in range(11)], dtype=torch.float64)
    bins = reliability_bins(credibility, torch.ones(11, dtype=torch.bool))
    assert [bin_.images for bin_ in bins] == [1] * 9 + [2]
    assert [bin_.accuracy for bin_ in bins] == [1.0] * 10


def test_an_empty_bin_has_no_accuracy():
    bins = reliability_bins(torch.tensor([0.95]), torch.tensor([True]))
    assert [bin_.accuracy for bin_ in bins] == [None] * 9 + [1.0]


def test_noise_is_less_credible_than_digits(results):
    metrics = results["credibility"].metrics()
    assert metrics["dknn/accuracy"] > 0.9
    assert metrics["dknn/credibility"] > metrics["dknn/credibility_noise"] + 0.1


def test_metrics_are_finite_and_named(results):
    metrics = {name: value for result in results.values() for name, value in result.metrics().items()}
    assert {
        "dknn/accuracy",
        "dknn/credibility",
        "dknn/credibility_noise",
        "dknn/accuracy_bim@0.1",
        "dknn/credibility_fgsm@0.1",
        "dknn/accuracy_adaptive@0.1",
        "dknn/credibility_adaptive@0.1",
    } <= set(metrics)
    assert all(0 <= value <= 1 for value in metrics.values())


def test_the_adaptive_attack_leaves_no_more_than_the_others(results):
    metrics = results["under_attack"].metrics()
    assert metrics["dknn/accuracy_adaptive@0.1"] <= metrics["dknn/accuracy_bim@0.1"]
    assert metrics["dknn/accuracy_adaptive@0.1"] <= metrics["dknn/accuracy_fgsm@0.1"]


def test_a_model_that_hides_its_gradients_is_given_no_accuracy_under_attack(subject):
    loud = copy.deepcopy(subject.model)
    with torch.no_grad():
        loud.head.weight *= 1e4
        loud.head.bias *= 1e4
    measured = dknn_suite.suite(
        replace(subject, model=loud), EvaluationBudget(images=40, attack_images=4), lambda _, __: None
    )
    assert measured["under_attack"].refusals
    assert not measured["under_attack"].metrics()
    assert "dknn/accuracy" in measured["credibility"].metrics()


def test_tables_hold_every_radius_and_figures_can_be_plotted(results):
    pytest.importorskip("plotly")
    rows = results["under_attack"].table().rows
    assert [row[:2] for row in rows if row[0] == "bim"] == [("bim", r * 0.1) for r in (0.25, 0.5, 1.0, 1.5, 2.0)]
    for result in results.values():
        assert result.figure().data
        assert result.limits


@pytest.mark.parametrize(("epsilon", "images", "why"), [(0.1, 0, "attack_images is 0"), (0.0, 10, "epsilon is 0")])
def test_without_the_adaptive_attack_nothing_is_claimed(subject, epsilon, images, why):
    detector = fit(subject.model, bank=subject.val, calibration=subject.val, k=5)
    measured = under_attack(detector, subject.test, epsilon=epsilon, images=images)
    assert measured.refusals == (
        f"dknn under attack: {why}, so the adaptive attack was not run, and no robustness is claimed",
    )
    assert measured.metrics() == {}


def test_radii_stay_in_the_box(subject):
    detector = fit(subject.model, bank=subject.val, calibration=subject.val, k=5)
    measured = under_attack(detector, subject.test, epsilon=0.8, images=10)
    assert sorted({row.epsilon for row in measured.rows}) == [0.0, 0.2, 0.4, 0.8]


def test_the_suite_gives_the_same_numbers_each_time(subject, results):
    repeated = dknn_suite.suite(subject, EvaluationBudget(images=100, attack_images=10), lambda _, __: None)
    assert {name: result.metrics() for name, result in repeated.items()} == {
        name: result.metrics() for name, result in results.items()
    }
