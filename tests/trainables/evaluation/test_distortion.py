"""The curve falls with the radius, and the smallest distortions are those of a model whose boundary is known."""

import math

import pytest
import torch
from torch import nn

from trainables.data import Split
from trainables.evaluation.core.evaluation_attack import withstands
from trainables.evaluation.robustness.accuracy_over_radius import AccuracyCurve, accuracy_curve
from trainables.evaluation.robustness.distortion import Amplified, Distortion, minimum_distortion
from trainables.evaluation.robustness.gradient_ascent import ascent, start_noise


def threshold(middle=0.5):
    """Class 1 where the mean pixel is brighter than the middle."""
    layer = nn.Linear(4, 2)
    layer.weight.data = torch.tensor([[0.0] * 4, [8.0] * 4])
    layer.bias.data = torch.tensor([0.0, -32.0 * middle])
    return nn.Sequential(nn.Flatten(), layer)


def greys(*values):
    levels = torch.tensor([round(255 * value) for value in values], dtype=torch.uint8)
    return Split(levels.reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone(), (levels > 127).long())


def test_the_curve_counts_the_images_further_than_the_radius_from_the_boundary():
    split = greys(0.1, 0.35, 0.46, 0.54, 0.65, 0.9)
    result = accuracy_curve(threshold(), split, epsilon=0.1)
    distances = (split.images_NCHW[:, 0, 0, 0] / 255 - 0.5).abs()
    assert result.robust == tuple(int((distances > radius).sum()) for radius in result.epsilons)
    assert result.epsilons == (0.0, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)


def test_in_the_l2_ball_the_boundary_is_further():
    split = greys(0.1, 0.35, 0.46, 0.54, 0.65, 0.9)
    result = accuracy_curve(threshold(), split, epsilon=0.2, norm="l2")
    distances = 2 * (split.images_NCHW[:, 0, 0, 0] / 255 - 0.5).abs()  # of four pixels
    assert result.robust == tuple(int((distances > radius).sum()) for radius in result.epsilons)
    assert result.robust[-1] == 0


def test_the_curve_ends_with_the_box_when_nothing_breaks_the_model():
    always = threshold(middle=-5.0)
    result = accuracy_curve(always, greys(0.6, 0.7, 0.8), epsilon=0.3)
    assert result.epsilons[-1] == 1.0
    assert set(result.robust) == {3}


class Band(nn.Module):
    """Says class 0 in a narrow band of brightness alone, over which long steps jump."""

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        inside = 0.015 - (mean - 0.6).abs()
        return torch.stack([inside, torch.zeros_like(mean)], 1)


def test_an_image_that_a_smaller_ball_broke_stays_broken():
    split = Split(greys(0.55, 1.0).images_NCHW, torch.tensor([1, 1]))
    noise = start_noise(split, norm="linf", seed=0, purpose="pgd-20")

    def alone(radius):
        attack = ascent(Band(), epsilon=radius, norm="linf", steps=20, step_size=radius / 4, noise_NCHW=noise)
        return withstands(split, attack).tolist()

    assert (alone(0.06), alone(0.36)) == ([False, True], [True, True])
    result = accuracy_curve(Band(), split, epsilon=0.06)
    counts = dict(zip(result.epsilons, result.robust, strict=True))
    assert (counts[0.06], counts[0.36]) == (1, 1)


def test_noise_is_the_same_at_every_radius_and_for_every_model():
    split = greys(0.2, 0.8)
    one, other = (start_noise(split, norm="linf", seed=1, purpose="pgd-20") for _ in range(2))
    assert torch.equal(one, other)
    assert one.abs().max() <= 1


def test_a_refused_curve_gives_no_number_but_the_clean_one():
    result = AccuracyCurve("linf", 10, (0.0, 0.1), (9, 4), refusals=("zero gradients: none",))
    assert result.metrics() == {}
    assert result.table().rows[0][1] == 0.9
    assert result.table().rows[1][1:4] == ("refused",) * 3
    assert "REFUSED" in result.figure().layout.title.text
    assert not result.figure().data


