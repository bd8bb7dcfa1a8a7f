"""Directions, rankings and tests, against vectors, brute force and cases whose answer is known."""

from itertools import combinations, permutations
from math import log

import pytest
import torch
from torch import tensor

from trainables.evaluation.representation.directions import (
    chance_tail,
    class_counts,
    gaussian,
    label_entropy,
    live_units,
    natural_basis,
    non_negative,
    purity,
    rotated,
    tied,
    top_k,
    treated,
)
from trainables.evaluation.representation.group_comparison import compare, holm
from trainables.seeding import generator


def stream(seed=0):
    return generator(seed, "test")


@pytest.mark.parametrize("name", ["e_0", "e_3", "v"])
def test_top_inputs_purity_and_entropy_are_those_of_the_vectors(name, mixup_vectors):
    case = mixup_vectors["topk_purity"]
    features_ND = torch.tensor(case["in"]["features"], dtype=torch.float64)
    basis = natural_basis(4)
    directions = {"e_0": basis[0], "e_3": basis[3], "v": torch.tensor(case["in"]["v"], dtype=torch.float64)}
    top_RK = top_k(directions[name][None] @ features_ND.T, case["in"]["k"])
    counts_RC = class_counts(top_RK, torch.tensor(case["in"]["labels"]), num_classes=3)
    expected = case["expected"][name]
    assert top_RK[0].tolist() == expected["topk"]
    assert purity(counts_RC).item() == expected["purity"]
    assert label_entropy(counts_RC).item() == pytest.approx(expected["entropy_nats"], rel=1e-9)


@pytest.mark.parametrize("values", [1, 3, 1000])
@pytest.mark.parametrize("k", [1, 4, 15])
def test_top_k_is_a_stable_sort(values, k):
    scores_RN = torch.randint(values, (40, 15), generator=stream()).double()
    expected = [sorted(range(15), key=lambda i: (-row[i], i))[:k] for row in scores_RN.tolist()]
    assert top_k(scores_RN, k).tolist() == expected


def test_a_tie_at_the_cut_is_flagged():
    scores = tensor([[3.0, 2.0, 2.0, 1.0]])
    assert [tied(scores, k).item() for k in (1, 2, 3, 4)] == [False, True, False, False]


@pytest.mark.parametrize("k", [0, 5])
def test_more_inputs_than_there_are_is_an_error(k):
    with pytest.raises(ValueError, match=rf"k: must be in \[1, 4\], the number of inputs, got {k}"):
        top_k(torch.zeros(1, 4), k)


def test_random_directions_have_length_one_and_only_the_non_negative_ones_no_negative_part():
    for draw in (gaussian, non_negative, rotated):
        rows = draw(5, 7, generator=stream())
        assert torch.allclose(rows.norm(dim=1), torch.ones(5, dtype=torch.float64))
        assert (rows.amin() >= 0) == (draw is non_negative)


def test_rotated_directions_are_orthonormal_and_even_on_the_sphere():
    rows = rotated(6, 6, generator=stream())
    assert torch.allclose(rows @ rows.T, natural_basis(6))
    draws = torch.stack([rotated(1, 3, generator=stream(seed))[0] for seed in range(600)])
    assert draws.mean(0).abs().max() < 0.1
    assert torch.allclose(draws.square().mean(0), torch.full((3,), 1 / 3, dtype=torch.float64), atol=0.05)


def test_there_are_no_more_orthonormal_directions_than_dimensions():
    with pytest.raises(ValueError, match="count: must be <= 3"):
        rotated(4, 3, generator=stream())


def test_centring_changes_no_ranking_and_standardising_does():
    features_ND = torch.randn(200, 10, generator=stream()) * torch.arange(1, 11) + 50
    directions_RD = gaussian(30, 10, generator=stream(1))
    raw, centred, standardised = (
        top_k(directions_RD @ treated(features_ND, name).T, 8) for name in ("raw", "centred", "standardised")
    )
    assert torch.equal(raw, centred)
    assert not torch.equal(raw, standardised)
    units = [top_k(treated(features_ND, name).T, 8) for name in ("raw", "standardised")]
    assert torch.equal(*units)


