"""The page of the evidence, written from networks that were measured a moment ago."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from orchestrator.analysis.claims.intervals import image_interval
from trainables.config.trial import DataConfig, ModelConfig
from trainables.data import load_splits, load_test
from trainables.evaluation.core.clean import accuracy
from trainables.evaluation.core.prediction import as_pixels, balanced_subset, logits
from trainables.evaluation.robustness.transfer import transfer
from trainables.models import build

ROOT = Path(__file__).parents[3]
RECIPES = ("baseline", "entangle")


@pytest.fixture
def mnist(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks/evidence")
    from answer_tables import shown
    from sections import mnist
    from sections.mnist import networks

    def conclusions(scores):
        return shown(mnist.questions_of(scores), ())

    yield SimpleNamespace(networks=networks, page=mnist.page, conclusions=conclusions, Scores=mnist.Scores)
    own = {path.stem for path in (ROOT / "benchmarks/evidence").iterdir()}
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        sys.modules.pop(name)


def taught(seed):
    """Return a small network after a few steps on digits."""
    train = load_splits(DataConfig()).train
    model = build(ModelConfig(name="mlp", width=0.1), image_shape=(1, 8, 8), num_classes=10, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(25):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(as_pixels(train.images_NCHW)), train.labels_N).backward()
        optimizer.step()
    return model


def test_values_by_seed_become_kept_data_tables_and_conclusions_on_what_was_trained(mnist, tmp_path):
    test = load_test(DataConfig())
    networks = [mnist.networks.Network(recipe, seed, tmp_path) for recipe in RECIPES for seed in mnist.networks.SEEDS]
    models = {network.name: taught(index) for index, network in enumerate(networks)}
    scores = {name: {"test/accuracy": accuracy(logits(model, test), test.labels_N)} for name, model in models.items()}
    scores["entangle 2"]["pgd-40@0.1"] = 0.5  # a metric that not every seed has is not kept
    errors = transfer(
        models,
        balanced_subset(test, size=40),
        attack="fgsm",
        epsilon=0.2,
        seed=0,
        groups={network.name: network.recipe for network in networks},
    )
    kept = mnist.Scores(
        machine="this one",
        seeds=mnist.networks.SEEDS,
        images=40,
        test_images=len(test),
        values=mnist.networks.by_recipe(networks, scores),
        transfer=mnist.page.transfer_of(errors),
    )
    own = [scores[f"entangle {seed}"]["test/accuracy"] for seed in mnist.networks.SEEDS]
    assert kept.values["entangle"] == {"test/accuracy": own}
    assert kept.difference("entangle", "baseline", "test/accuracy").num_pairs == 3
    tables = mnist.page.tables(kept)
    text = tables + mnist.conclusions(kept)
    low, high = image_interval(sum(own) / 3, len(test))
    assert (
        f"| entangle | {mnist.page.interval(kept.summary('entangle', 'test/accuracy'))} ({low:.3f} to {high:.3f}) |"
        in text
    )
    assert "Accuracy under PGD-40" not in tables
    assert "as these were not trained: class means (control), activation L2 (control)." in text
    mean, half = kept.transfer["baseline"]["entangle"]
    pairs = errors.by_group()["baseline", "entangle"]
    assert mean == pytest.approx(100 * sum(pairs.values()) / 9)
    own, other = (mnist.page.rounded(*pair) for pair in (kept.transfer["baseline"]["baseline"], (mean, half)))
    assert f"| baseline | {own} | {other} |" in text
