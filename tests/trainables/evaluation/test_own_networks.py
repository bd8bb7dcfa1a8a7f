"""Every suite runs on a network of a user and on one of a library, or says which part cannot."""

from pathlib import Path

import pytest
import torch

from trainables.config.trial import DataConfig, ModelConfig, TrialConfig
from trainables.data import load_splits, load_test
from trainables.evaluation.core.results import EvaluationBudget, Subject, no_progress
from trainables.evaluation.core.suites import SUITES, suite_of
from trainables.evaluation.stability.stability_suite import stability
from trainables.evaluation.uncertainty.detection import KNN
from trainables.models import build
from trainables.tasks.classifier.training import train

NAMES = ["own_networks:HandWritten", "torchvision:resnet18"]
CLASSES = 3
# The adaptive attack and L-BFGS on one image each: the suites run, and what they measure is not looked at.
BUDGET = EvaluationBudget(images=24, restart_images=1, distortion_images=1, attack_images=1)


@pytest.fixture(autouse=True, scope="module")
def own_folder():
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(Path(__file__).parents[1] / "assets"))
        yield


@pytest.fixture(scope="module")
def images():
    def few(split, count):
        return split.take((split.labels_N < CLASSES).nonzero()[:count, 0])

    splits = load_splits(DataConfig())
    return few(splits.train, 90), few(splits.val, 60), few(load_test(DataConfig()), 80)


@pytest.fixture(scope="module")
def subject(request, images):
    model = train(
        TrialConfig.from_point(
            {"model.name": request.param, "epochs": 1, "batch_size": 1024, "evaluation.robust_epsilon": 0.0}
        )
    ).model
    return Subject(model, *images, epsilon=0.05)


@pytest.mark.parametrize("subject", NAMES, indirect=True)
@pytest.mark.parametrize("suite", [name for name in SUITES if name != "robust"])
def test_every_suite_runs_on_a_network_of_a_user(subject, suite):
    results = suite_of(suite)(subject, BUDGET, no_progress)
    assert any(result.metrics() for result in results.values())
    for result in results.values():
        assert result.table().rows
        assert result.figure().data


@pytest.mark.timeout(600)
@pytest.mark.parametrize("subject", NAMES[:1], indirect=True)
def test_attacks_run_on_a_network_of_a_user(subject):
    results = suite_of("robust")(subject, BUDGET, no_progress)
    assert any(name.startswith("robust/") for result in results.values() for name in result.metrics())


@pytest.mark.parametrize("subject", NAMES[:1], indirect=True)
def test_a_network_of_its_own_forward_has_no_bound_and_says_so(subject):
    result = stability(subject.model, subject.test, epsilon=0.1, images=6)
    reason = "stability/bound: HandWritten: no chain of modules is known, as its own forward connects them"
    assert result.refusals[0].startswith(reason)
    assert set(result.metrics()) == {"stability/local_max", "stability/local_median"}


def test_a_chain_of_a_user_has_a_bound(images):
    model = build(ModelConfig(name="own_networks:plain_cnn"), image_shape=(1, 8, 8), num_classes=10, std=(0.4,))
    result = stability(model, images[2], epsilon=0.1, images=6)
    assert 0 < max(result.local_N) <= result.bound
    assert result.refusals == ()
    ours = build(ModelConfig(name="cnn"), image_shape=(1, 8, 8), num_classes=10, std=(0.4,))
    with torch.no_grad():
        for parameter, value in zip(ours.parameters(), model.parameters(), strict=True):
            parameter.copy_(value)
    assert result.bound == pytest.approx(stability(ours, images[2], epsilon=0.1, images=6).bound, rel=1e-5)


def test_a_network_without_a_linear_head_leaves_the_score_of_its_penultimate_layer_out(images):
    model = build(ModelConfig(name="own_networks:Wrapped"), image_shape=(1, 8, 8), num_classes=10)
    result = suite_of("ood")(Subject(model, *images, epsilon=0.05), BUDGET, no_progress)["detection"]
    assert KNN not in {score for _, score in result.separations}
    assert any(line.startswith("knn: left out") for line in result.limits)
    assert result.figure().data