def test_standardised_units_have_mean_zero_and_deviation_one():
    values = treated(torch.randn(50, 3, generator=stream()) * 4 + 7, "standardised")
    assert torch.allclose(values.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(values.square().mean(0), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("features", "treatment", "message"),
    [
        ([[1.0], [float("nan")]], "raw", "features: must be finite, got 1 values"),
        ([[1.0, 2.0], [1.0, 3.0]], "standardised", "got 1 dead units"),
        ([[1.0], [2.0]], "whitened", "treatment: must be one of .*got 'whitened'"),
    ],
)
def test_features_that_cannot_be_treated_are_refused(features, treatment, message):
    with pytest.raises(ValueError, match=message):
        treated(tensor(features), treatment)


def test_a_large_constant_unit_is_dead():
    assert live_units(torch.full((7, 1), 0.1) * 1e8).tolist() == [False]


def test_purity_and_entropy_of_hand_made_counts():
    counts = tensor([[8, 0, 0], [4, 4, 0], [4, 2, 2]])
    assert purity(counts).tolist() == [1.0, 0.5, 0.5]
    assert label_entropy(counts).tolist() == pytest.approx([0.0, log(2), 1.5 * log(2)])


@pytest.mark.parametrize(("sizes", "k"), [((3, 4, 2), 3), ((5, 1, 1, 1), 4), ((6,), 2), ((2, 2, 0), 4)])
def test_chance_is_that_of_all_subsets(sizes, k):
    labels = [c for c, size in enumerate(sizes) for _ in range(size)]
    most = [max(chosen.count(c) for c in chosen) for chosen in combinations(labels, k)]
    expected = [sum(count >= j for count in most) / len(most) for j in range(k + 1)]
    assert chance_tail(sizes, k) == pytest.approx(expected, rel=1e-12)


def test_chance_is_that_of_permuted_labels():
    labels = torch.arange(1000) % 10
    top = torch.arange(8)[None]
    draws = [labels[torch.randperm(1000, generator=stream(i))[top]] for i in range(3000)]
    mean = purity(torch.nn.functional.one_hot(torch.cat(draws), 10).sum(1)).mean().item()
    assert mean == pytest.approx(sum(chance_tail((100,) * 10, 8)[1:]) / 8, abs=0.006)


def brute_p(first, second):
    pooled, size = [*first, *second], len(first)

    def distance(group, rest):
        return abs(sum(group) / len(group) - sum(rest) / len(rest))

    observed = distance(first, second)
    orders = list(permutations(pooled))
    return sum(distance(o[:size], o[size:]) >= observed - 1e-9 for o in orders) / len(orders)


@pytest.mark.parametrize(
    ("first", "second"),
    [([1.0, 2.0, 2.0], [2.0, 3.0, 4.0, 4.0]), ([0.5], [0.1, 0.2, 0.3, 0.4]), ([0.1, 0.7], [0.3, 0.2, 0.9])],
)
def test_p_is_that_of_all_permutations(first, second):
    result = compare(tensor(first), tensor(second), seed=3, draws=20_000)
    assert result.p == pytest.approx(brute_p(first, second), abs=0.02)
    pairs = [(a > b) - (a < b) for a in first for b in second]
    assert result.cliffs_delta == pytest.approx(sum(pairs) / len(pairs))
    assert result.difference == pytest.approx(sum(first) / len(first) - sum(second) / len(second))
    assert -1 <= result.low <= result.cliffs_delta <= result.high <= 1


def test_p_is_never_zero_and_is_one_for_equal_groups():
    far = compare(torch.full((30,), 9.0), torch.zeros(30), seed=0, draws=99)
    assert (far.p, far.cliffs_delta) == (0.01, 1.0)
    same = compare(torch.ones(5), torch.ones(7), seed=0)
    assert (same.p, same.cliffs_delta, same.low, same.high) == (1.0, 0.0, 0.0, 0.0)


def test_rounding_makes_no_difference_of_a_tie():
    # 0.1 + 0.2 + 0.3 depends on the order in the last bit; each split here is as far as the observed one.
    result = compare(tensor([0.1, 0.2, 0.3]).double(), tensor([0.3, 0.2, 0.1]).double(), seed=0, draws=500)
    assert result.p == 1.0


def test_p_of_exchangeable_groups_is_uniform():
    values = torch.randn(300, 40, generator=stream())
    ps = sorted(compare(row[:15], row[15:], seed=i, draws=199, resamples=2).p for i, row in enumerate(values))
    # Kolmogorov and Smirnov: the largest gap to the diagonal stays below 1.63 / sqrt(n) in 99% of cases.
    assert max(abs((i + 0.5) / 300 - p) for i, p in enumerate(ps)) < 1.63 / 300**0.5


def test_the_bootstrap_interval_is_where_the_normal_one_is():
    first, second = torch.randn(200, generator=stream(1)) + 0.5, torch.randn(200, generator=stream(2))
    result = compare(first, second, seed=0, draws=10)
    # The standard error of Cliff's delta of two normal groups of 200 is near sqrt(4 / (3 * 200)) * 0.97 = 0.056.
    assert (result.high - result.low) / 3.92 == pytest.approx(0.055, abs=0.008)


def test_the_bootstrap_interval_is_that_of_scipy():
    from scipy.stats import bootstrap

    def delta(first, second, **_axis):
        difference = first[..., :, None] - second[..., None, :]
        return ((difference > 0) * 1.0 - (difference < 0)).mean((-2, -1))

    first = torch.randint(6, (40,), generator=stream(1)).double()
    second = torch.randint(5, (30,), generator=stream(2)).double()
    ours = compare(first, second, seed=0, draws=10, resamples=20_000)
    groups = (first.numpy(), second.numpy())
    theirs = bootstrap(
        groups, delta, vectorized=True, n_resamples=20_000, method="percentile", rng=0
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_an_empty_group_is_an_error():
    with pytest.raises(ValueError, match=r"second: must be a row of finite values, at least one, got \(0,\)"):
        compare(tensor([1.0]), tensor([]), seed=0)


@pytest.mark.parametrize(
    ("ps", "expected"),
    [
        ([], ()),
        ([0.04], (0.04,)),
        ([0.01, 0.02, 0.03, 0.04], (0.04, 0.06, 0.06, 0.06)),
        ([0.5, 0.001, 0.6], (1.0, 0.003, 1.0)),
        ([0.02, 0.02], (0.04, 0.04)),
    ],
)
def test_holm_by_hand(ps, expected):
    assert holm(ps) == pytest.approx(expected)
