"""Batches of one epoch: what is in them, how often, and what is refused."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from trainables.data.batching import class_balanced, shuffled


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


@st.composite
def balanced_cases(draw):
    images_per_class = draw(st.integers(1, 4))
    counts = draw(st.lists(st.integers(images_per_class, 25), min_size=1, max_size=6))
    names = draw(st.permutations(range(10)))[: len(counts)]
    labels = torch.tensor(names).repeat_interleave(torch.tensor(counts))
    labels_N = labels[torch.randperm(len(labels), generator=stream(draw(st.integers(0, 99))))]
    return labels_N, draw(st.integers(1, len(counts))), images_per_class, draw(st.integers(0, 99))


def batches_of(case):
    labels_N, classes_per_batch, images_per_class, seed = case
    return class_balanced(
        labels_N, classes_per_batch=classes_per_batch, images_per_class=images_per_class, generator=stream(seed)
    )


def uses(labels_N, batches_TB, label):
    """How often each image of a class is used."""
    return batches_TB.flatten().bincount(minlength=len(labels_N))[labels_N == label]


@given(num_images=st.integers(1, 60), batch_size=st.integers(1, 70), seed=st.integers(0, 99))
def test_shuffled_batches_are_full_and_hold_every_image_at_most_once(num_images, batch_size, seed):
    batches_TB = shuffled(num_images, batch_size, generator=stream(seed))
    size = min(num_images, batch_size)
    assert batches_TB.shape == (num_images // size, size)
    assert batches_TB.dtype == torch.int64
    assert batches_TB.unique().numel() == batches_TB.numel()
    assert 0 <= batches_TB.min() <= batches_TB.max() < num_images


def test_shuffled_batches_are_the_slices_of_one_permutation():
    order_N = torch.randperm(10, generator=stream(3))
    assert torch.equal(shuffled(10, 4, generator=stream(3)), order_N[:8].view(2, 4))


@given(case=balanced_cases())
def test_class_balanced_batches_have_p_classes_of_k_distinct_images(case):
    labels_N, classes_per_batch, images_per_class, _ = case
    batches_TB = batches_of(case)
    group = classes_per_batch * images_per_class
    assert batches_TB.shape == (len(labels_N) // group, group)
    for batch in batches_TB:
        assert batch.unique().numel() == group
        names, counts = labels_N[batch].unique(return_counts=True)
        assert len(names) == classes_per_batch
        assert set(counts.tolist()) == {images_per_class}


@given(case=balanced_cases())
def test_no_image_is_used_twice_before_all_of_its_class_once(case):
    batches_TB = batches_of(case)
    for label in case[0].unique():
        used = uses(case[0], batches_TB, label)
        assert used.max() - used.min() <= 1


@given(case=balanced_cases())
def test_a_class_that_fits_is_used_in_proportion_to_its_images(case):
    labels_N, classes_per_batch, images_per_class, _ = case
    batches_TB = batches_of(case)
    counts = labels_N.bincount()
    num_batches = len(batches_TB)
    places = torch.stack([uses(labels_N, batches_TB, label).sum() for label in range(len(counts))]) // images_per_class
    share = counts * num_batches * classes_per_batch / len(labels_N)
    if share.max() <= num_batches:
        assert (places - share).abs().max() < 1
    else:
        assert places[share.argmax()] == num_batches


@given(
    groups=st.integers(1, 5), num_classes=st.integers(1, 5), images_per_class=st.integers(1, 4), seed=st.integers(0, 99)
)
def test_classes_that_fill_their_places_are_used_exactly_once(groups, num_classes, images_per_class, seed):
    labels_N = torch.arange(num_classes).repeat(groups * images_per_class)
    batches_TB = batches_of((labels_N, num_classes, images_per_class, seed))
    assert batches_TB.flatten().sort().values.tolist() == list(range(len(labels_N)))


def test_with_every_class_in_every_batch_the_rare_is_reused_and_the_frequent_left_out():
    labels_N = torch.tensor([0] * 15 + [1] * 5)
    used = [uses(labels_N, batches_of((labels_N, 2, 2, 0)), label) for label in (0, 1)]
    assert [int(counts.sum()) for counts in used] == [10, 10]
    assert used[0].max() == 1
    assert used[1].tolist() == [2] * 5


def test_what_is_left_out_differs_between_epochs():
    labels_N, generator = torch.arange(3).repeat(7), stream()
    epochs = [class_balanced(labels_N, classes_per_batch=3, images_per_class=2, generator=generator) for _ in range(9)]
    assert torch.cat([epoch.flatten() for epoch in epochs]).unique().numel() == len(labels_N)


def test_shares_are_kept_in_expectation():
    labels_N, generator = torch.tensor([0] * 7 + [1] * 8 + [2] * 10), stream()
    uses_C = sum(
        labels_N[class_balanced(labels_N, classes_per_batch=2, images_per_class=3, generator=generator)]
        .flatten()
        .bincount(minlength=3)
        for _ in range(400)
    )
    torch.testing.assert_close(uses_C / uses_C.sum(), torch.tensor([7, 8, 10]) / 25, rtol=0, atol=0.01)


@settings(max_examples=20)
@given(case=balanced_cases())
def test_equal_generators_give_equal_batches(case):
    assert torch.equal(batches_of(case), batches_of(case))


@pytest.mark.parametrize(
    ("labels", "classes_per_batch", "images_per_class", "message"),
    [
        (
            [0, 0, 7, 1, 1],
            2,
            2,
            r"images_per_class: must be <= 1, the number of images of class 7, got 2",
        ),
        ([0, 0, 1, 1], 3, 1, r"classes_per_batch: must be <= 2, the number of classes, got 3"),
        ([0, 0], 0, 1, r"classes_per_batch: must be >= 1, got 0"),
        ([0, 0], 1, 0, r"images_per_class: must be >= 1, got 0"),
        ([[0, 0]], 1, 1, r"labels: must be int64 \(N,\) on the host, got torch\.int64 \(1, 2\)"),
        ([0.0, 0.0], 1, 1, r"labels: must be int64 \(N,\) on the host, got torch\.float32"),
    ],
)
def test_what_cannot_be_balanced_is_refused(labels, classes_per_batch, images_per_class, message):
    with pytest.raises(ValueError, match=message):
        batches_of((torch.tensor(labels), classes_per_batch, images_per_class, 0))


@pytest.mark.parametrize(("num_images", "batch_size", "name"), [(0, 4, "num_images"), (4, 0, "batch_size")])
def test_an_empty_epoch_is_refused(num_images, batch_size, name):
    with pytest.raises(ValueError, match=f"{name}: must be >= 1, got 0"):
        shuffled(num_images, batch_size, generator=stream())
