"""The regularizers of the examples against their papers, by loops over images."""

import math
from pathlib import Path

import pytest
import torch

from orchestrator.planning.loading import load_spec
from orchestrator.planning.points import first_points
from orchestrator.planning.validation import configured
from orchestrator.spec.baseline import strengths_of
from trainables.regularizers.protocol import Batch

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _examples(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)


def batch_of(features_BD, labels_B):
    logits = torch.zeros(len(labels_B), 3)
    return Batch({"fc1": features_BD}, logits, labels_B, {}, mixed=False, images=features_BD, forward=None)


def random_features(labels):
    stream = torch.Generator().manual_seed(0)
    return torch.randn(len(labels), 5, generator=stream, dtype=torch.float64), torch.tensor(labels)


def test_the_supervised_contrastive_loss_is_equation_2_of_the_paper():
    from supervised_contrastive import SupervisedContrastive

    x, y = random_features([0, 1, 0, 2, 1, 0])  # image 3 is alone
    z = [row / row.norm() for row in x]
    anchors = []
    for i in range(6):
        positives = [p for p in range(6) if p != i and y[p] == y[i]]
        scores = {a: math.exp(float(z[i] @ z[a]) / 0.3) for a in range(6) if a != i}
        if positives:
            anchors.append(-sum(math.log(scores[p] / sum(scores.values())) for p in positives) / len(positives))
    term = SupervisedContrastive(0.3).term(batch_of(x, y), {})
    assert float(term.value) == pytest.approx(sum(anchors) / 5, rel=1e-12)
    assert int(term.metrics["alone"]) == 1


def test_a_batch_without_pairs_has_no_contrast_and_a_finite_gradient():
    from supervised_contrastive import SupervisedContrastive

    x, y = random_features([0, 1, 2])
    x.requires_grad_()
    value = SupervisedContrastive().term(batch_of(x, y), {}).value
    value.backward()
    assert value.item() == 0
    assert not x.grad.any()


def test_the_centre_loss_and_its_centres_are_equations_2_and_4_of_the_paper():
    from center_loss import CenterLoss

    regularizer = CenterLoss(num_classes=3, rate=0.4)
    centers, memory = [torch.zeros(5, dtype=torch.float64)] * 3, {}
    for labels in ([0, 1, 0, 0], [1, 1, 0, 1]):  # class 2 has no image
        x, y = random_features(labels)
        expected = sum(float(((x[i] - centers[y[i]]) ** 2).sum()) for i in range(4)) / 2 / 4
        own = [[x[i] for i in range(4) if y[i] == j] for j in range(3)]
        centers = [
            c - 0.4 * sum((c - row for row in rows), 0 * c) / (1 + len(rows))
            for c, rows in zip(centers, own, strict=True)
        ]
        term = regularizer.term(batch_of(x, y), memory)
        memory = term.memory
        assert float(term.value) == pytest.approx(expected, rel=1e-12)
        torch.testing.assert_close(memory["fc1"], torch.stack(centers), rtol=1e-12, atol=0)


def test_the_example_spec_searches_both_and_its_baseline_has_neither():
    spec = load_spec(EXAMPLES / "regularizers.yaml")
    assert strengths_of(spec)[-2:] == ("regularizers.center.weight", "regularizers.contrast.weight")
    [(origin, baseline)] = first_points(spec)
    assert origin == "baseline"
    assert all(baseline[name] == 0 for name in strengths_of(spec))
    assert {name for name in baseline if name.startswith("regularizers")} == set(strengths_of(spec)[-2:])
    arguments = [trial.regularizers.by_label["center"].by_name for _, trial in configured(spec)]
    assert {tuple(values) for values in arguments} == {(), ("rate",)}
