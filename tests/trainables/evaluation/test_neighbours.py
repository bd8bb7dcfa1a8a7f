"""Exact neighbours against a plain reference, ties, dead rows, projections."""

import numpy as np
import pytest
import torch

from trainables.evaluation.uncertainty import neighbours
from trainables.evaluation.uncertainty.neighbours import NeighbourBank, Sketch, nearest


def reference(bank, queries, *, k, distance):
    """All distances of placed rows in numpy float64, then a sort by distance and index."""
    bank, queries = bank.double().numpy(), queries.double().numpy()
    distances = 1 - queries @ bank.T if distance == "cosine" else ((queries[:, None] - bank[None]) ** 2).sum(-1)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(distances, order, axis=1)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(neighbours, "_QUERY_ROWS", 7)
    monkeypatch.setattr(neighbours, "_BANK_ROWS", 37)
    monkeypatch.setattr(neighbours, "_NUMBERS_AT_ONCE", 100)


@pytest.mark.parametrize("distance", ["cosine", "sqeuclidean"])
@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.usefixtures("small_chunks")
def test_neighbours_equal_those_of_the_plain_reference(distance, offset):
    source = torch.Generator().manual_seed(0)
    rows = torch.randn(301, 12, generator=source) + offset
    queries = torch.randn(23, 12, generator=source) + offset
    bank = NeighbourBank.of(rows, distance=distance)
    result = nearest(bank, queries, k=9)
    order, distances = reference(bank.rows_MD, bank.place(queries), k=9, distance=distance)
    assert result.indices_Qk.tolist() == order.tolist()
    np.testing.assert_allclose(result.distances_Qk.numpy(), distances, atol=1e-7, rtol=1e-9)


@pytest.mark.parametrize("columns", [10, 300])
def test_nearly_parallel_rows_are_distinguished(columns):
    # As logits of one class are: their cosines differ by less than float32 can say of numbers near 1.
    source = torch.Generator().manual_seed(5)
    row = torch.randn(1, columns, generator=source)
    rows = row + 1e-3 * torch.randn(900, columns, generator=source)
    queries = row + 1e-3 * torch.randn(11, columns, generator=source)
    bank = NeighbourBank.of(rows, distance="cosine")
    order, _ = reference(bank.rows_MD, bank.place(queries), k=20, distance="cosine")
    assert nearest(bank, queries, k=20).indices_Qk.tolist() == order.tolist()


def test_few_columns_need_no_look_at_all_rows(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError

    monkeypatch.setattr(neighbours._NeighbourSearch, "_among_all", refuse)
    source = torch.Generator().manual_seed(6)
    rows = torch.randn(1, 10, generator=source) + 1e-3 * torch.randn(900, 10, generator=source)
    nearest(NeighbourBank.of(rows, distance="cosine"), rows[:50], k=75)


def test_the_distance_of_cosine_is_one_minus_the_cosine():
    x, y = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [-6.0, -8.0], [0.6, 0.8]])
    result = nearest(NeighbourBank.of(y, distance="cosine"), x, k=3)
    assert result.indices_Qk.tolist() == [[2, 0, 1]]
    np.testing.assert_allclose(result.distances_Qk.numpy(), [[0.0, 0.4, 2.0]], atol=1e-6)


def test_chunk_sizes_change_nothing(monkeypatch):
    source = torch.Generator().manual_seed(1)
    bank = NeighbourBank.of(torch.randn(500, 6, generator=source), distance="cosine")
    queries = torch.randn(40, 6, generator=source)
    whole = nearest(bank, queries, k=5)
    monkeypatch.setattr(neighbours, "_QUERY_ROWS", 3)
    monkeypatch.setattr(neighbours, "_BANK_ROWS", 11)
    assert torch.equal(nearest(bank, queries, k=5).indices_Qk, whole.indices_Qk)


@pytest.mark.parametrize("distance", ["cosine", "sqeuclidean"])
@pytest.mark.parametrize("copies", [5, 120])
@pytest.mark.usefixtures("small_chunks")
def test_of_equal_rows_the_smaller_indices_come_first(distance, copies):
    # More copies than candidates: only a search of all rows shows which come first.
    source = torch.Generator().manual_seed(2)
    row = torch.rand(1, 33, generator=source) + 0.1
    far = -torch.rand(60, 33, generator=source)
    bank = NeighbourBank.of(torch.cat([far, row.expand(copies, -1)]), distance=distance)
    query = row + 0.01 * torch.rand(4, 33, generator=source)
    assert nearest(bank, query, k=4).indices_Qk.tolist() == [[60, 61, 62, 63]] * 4