@pytest.mark.parametrize(("epsilons", "robust"), [((0.0, 0.1), (3, 4)), ((0.1, 0.1), (4, 3)), ((0.0,), (4, 3))])
def test_a_curve_that_rises_cannot_be_made(epsilons, robust):
    with pytest.raises(ValueError, match="curve: radii must grow and counts must not"):
        AccuracyCurve("linf", 10, epsilons, robust)


def test_distortions_are_the_distances_to_the_boundary():
    split = greys(0.1, 0.4, 0.8, 0.95)
    result = minimum_distortion(threshold(), split, images=4)
    expected = [abs(round(255 * value) / 255 - 0.5) for value in (0.1, 0.4, 0.8, 0.95)]
    assert (result.attempted, result.failed, result.refusals) == (4, 0, ())
    assert all(one >= other - 1e-6 for one, other in zip(result.rms, expected, strict=True))
    assert result.rms == pytest.approx(expected, rel=0.15)
    assert result.metrics()["robust/lbfgs_rms"] == pytest.approx(sum(result.rms) / 4)
    middle = sorted(result.rms)[1:3]
    assert result.metrics()["robust/lbfgs_rms_median"] == pytest.approx(sum(middle) / 2)
    assert result.metrics()["robust/lbfgs_failed"] == 0


def test_amplified_perturbations_break_what_noise_of_the_same_length_does_not():
    # The noise has mean about 0 and moves the mean by less than the direction to the boundary does.
    result = minimum_distortion(threshold(), greys(0.42, 0.43, 0.57, 0.58), images=4, seed=3)
    assert set(result.amplified) == {"lbfgs-amplified", "gaussian-noise", "sign-noise"}
    assert result.amplified["lbfgs-amplified"] == (pytest.approx(0.1, abs=1e-4), 0)
    assert result.amplified["sign-noise"].rms == pytest.approx(0.1, abs=1e-6)
    assert result.amplified["sign-noise"].right > 0
    assert result.metrics()["robust/lbfgs-amplified@rms-0.1"] == 0


class Stubborn(nn.Module):
    """Says the first class whatever it sees."""

    def forward(self, x):
        nothing = x.flatten(1).mean(1) * 0
        return torch.stack([nothing + 1, nothing], 1)


def test_failures_are_counted_apart_and_refuse_the_average():
    result = minimum_distortion(Stubborn(), greys(0.1, 0.2), images=2)
    assert (result.attempted, result.failed, result.rms) == (2, 2, ())
    assert result.metrics() == {}
    assert result.refusals[0].startswith("lbfgs: 90% of the searches must succeed, got 0 of 2")
    assert ("failures", 2) in result.table().rows
    assert "REFUSED" in result.figure().layout.title.text


def test_a_model_that_is_never_right_has_no_distortion():
    result = minimum_distortion(threshold(middle=-5.0), greys(0.1, 0.2), images=2)
    assert result.refusals == ("lbfgs: no image is classified correctly, so there is none to perturb",)
    assert result.metrics() == {}
    assert result.table().rows[0] == ("images tried", 0)
    result.figure()


def test_only_correctly_classified_images_are_tried_and_no_more_than_asked_for():
    split = Split(greys(0.1, 0.2, 0.8, 0.9).images_NCHW, torch.tensor([1, 0, 1, 1]))
    result = minimum_distortion(threshold(), split, images=2)
    assert result.attempted == 2
    assert result.rms == pytest.approx([0.3, 0.3], rel=0.15)
    assert "L-BFGS was tried on 2 correctly classified images of 4" in result.limits


def test_a_refusal_from_outside_takes_all_numbers_with_it():
    result = Distortion(2, (0.1, 0.2), {"sign-noise": Amplified(0.1, 2)}, ("masked: yes",))
    assert result.metrics() == {}
    assert [row[1] for row in result.table().rows] == [2, 0, *["refused"] * 4]


def test_no_images_is_refused():
    with pytest.raises(ValueError, match="images: must be >= 1, got 0"):
        minimum_distortion(threshold(), greys(0.1), images=0)


def test_distortion_figure_shows_each_image_found():
    plot = Distortion(3, (0.1, 0.2), {}).figure()
    assert list(plot.data[0].x) == [0.1, 0.2]
    assert "2 of 3 images, 1 failures" in plot.layout.title.text
    assert math.isclose(plot.layout.shapes[0].x0, 0.15)
