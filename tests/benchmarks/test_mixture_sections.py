"""Arithmetic of the sections `mixtures` and `flattening`: what their checks measure, and what they conclude."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mixture_rows import SEEDS, rows_of
from torch import nn

from orchestrator.analysis.claims.intervals import image_difference_interval, quantile
from trainables.config.trial import DataConfig, ModelConfig, TrialConfig
from trainables.data import load_splits, load_test
from trainables.evaluation.core.prediction import balanced_subset
from trainables.evaluation.deformations.deformed_accuracy import deformations
from trainables.evaluation.deformations.families import PAPER
from trainables.models import build
from trainables.models.staged import StagedClassifier
from trainables.regularizers.resolved_methods import Methods
from trainables.seeding import derive
from trainables.tasks.classifier.training import train

EVIDENCE = Path(__file__).parents[2] / "benchmarks/evidence"
OWN = {path.stem for path in EVIDENCE.iterdir()}


@pytest.fixture
def sections(monkeypatch):
    """Import modules of the evidence by their short names, which leave with it."""
    monkeypatch.syspath_prepend(EVIDENCE)
    yield importlib.import_module
    for name in [name for name in sys.modules if name.partition(".")[0] in OWN]:
        sys.modules.pop(name)


def spread_around(center, *, width=0.01, seed=0):
    """Return a value for each seed."""
    return list(center + width * np.random.default_rng(seed).standard_normal(len(SEEDS)))


def answer(sections, rows, check, contrasts):
    """Return the answer to a question with one check."""
    questions = sections("questions")
    predictions = [questions.Expected(words, contrast) for words, contrast in contrasts.items()]
    return questions.Question("Is it?", [questions.Expected("check", check)], predictions).answer(rows)


def test_training_without_validation_has_the_weights_of_training_with_it(sections):
    trials = sections("sections.mixtures.trials")
    config = TrialConfig.from_point(
        {"model.name": "cnn_bn", "model.width": 0.25, "epochs": 3, "mixup.alpha": 1.0, "mixup.layers": "input+hidden"}
    )
    network = trials.trained(config, validation=50)
    expected = train(config)
    for name, tensor in expected.model.state_dict().items():
        assert torch.equal(network.model.state_dict()[name], tensor), name
    assert len(network.curve) == 3
    assert torch.equal(network.test.images_NCHW, load_test(config.data).images_NCHW)


def test_a_network_that_always_says_all_classes_is_as_far_from_mixed_labels_as_their_entropy_says(sections):
    measures = sections("sections.mixtures.measures")
    images = balanced_subset(load_splits(DataConfig()).val, size=100)
    stages = {"fc1": nn.Flatten(), "penultimate": nn.Identity()}
    model = StagedClassifier(stages, nn.Linear(64, 10), channels=1)
    for parameter in model.head.parameters():
        nn.init.zeros_(parameter)
    rng = np.random.default_rng(derive(0, "mixtures of the evidence"))
    lam, labels = rng.uniform(size=100).astype(np.float32).astype(float), images.labels_N.numpy()
    partners = labels[rng.permutation(100)]
    entropy = -(lam * np.log(lam) + (1 - lam) * np.log(1 - lam))
    expected = (np.log(10) - entropy)[labels != partners].mean()
    for boundary in ("input", "fc1"):
        found = measures.mixture_divergence(model, images, boundary=boundary, num_classes=10)
        assert found == pytest.approx(expected, rel=1e-5)


def test_mixing_at_a_boundary_changes_the_check_there_and_nothing_else_does(sections):
    """Training on mixtures of one layer brings the predictions of these nearer to mixed labels."""
    trials, measures = sections("sections.mixtures.trials"), sections("sections.mixtures.measures")
    common = {"model.name": "mlp", "epochs": 25, "data.fraction": 0.2, "batch_size": 50}
    found = []
    for own in ({}, {"mixup.alpha": 2.0, "mixup.layers": "fc1"}):
        network = trials.trained(TrialConfig.from_point({**common, **own}), validation=300)
        found.append(measures.mixtures(network.model, network.validation, num_classes=10))
    without, mixed = found
    assert mixed["mixture/fc1"] < without["mixture/fc1"] / 2
    assert mixed["mixture/hidden"] == pytest.approx((mixed["mixture/fc1"] + mixed["mixture/fc2"]) / 2)


@pytest.mark.parametrize("name", ["mixtures", "flattening"])
def test_every_unit_of_the_whole_size_is_a_trial_that_its_network_can_be_trained_by(sections, name):
    trials, section = sections("sections.mixtures.trials"), sections(f"sections.{name}").SECTION
    shapes = {"fashion_mnist": (1, 28, 28), "mnist": (1, 28, 28), "image_folder": (3, 32, 32)}
    by_method = {(unit.settings["data"], unit.settings["method"]): unit for unit in section.units("whole")}
    for unit in by_method.values():
        config = trials.trial(unit.settings, None)
        model = build(config.model, image_shape=shapes[config.data.name], num_classes=10)
        Methods.resolve(config, model, num_classes=10)
        if name == "mixtures":
            hidden = unit.settings["point"].get("mixup.layers", "input").split("+")
            assert set(hidden) <= set(model.boundaries)
    seeds = {unit.settings["seed"] for unit in section.units("whole")}
    assert seeds == set(SEEDS)


def test_the_predicted_deformations_are_those_where_the_paper_has_manifold_mixup_above_all_others(sections):
    better = sections("sections.mixtures.measures").PAPER_BETTER
    for family, amounts in better.items():
        for amount in amounts:
            accuracies = PAPER[f"{family}@{amount:g}"]
            assert max(accuracies, key=accuracies.__getitem__) == "manifold mixup, alpha 2", (family, amount)
    left_out = {"zoom_in@0.2", "zoom_in@0.4", "zoom_in@0.6", "zoom_out@1.8", "shear@2", "shear@2.5", "shear@3"}
    assert {f"{family}@{amount:g}" for family, amounts in better.items() for amount in amounts} == set(PAPER) - left_out


@pytest.mark.parametrize(
    ("gain", "conclusion"), [(0.0, "agrees"), (-0.3, "agrees"), (0.2, "disagrees"), (0.05, "inconclusive")]
)
def test_no_more_robust_is_a_test_against_a_margin_and_not_the_absence_of_a_difference(sections, gain, conclusion):
    predictions = sections("sections.mixtures.predictions")
    rows = rows_of(
        {
            "none": {"pgd": spread_around(0.4), "check": spread_around(1.0)},
            "mixed": {"pgd": spread_around(0.4 + gain, seed=1), "check": spread_around(0.5, seed=1)},
        },
    )
    check = predictions.Contrast("few", "check", "lower", "mixed", "none")
    robust = predictions.Contrast("few", "pgd", "lower", "mixed", "none", shift=0.05)
    found = answer(sections, rows, check, {"no more robust": robust})
    assert found.findings["no more robust"].conclusion == conclusion
    assert found.predictions["no more robust"].difference.mean == pytest.approx(gain - 0.05, abs=0.01)


def test_a_difference_of_means_must_hold_for_other_images_too(sections):
    """A loss with a large spread over images is concluded on from many of them alone."""
    predictions = sections("sections.mixtures.predictions")
    conclusions = []
    for images in (20.0, 20_000.0):
        rows = rows_of(
            {
                name: {
                    "nll": spread_around(center, seed=len(name)),
                    "spread": [1.0] * len(SEEDS),
                    "images": [images] * len(SEEDS),
                }
                for name, center in (("none", 1.8), ("mixed", 1.6))
            },
        )
        lower = predictions.Contrast("few", "nll", "lower", "mixed", "none", images="images", spread="spread")
        check = predictions.Contrast("few", "nll", "lower", "mixed", "none")
        found = answer(sections, rows, check, {"lower": lower})
        conclusions.append((found.findings["lower"].conclusion, found.findings["lower"].reason))
    assert conclusions[0] == ("inconclusive", "other images may not show it")
    assert conclusions[1][0] == "agrees"


def test_a_difference_of_shares_over_images_is_paired_by_image(sections):
    """Two networks that differ in the answers to few images have a narrow interval, however hard the images are."""
    predictions, answers_by_image = sections("sections.mixtures.predictions"), sections("answers_by_image")
    stream = torch.Generator().manual_seed(0)
    hard_N = torch.rand(400, generator=stream) < 0.5
    better_N = hard_N | (torch.arange(400) < 24)
    answers = {"none": [hard_N] * len(SEEDS), "mixed": [better_N] * (len(SEEDS) - 1) + [hard_N]}
    rows = []
    for row in rows_of({"none": {}, "mixed": {}}):
        right_N = answers[row.settings["method"]][row.settings["seed"]]
        share = float(right_N.double().mean())
        rows.append(row._replace(metrics={"share": share, "by image": {"share": answers_by_image.packed(right_N)}}))
    prediction = predictions.Contrast("few", "share", "higher", "mixed", "none", by_image=True)(rows)
    gained = (better_N & ~hard_N).double() * (len(SEEDS) - 1) / len(SEEDS)
    low, high = prediction.images
    assert (low + high) / 2 == pytest.approx(float(gained.mean())) == pytest.approx(prediction.difference.mean)
    assert (high - low) / 2 == pytest.approx(quantile(399) * float(gained.std()) / 20)
    unpaired = image_difference_interval(float(better_N.double().mean()), float(hard_N.double().mean()), 400)
    assert high - low < (unpaired.high - unpaired.low) / 4


def test_deformed_images_are_those_of_the_suite(sections):
    measures = sections("sections.mixtures.measures")
    images = balanced_subset(load_splits(DataConfig()).val, size=50)
    model = build(ModelConfig(name="mlp"), image_shape=(1, 8, 8), num_classes=10, seed=1)
    suite = deformations(model, images, mean_C=torch.zeros(1)).metrics()
    right = measures.deformed(model, images)
    assert {name: float(right_N.double().mean()) for name, right_N in right.items()} == {
        name: pytest.approx(suite[name]) for name in right
    }
    assert len({tuple(right_N.tolist()) for right_N in right.values()}) > 5


def test_the_control_of_flattening_is_the_penalty_whose_activations_are_nearest_in_length(sections):
    networks, questions = sections("sections.flattening.networks"), sections("sections.flattening.questions")
    lengths = {networks.MANIFOLD: 2.0}
    lengths |= {
        networks.length_penalty(weight): length
        for weight, length in zip(networks.LENGTH_WEIGHTS, (2.6, 1.9, 1.2), strict=True)
    }
    rows = [
        row._replace(unit=row.unit._replace(settings={**row.settings, "data": networks.DATA}))
        for row in rows_of({name: {"log_norm": spread_around(length)} for name, length in lengths.items()})
    ]
    assert questions.matched(rows) == networks.length_penalty(networks.LENGTH_WEIGHTS[1])


def test_a_question_of_attacks_has_the_checks_of_its_own_pair_alone(sections):
    questions, budgets = sections("sections.mixtures.questions"), sections("sections.mixtures.budgets")
    for treatment, control in questions.PAIRS:
        found = questions.attacks(budgets.CIFAR, treatment, control)
        pairs = {(own.of.treatment, own.of.control) for own in [*found.checks[1:], *found.predictions]}
        assert pairs == {(treatment, control)}
        assert len(found.checks) == 2
    titles = [own.title for own in questions.questions(budgets.CIFAR)]
    assert len([title for title in titles if "attacks" in title]) == len(questions.PAIRS)
