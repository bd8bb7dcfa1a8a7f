"""Batches of one epoch, as indices of images sampled with a generator on the host.

All batches are full; the images that are left out differ from epoch to epoch. Shapes: N images, C classes, T batches,
B images, P classes and K images per class in a batch.

>>> shuffled(10, 4, generator=torch.Generator().manual_seed(0)).shape
torch.Size([2, 4])
"""

import torch
from torch import Tensor

__all__ = ["class_balanced", "shuffled"]


def shuffled(num_images: int, batch_size: int, *, generator: torch.Generator) -> Tensor:
    """Return batches with every image at most once: indices (T, B) int64, T = max(1, N // B).

    A set smaller than one batch makes one batch of all its images.

    Raises:
        ValueError: a number below 1.
    """
    _require_positive(num_images=num_images, batch_size=batch_size)
    size = min(batch_size, num_images)
    batches = num_images // size
    return torch.randperm(num_images, generator=generator)[: batches * size].view(batches, size)


def class_balanced(
    labels_N: Tensor, *, classes_per_batch: int, images_per_class: int, generator: torch.Generator
) -> Tensor:
    """Return batches of P distinct classes, K distinct images each: indices (T, P * K) int64, T = N // (P * K).

    Images of one class are adjacent. Over an epoch a class appears in proportion to the number of its images,
    rounded at random, so each class keeps its weight in the set, in expectation exactly: this decides which
    images share a batch, not how much a class counts. Two exceptions apply. A class with more than N / P
    images would need two places in one batch: it gets one place in every batch and leaves out different images
    in every epoch, and the other classes share the remaining places in proportion. With P equal to the number
    of classes, every class appears equally often. And a class with more places than images reuses its images,
    each of them once before any twice. Otherwise an image is used at most once, and images that do not fill a
    place of K are left out.

    Raises:
        ValueError: labels that are not (N,) int64 on the host, a number below 1, fewer classes than
            `classes_per_batch`, or a class with fewer images than `images_per_class`.

    >>> labels_N = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    >>> batches_TB = class_balanced(
    ...     labels_N, classes_per_batch=2, images_per_class=2, generator=torch.Generator().manual_seed(0)
    ... )
    >>> batches_TB.shape, sorted(batches_TB.flatten().tolist()) == list(range(12))
    (torch.Size([3, 4]), True)
    """
    counts_C, first_C = _classes(labels_N, classes_per_batch, images_per_class)
    num_batches = len(labels_N) // (classes_per_batch * images_per_class)
    places_C = _places(counts_C, num_batches, classes_per_batch, generator)
    classes_TP = _schedule(places_C, num_batches, classes_per_batch, generator)
    # Shuffled within each class: a stable sort by label keeps the order of the shuffle.
    order_N = torch.randperm(len(labels_N), generator=generator)
    order_N = order_N[labels_N[order_N].argsort(stable=True)]
    # In a cyclic order, K consecutive images are always distinct, and an image repeats only after all the rest.
    place_TPK = _occurrence(classes_TP)[:, :, None] * images_per_class + torch.arange(images_per_class)
    chosen_TPK = first_C[classes_TP][:, :, None] + place_TPK % counts_C[classes_TP][:, :, None]
    return order_N[chosen_TPK].flatten(1)


def _require_positive(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"{name}: must be >= 1, got {value}")


def _classes(labels_N: Tensor, classes_per_batch: int, images_per_class: int) -> tuple[Tensor, Tensor]:
    """Return the number of images of each class, and its first index among all images sorted by label."""
    _require_positive(classes_per_batch=classes_per_batch, images_per_class=images_per_class)
    if labels_N.dim() != 1 or labels_N.dtype != torch.int64 or labels_N.device.type != "cpu":
        raise ValueError(
            f"labels: must be int64 (N,) on the host, got {labels_N.dtype} {tuple(labels_N.shape)} on {labels_N.device}"
        )
    names_C, counts_C = torch.unique(labels_N, return_counts=True)
    if len(names_C) < classes_per_batch:
        raise ValueError(
            f"classes_per_batch: must be <= {len(names_C)}, the number of classes, got {classes_per_batch}"
        )
    rarest = int(counts_C.argmin())
    if counts_C[rarest] < images_per_class:
        raise ValueError(
            f"images_per_class: must be <= {int(counts_C[rarest])}, the number of images of class "
            f"{int(names_C[rarest])}, got {images_per_class}"
        )
    return counts_C, counts_C.cumsum(0) - counts_C


def _places(counts_C: Tensor, num_batches: int, classes_per_batch: int, generator: torch.Generator) -> Tensor:
    """Return the number of batches of each class: T * P in total, at most T each, else in proportion to its images."""
    open_places, open_images = num_batches * classes_per_batch, int(counts_C.sum())
    capped_C = torch.zeros_like(counts_C, dtype=torch.bool)
    for class_ in counts_C.argsort(descending=True).tolist():
        if int(counts_C[class_]) * open_places <= num_batches * open_images:
            break
        capped_C[class_] = True
        open_places, open_images = open_places - num_batches, open_images - int(counts_C[class_])
    shares_C = _round_at_random(counts_C.where(~capped_C, 0), open_places, generator)
    return shares_C.where(~capped_C, num_batches)


def _round_at_random(weights_C: Tensor, total: int, generator: torch.Generator) -> Tensor:
    """Return integers that sum to `total`: exact shares, rounded down or up, equal to the shares in expectation."""
    whole = max(1, int(weights_C.sum()))
    order_C = torch.randperm(len(weights_C), generator=generator)
    start = torch.randint(whole, (1,), generator=generator)
    # Integers all the way: a share that is whole stays exactly that.
    ends_C = (torch.cat((torch.zeros(1, dtype=torch.int64), weights_C[order_C].cumsum(0))) * total + start) // whole
    return torch.empty_like(weights_C).scatter_(0, order_C, ends_C.diff())


def _schedule(places_C: Tensor, num_batches: int, classes_per_batch: int, generator: torch.Generator) -> Tensor:
    """Return P distinct classes for each batch, (T, P), each class as often as it has places.

    Systematic sampling without replacement: with L batches left, a class with r places left is chosen
    with probability r / L, hence surely when r = L, so no place is ever left without a batch.
    """
    left_C = places_C.clone()
    order_TC = torch.rand((num_batches, len(places_C)), generator=generator).argsort(1)
    start_T = torch.rand(num_batches, generator=generator, dtype=torch.float64)
    classes_TP = torch.empty((num_batches, classes_per_batch), dtype=torch.int64)
    steps_P = torch.arange(classes_per_batch)
    for batch in range(num_batches):
        batches_left = num_batches - batch
        ends_C = left_C[order_TC[batch]].cumsum(0)
        points_P = (start_T[batch] * batches_left).long() + steps_P * batches_left
        chosen_P = order_TC[batch][torch.searchsorted(ends_C, points_P, right=True)]
        left_C[chosen_P] -= 1
        classes_TP[batch] = chosen_P
    return classes_TP


def _occurrence(classes_TP: Tensor) -> Tensor:
    """Return the number of times that the class of each place has appeared before, (T, P)."""
    flat = classes_TP.flatten()
    by_class = flat.argsort(stable=True)
    counts_C = flat.bincount()
    begins = (counts_C.cumsum(0) - counts_C)[flat[by_class]]
    return torch.empty_like(flat).scatter_(0, by_class, torch.arange(len(flat)) - begins).view_as(classes_TP)
