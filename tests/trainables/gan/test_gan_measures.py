"""Entanglement of two kinds of image and the classes covered, against brute force and by hand."""

import math

import pytest
import torch

from trainables.tasks.gan.measures import Modes, modes, predicted_classes, real_fake_entanglement


def cloud(count, centre, seed, *, spread=1.0):
    noise = torch.randn(count, len(centre), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.tensor(centre, dtype=torch.float64) + spread * noise


def brute_force(real_ND, fake_ND):
    """Mean loss of the real and of the synthetic anchors at the best temperature of a fine grid."""
    points = torch.cat([real_ND, fake_ND]).tolist()
    labels = [0] * len(real_ND) + [1] * len(fake_ND)
    square = [[sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) for q in points] for p in points]

    def losses(temperature):
        for i, row in enumerate(square):
            kernel = [0.0 if j == i else math.exp(-d / temperature) for j, d in enumerate(row)]
            own = sum(k for k, label in zip(kernel, labels, strict=True) if label == labels[i])
            yield math.log(sum(kernel) / own)

    best = min((list(losses(math.exp(0.05 * k))) for k in range(-80, 60)), key=sum)
    n = len(real_ND)
    return sum(best[:n]) / n, sum(best[n:]) / n


def test_both_halves_are_those_of_the_definition():
    real_ND, fake_ND = cloud(12, [0.0, 0.0], 0), cloud(12, [1.0, 0.5], 1, spread=0.5)
    found = real_fake_entanglement(real_ND, fake_ND)
    real, fake = brute_force(real_ND, fake_ND)
    assert found.value == pytest.approx((real + fake) / 2, rel=1e-3)
    assert found.real_anchors == pytest.approx(real, rel=3e-2)
    assert found.fake_anchors == pytest.approx(fake, rel=3e-2)
    assert found.precision <= found.fake_anchors / found.chance + 1e-9
    assert found.recall <= found.real_anchors / found.chance + 1e-9
    assert found.value == pytest.approx((found.real_anchors + found.fake_anchors) / 2)


def test_chance_is_that_of_two_kinds_of_as_many_each():
    found = real_fake_entanglement(cloud(30, [0.0], 0), cloud(30, [0.0], 1))
    assert found.chance == pytest.approx(math.log(59 / 29))
    assert 0.9 * found.chance < found.value <= found.chance


def test_the_best_forgery_is_at_chance_for_either_anchors():
    line = torch.arange(20.0)[:, None]
    found = real_fake_entanglement(line, line)
    assert (found.value, found.real_anchors, found.fake_anchors) == (found.chance,) * 3
    assert found.temperature == math.inf


def test_a_missed_mode_is_one_of_recall():
    """Half of the real images have nothing synthetic near, and the other half twice as much as real ones."""
    real_ND = torch.cat([cloud(40, [0.0, 0.0], 0), cloud(40, [20.0, 0.0], 1)])
    found = real_fake_entanglement(real_ND, cloud(80, [0.0, 0.0], 2))
    assert found.recall == pytest.approx(0.5, abs=0.1)
    assert found.precision == pytest.approx(math.log2(1.5), abs=0.1)
    assert found.real_anchors > found.fake_anchors, "the plain means are the other way round"
    complete = real_fake_entanglement(real_ND, torch.cat([cloud(40, [0.0, 0.0], 3), cloud(40, [20.0, 0.0], 4)]))
    assert (complete.recall, complete.precision) == pytest.approx((1, 1), abs=0.1)
    assert found.value < complete.value


def test_images_unlike_any_are_a_matter_of_precision():
    fake_ND = torch.cat([cloud(40, [0.0, 0.0], 2), cloud(40, [20.0, 0.0], 3)])
    found = real_fake_entanglement(cloud(80, [0.0, 0.0], 0), fake_ND)
    assert found.precision == pytest.approx(0.5, abs=0.1)
    assert found.recall == pytest.approx(math.log2(1.5), abs=0.15)


def test_a_collapsed_generator_scores_below_one_that_varies():
    real_ND = cloud(60, [0.0] * 4, 0)
    collapsed = real_fake_entanglement(real_ND, cloud(60, [0.0] * 4, 1, spread=0.01))
    varied = real_fake_entanglement(real_ND, cloud(60, [0.0] * 4, 2))
    assert collapsed.value < 0.5 * varied.value


