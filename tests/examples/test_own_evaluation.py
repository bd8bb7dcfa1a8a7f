"""The metric and the suite of the examples against sums over images, and under the checks of authors."""

from pathlib import Path

import pytest
import torch

from trainables.testing import check_metric, check_suite

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _examples(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)


def test_the_expected_cost_is_that_of_the_decisions_of_equation_1():
    from expected_cost import expected_cost

    stream = torch.Generator().manual_seed(0)
    logits_NK, labels_N = torch.randn(40, 3, generator=stream), torch.arange(40) % 3
    cost = [[0, 5.0, 5.0], [1.0, 0, 1.0], [1.0, 1.0, 0]]
    total = 0.0
    for p_K, y in zip(logits_NK.double().softmax(1).tolist(), labels_N.tolist(), strict=True):
        expected = [sum(p_K[i] * cost[i][j] for i in range(3)) for j in range(3)]
        total += cost[y][expected.index(min(expected))]
    assert expected_cost(logits_NK, labels_N, missed=5.0) == pytest.approx(total / 40, rel=1e-12)


def test_a_class_that_must_not_be_missed_is_decided_for_where_the_network_is_unsure():
    from expected_cost import expected_cost

    unsure = torch.log(torch.tensor([[0.3, 0.7]]))
    assert expected_cost(unsure, torch.tensor([0]), missed=10.0) == 0
    assert expected_cost(unsure, torch.tensor([0]), missed=1.0) == 1


def test_the_metric_and_the_suite_pass_the_checks_of_authors():
    assert set(check_metric("expected_cost:expected_cost", {"missed": 20.0}, num_classes=10)) == {""}
    measured = check_suite("confusion:confusion")
    assert set(measured) == {"confusion/worst_pair", "confusion/worst_recall"}
    assert 0 <= measured["confusion/worst_recall"] <= 1