def test_a_tie_of_different_rows_goes_to_the_smaller_index():
    bank = NeighbourBank.of(torch.tensor([[3.0], [1.0], [-1.0], [1.0]]), distance="sqeuclidean")
    result = nearest(bank, torch.tensor([[0.0]]), k=3)
    assert result.indices_Qk.tolist() == [[1, 2, 3]]
    assert result.distances_Qk.tolist() == [[1.0, 1.0, 1.0]]


def test_the_cosine_of_a_dead_row_is_zero_with_every_row():
    bank = NeighbourBank.of(torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]).repeat(60, 1), distance="cosine")
    dead = nearest(bank, torch.zeros(2, 2), k=3)
    assert dead.indices_Qk.tolist() == [[0, 1, 2]] * 2
    assert dead.distances_Qk.tolist() == [[1.0, 1.0, 1.0]] * 2
    alive = nearest(bank, torch.tensor([[1.0, 0.0]]), k=121)
    assert alive.indices_Qk[0, -1].item() == 1, "the first dead row comes after all rows with a direction"
    assert alive.distances_Qk[0, -1].item() == 1.0


def test_the_gradient_through_a_dead_row_is_finite():
    x = torch.zeros(1, 3, requires_grad=True)
    NeighbourBank.of(torch.eye(3), distance="cosine").place(x).sum().backward()
    assert x.grad.tolist() == [[0.0, 0.0, 0.0]]


def test_a_sketch_keeps_inner_products_in_the_mean():
    source = torch.Generator().manual_seed(3)
    a, b = torch.randn(1, 600, generator=source), torch.randn(1, 600, generator=source)
    b = a + 0.5 * b
    sketches = (Sketch.draw(600, width=64, seed=seed) for seed in range(400))
    products = [float((sketch(a) * sketch(b)).sum()) for sketch in sketches]
    true = float((a * b).sum())
    error_of_mean = np.std(products) / np.sqrt(len(products))
    assert abs(np.mean(products) - true) < 4 * error_of_mean
    assert np.var(products) <= 1.3 * 2 / 64 * float(a.square().sum() * b.square().sum())


def test_ranks_of_a_sketch_agree_with_those_of_all_columns():
    from scipy.stats import spearmanr

    # Activations of a layer: many numbers, few directions.
    source = torch.Generator().manual_seed(4)
    labels = torch.arange(440) % 10
    hidden = torch.randn(10, 20, generator=source)[labels] + 0.7 * torch.randn(440, 20, generator=source)
    features = (hidden @ torch.randn(20, 4096, generator=source)).relu()
    rows, queries = features[:400], features[400:]
    whole = NeighbourBank.of(rows, distance="cosine")
    sketched = NeighbourBank.of(rows, distance="cosine", sketch=Sketch.draw(4096, width=512, seed=0))
    votes = [labels[nearest(bank, queries, k=20).indices_Qk] for bank in (whole, sketched)]
    right = [float((vote == labels[400:, None]).float().mean()) for vote in votes]
    assert right[0] > 0.9
    assert abs(right[0] - right[1]) < 0.03
    distances = [1 - bank.place(queries) @ bank.rows_MD.T for bank in (whole, sketched)]
    assert spearmanr(distances[0].flatten(), distances[1].flatten()).statistic > 0.95


def test_a_sketch_depends_on_its_seed_alone():
    x = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    first, repeated, other = (Sketch.draw(50, width=7, seed=seed)(x) for seed in (1, 1, 2))
    assert torch.equal(first, repeated)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("k", [0, 4])
def test_k_outside_the_bank_is_refused(k):
    with pytest.raises(ValueError, match=rf"k: must be between 1 and the 3 rows of the bank, got {k}"):
        nearest(NeighbourBank.of(torch.eye(3), distance="cosine"), torch.eye(3), k=k)


def test_other_numbers_of_features_are_refused():
    with pytest.raises(ValueError, match="features: must have 3 numbers a row, got 2"):
        nearest(NeighbourBank.of(torch.eye(3), distance="cosine"), torch.eye(2), k=1)


def test_a_number_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="features: must be finite"):
        NeighbourBank.of(torch.tensor([[float("nan")]]), distance="sqeuclidean")


def test_an_unknown_distance_is_refused():
    with pytest.raises(ValueError, match="distance: must be 'sqeuclidean' or 'cosine', got 'l1'"):
        NeighbourBank.of(torch.eye(2), distance="l1")


def test_a_sketch_wider_than_its_input_is_refused():
    with pytest.raises(ValueError, match="width: must be between 1 and the 4 columns, got 5"):
        Sketch.draw(4, width=5, seed=0)