def class_means(count, *, classes=10, width=64):
    """Real images around class means, and these means with a little noise as the synthetic ones."""
    means_KD = 2 * cloud(classes, [0.0] * width, 0)
    own_N = torch.arange(count) % classes
    return means_KD[own_N] + cloud(count, [0.0] * width, 1), means_KD[own_N] + 0.05 * cloud(count, [0.0] * width, 2)


@pytest.mark.parametrize("count", [100, 400])
def test_class_means_with_noise_are_not_precise(count):
    measured = real_fake_entanglement(*class_means(count))
    assert measured.precision < 0.2
    assert measured.real_nn < 0.1
    assert measured.fake_nn > 0.9


@pytest.mark.parametrize("count", [40, 100, 400])
def test_a_perfect_generator_has_recall_and_precision_near_one_and_nearest_neighbours_at_chance(count):
    measured = real_fake_entanglement(cloud(count, [0.0] * 16, 0), cloud(count, [0.0] * 16, 1))
    assert measured.recall > 0.85
    assert measured.precision > 0.85
    assert measured.nn_accuracy == pytest.approx(0.5, abs=0.15)


def test_recall_and_precision_are_finite_measures_also_if_all_images_coincide():
    measured = real_fake_entanglement(torch.ones(40, 4), torch.ones(40, 4))
    assert (measured.recall, measured.precision, measured.nn_accuracy) == pytest.approx((1, 1, 0.5))


def test_nearest_neighbour_accuracy_is_that_of_brute_force():
    real_ND, fake_ND = cloud(30, [0.0, 0.0], 0), cloud(30, [1.0, 0.0], 1)
    measured = real_fake_entanglement(real_ND, fake_ND)
    points = torch.cat([real_ND, fake_ND])
    nearest = torch.cdist(points, points).fill_diagonal_(math.inf).argmin(1)
    own = (nearest >= 30) == (torch.arange(60) >= 30)
    assert (measured.real_nn, measured.fake_nn) == pytest.approx(tuple(own.view(2, -1).double().mean(1).tolist()))


def test_images_are_compared_as_rows_of_pixels():
    x, y = cloud(10, [0.0] * 12, 0), cloud(10, [0.3] * 12, 1)
    assert real_fake_entanglement(x.view(10, 3, 2, 2), y.view(10, 3, 2, 2)) == real_fake_entanglement(x, y)


@pytest.mark.parametrize(("real", "fake"), [(3, 4), (1, 1)])
def test_unequal_numbers_are_refused(real, fake):
    with pytest.raises(ValueError, match=f"as many real as synthetic, at least 2, got {real} and {fake}"):
        real_fake_entanglement(torch.zeros(real, 1), torch.zeros(fake, 1))


@pytest.mark.parametrize(
    ("counts", "kl", "covered"),
    [
        ([5, 5, 5, 5], 0.0, 4),
        ([20, 0, 0, 0], math.log(4), 1),
        ([10, 10, 0, 0], math.log(2), 2),
        ([16, 2, 1, 1], sum(c / 20 * math.log(c / 5) for c in (16, 2, 1, 1)), 4),
        ([17, 3, 0, 0], sum(c / 20 * math.log(c / 5) for c in (17, 3)), 2),
    ],
)
def test_classes_are_compared_with_equally_frequent_ones(counts, kl, covered):
    classes_N = torch.arange(4).repeat_interleave(torch.tensor(counts))
    found = modes(classes_N, num_classes=4, share=0.2)
    assert found == Modes(pytest.approx(kl, abs=1e-12), covered)


def test_a_class_just_below_its_share_is_not_covered():
    classes_N = torch.arange(2).repeat_interleave(torch.tensor([91, 9]))
    assert modes(classes_N, num_classes=2, share=0.2).covered == 1
    assert modes(classes_N, num_classes=2, share=0.18).covered == 2


def test_classes_are_told_in_eval_mode_and_the_flag_comes_back():
    classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.99), torch.nn.Identity()).train()
    images_NCHW = torch.eye(5).view(5, 5, 1, 1)
    assert predicted_classes(classifier, images_NCHW).tolist() == [0, 1, 2, 3, 4]
    assert classifier.training
