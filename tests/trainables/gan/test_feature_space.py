"""Precision and recall by balls of neighbours, by hand and against brute force."""

import pytest
import torch

from trainables.tasks.gan.feature_space import ManifoldOverlap, manifold_overlap


def cloud(count, seed, *, shift=0.0, spread=1.0, width=4):
    return shift + spread * torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def covered(points, bank, k):
    radii = [sorted(float((a - b).norm()) for b in bank)[k] for a in bank]
    inside = [any(float((p - a).norm()) <= r for a, r in zip(bank, radii, strict=True)) for p in points]
    return sum(inside) / len(inside)


@pytest.mark.parametrize("k", [1, 3])
def test_both_are_those_of_the_definition(k):
    real, fake = cloud(30, 0).double(), cloud(25, 1, shift=0.8, spread=0.6).double()
    found = manifold_overlap(real, fake, neighbours=k)
    assert found == ManifoldOverlap(precision=covered(fake, real, k), recall=covered(real, fake, k))
    assert 0 < found.recall < found.precision < 1


def test_collapse_lowers_recall_and_not_precision():
    real = cloud(100, 0)
    found = manifold_overlap(real, cloud(100, 1, spread=0.2))
    assert found.precision > 0.95
    assert found.recall < 0.5


def test_unlike_images_lower_precision():
    found = manifold_overlap(cloud(100, 0), torch.cat([cloud(50, 1), cloud(50, 2, shift=100.0)]))
    assert 0.4 < found.precision <= 0.5
    assert found.recall > 0.8


def test_a_kind_covers_itself_and_a_single_place_covers_no_other():
    real = 1e4 + cloud(40, 0)
    assert manifold_overlap(real, real) == ManifoldOverlap(1.0, 1.0)
    assert manifold_overlap(real, real[:1].repeat(10, 1)) == ManifoldOverlap(1.0, 1 / 40)


def test_too_few_images_for_so_many_neighbours_are_refused():
    with pytest.raises(ValueError, match="images: must be more than 3 of each kind, got 3 real and 9 synthetic"):
        manifold_overlap(cloud(3, 0), cloud(9, 1))
