"""Logits of a whole split, and fixed subsets of it. Shapes: N images, K classes."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from trainables.attacks import evaluating
from trainables.data import Split

__all__ = ["as_pixels", "balanced_subset", "batches", "left_out", "logits", "within"]

BATCH_SIZE = 256
"""Images in a pass: on a CPU, passes of 1,024 take 1.4 times as long, as their activations leave its cache."""


def as_pixels(images_NCHW: Tensor) -> Tensor:
    """Convert uint8 images to float32 in [0, 1].

    >>> as_pixels(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist()
    [0.0, 0.20000000298023224, 1.0]
    """
    return images_NCHW.to(torch.float32).div_(255)


def batches(split: Split, *, size: int = BATCH_SIZE) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pixels in [0, 1] and labels of consecutive batches; the last one may be smaller."""
    for images, labels in zip(torch.split(split.images_NCHW, size), torch.split(split.labels_N, size), strict=True):
        yield as_pixels(images), labels


@torch.no_grad()
def logits(model: nn.Module, split: Split) -> Tensor:
    """Return logits (N, K), in eval mode and outside autocast."""
    with evaluating(model), torch.autocast(split.labels_N.device.type, enabled=False):
        return torch.cat([model(x) for x, _ in batches(split)])


def balanced_subset(split: Split, *, size: int) -> Split:
    """Return the first images of each class in round-robin order: at most `size`, equally many per class within one.

    The images are the same for every trial, so results can be compared pairwise. They are fewer than `size` if the
    rarest class has no more.

    >>> images = torch.zeros(6, 1, 1, 1, dtype=torch.uint8)
    >>> balanced_subset(Split(images, torch.tensor([0, 0, 0, 0, 1, 1])), size=5).labels_N.tolist()
    [0, 1, 0, 1]
    """
    labels_N = split.labels_N
    own_NK = torch.nn.functional.one_hot(labels_N)
    counts_K = own_NK.sum(0)
    counts_K = counts_K[counts_K > 0]
    rank_N = own_NK.cumsum(0).gather(1, labels_N[:, None])[:, 0]
    order_N = (rank_N * own_NK.shape[1] + labels_N).argsort()
    return split.take(order_N[: min(size, int(counts_K.min()) * len(counts_K))])


def within(split: Split, images: int | None, *, name: str = "test") -> tuple[Split, tuple[str, ...]]:
    """Return the split, or a class-balanced subset of at most `images` images and a line that says so.

    >>> whole = Split(torch.zeros(6, 1, 1, 1, dtype=torch.uint8), torch.tensor([0, 0, 0, 0, 1, 1]))
    >>> within(whole, 3)[1], within(whole, 6)[1]
    (('test: 3 of 6 images, class-balanced',), ())
    """
    if images is None or images >= len(split):
        return split, ()
    subset = balanced_subset(split, size=images)
    return subset, left_out(subset, split, name=name)


def left_out(subset: Split, split: Split, *, name: str = "test") -> tuple[str, ...]:
    """Return a line with the size of a class-balanced subset; no line if it is the whole split."""
    return () if len(subset) == len(split) else (f"{name}: {len(subset)} of {len(split)} images, class-balanced",)
