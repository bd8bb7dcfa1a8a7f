"""Passes over blocks of a data set find what the whole matrix holds."""

import pytest
import torch

from trainables.snnl import (
    minimise_temperature,
    per_anchor_losses,
    soft_nearest_neighbor_loss,
    streaming,
    streaming_losses,
)

DISTANCES = ["sqeuclidean", "cosine"]


def data_set(*, size=90, classes=4, dtype=torch.float64):
    stream = torch.Generator().manual_seed(2)
    labels = torch.randint(classes, (size,), generator=stream)
    labels[7] = 50  # a singleton
    centres = torch.randn(51, 6, generator=stream, dtype=dtype)
    return centres[labels] + torch.randn(size, 6, generator=stream, dtype=dtype), labels


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("block", [4, 7, 30, 64, 90, 4096])
@pytest.mark.parametrize("temperature", [0.02, 3.0, 1e5])
def test_streaming_losses_equal_those_of_the_matrix(temperature, block, distance):
    x, y = data_set()
    losses, valid = streaming_losses(x, y, temperature, distance=distance, block=block)
    expected, expected_valid = per_anchor_losses(x, y, temperature, distance=distance)
    torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-12)
    assert valid.equal(expected_valid)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("block", [13, 45])
def test_minimum_does_not_depend_on_the_block(block, distance):
    x, y = data_set()
    whole, streamed = (minimise_temperature(x, y, distance, block=size) for size in (90, block))
    assert streamed.value == pytest.approx(whole.value, rel=1e-9)
    assert streamed.temperature == pytest.approx(whole.temperature, rel=1e-6)
    assert (streamed.edge, streamed.num_anchors) == (whole.edge, whole.num_anchors) == ("interior", 89)


def test_minimum_is_the_loss_at_its_temperature():
    x, y = data_set()
    found = minimise_temperature(x, y, block=32)
    assert found.value == pytest.approx(float(soft_nearest_neighbor_loss(x, y, found.temperature)), rel=1e-9)


@pytest.mark.parametrize("classes", [1, 2, 45])
def test_blocks_of_few_and_of_many_classes_agree_with_the_matrix(classes):
    x, y = data_set(classes=classes)
    losses, _ = streaming_losses(x, y, 2.0, block=16)
    torch.testing.assert_close(losses, per_anchor_losses(x, y, 2.0)[0], rtol=1e-9, atol=1e-12)


def test_minimum_in_float32_is_that_of_float64():
    x, y = data_set(size=300)
    narrow, wide = (minimise_temperature(x.to(dtype), y, block=128) for dtype in (torch.float32, torch.float64))
    assert narrow.value == pytest.approx(wide.value, rel=1e-5)


@pytest.mark.parametrize("scale", [1e15, 1e19, 1e30])
def test_features_whose_squares_overflow_have_the_minimum_of_smaller_ones(scale):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    features = torch.randn(60, 5, generator=generator) + labels[:, None]
    small, large = minimise_temperature(features, labels), minimise_temperature(features * scale, labels)
    assert large.edge == small.edge == "interior"
    assert large.value == pytest.approx(small.value, rel=1e-5)
    assert large.temperature == pytest.approx(small.temperature * scale**2, rel=1e-2)


def test_sorted_labels_and_features_stay_as_they_were():
    x, y = data_set()
    kept_x, kept_y = x.clone(), y.clone()
    minimise_temperature(x, y, block=16)
    assert x.equal(kept_x)
    assert y.equal(kept_y)


def test_labels_of_another_length_are_refused():
    x, y = data_set()
    with pytest.raises(ValueError, match="labels: must be one class index per point"):
        streaming_losses(x, y[:-1], 1.0)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 0, 0]])
def test_without_anybody_to_confuse_the_minimum_is_chance_and_not_separation(labels):
    found = minimise_temperature(torch.rand(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor(labels))
    assert (found.edge, found.value, found.chance) == ("T->inf", 0.0, 0.0)


@pytest.mark.parametrize(("block", "is_kept"), [(90, True), (45, False)])
def test_the_distances_of_a_bank_of_one_block_are_computed_once_for_all_temperatures(block, is_kept, monkeypatch):
    computed = []

    def counted(*arguments, **places):
        computed.append(places)
        return distances(*arguments, **places)

    distances = streaming.block_distances
    monkeypatch.setattr(streaming, "block_distances", counted)
    minimise_temperature(*data_set(), block=block)
    assert (len(computed) == 1) is is_kept
