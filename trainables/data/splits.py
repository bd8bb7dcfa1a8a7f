"""Splits of a data set, and the rule that makes them.

The rule uses an image's content, not its place in a file: the images of each class are sorted by their
hash and cut at fixed fractions. So the splits do not depend on the order of the source, and copies of an
image are always in the same split, whatever their labels.
Shapes: N images, C channels, H by W pixels.
"""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["Parts", "Split", "Splits", "cut", "partition", "piece"]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images (N, C, H, W) uint8 and labels (N,) int64.

    Raises:
        ValueError: other types or shapes, no image, or unequal lengths.
    """

    images_NCHW: Tensor
    labels_N: Tensor

    def __post_init__(self) -> None:
        if self.images_NCHW.dtype != torch.uint8 or self.images_NCHW.dim() != 4:
            raise ValueError(
                f"images: must be uint8 (N, C, H, W), got {self.images_NCHW.dtype} {tuple(self.images_NCHW.shape)}"
            )
        if self.labels_N.dtype != torch.int64 or self.labels_N.shape != self.images_NCHW.shape[:1]:
            raise ValueError(
                f"labels: must be int64 ({len(self.images_NCHW)},), got {self.labels_N.dtype} "
                f"{tuple(self.labels_N.shape)}"
            )
        if not len(self.labels_N):
            raise ValueError("images: must hold at least one image, got 0")

    def __len__(self) -> int:
        return len(self.labels_N)

    def to(self, device: torch.device | str) -> "Split":
        """Return the same split on `device`."""
        return Split(self.images_NCHW.to(device), self.labels_N.to(device))

    def pixel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation of each channel, for pixels in [0, 1]; exact, from counts.

        >>> images = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
        >>> Split(images, torch.tensor([0, 1])).pixel_statistics()
        ((0.5,), (0.5,))
        """
        channels = self.images_NCHW.transpose(0, 1).flatten(1)
        counts_CV = torch.stack([channel.bincount(minlength=256) for channel in channels]).double()
        values_V = torch.arange(256, dtype=torch.float64, device=counts_CV.device) / 255
        weights_CV = counts_CV / counts_CV.sum(1, keepdim=True)
        mean_C = weights_CV @ values_V
        std_C = (weights_CV * (values_V - mean_C[:, None]).square()).sum(1).sqrt()
        return tuple(mean_C.tolist()), tuple(std_C.tolist())

    def take(self, indices: Tensor) -> "Split":
        """Return the images at these indices, in this order."""
        return Split(self.images_NCHW[indices], self.labels_N[indices])


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Training and validation split, which are all the images that a trial may use."""

    train: Split
    val: Split
    num_classes: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of an image."""
        channels, height, width = self.train.images_NCHW.shape[1:]
        return channels, height, width


class Parts(NamedTuple):
    """All splits of a source: two that a trial may use, and the test split for finished trials only.

    `classes` are the names of the labels; empty where the set is published, and its names are known.
    """

    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...] = ()


def cut(published_train: Split, test: Split) -> Parts:
    """Cut the published training set 5 to 1 by content, as MNIST's 60,000 into 50,000 and 10,000; keep the test set."""
    train, val = partition(published_train, (5 / 6,))
    return Parts(train, val, test)


def partition(whole: Split, fractions: tuple[float, ...]) -> tuple[Split, ...]:
    """Cut into consecutive, stratified parts; the last part takes the rest.

    Each part is ordered by content, so equal sources give equal tensors.

    Raises:
        ValueError: fractions that are not positive or leave nothing.

    >>> images = torch.arange(40, dtype=torch.uint8).reshape(20, 1, 1, 2)
    >>> parts = partition(Split(images, torch.arange(20) % 2), (0.5, 0.25))
    >>> [len(part) for part in parts]
    [10, 5, 5]
    """
    order_N, part_N = _ordered_parts(whole, fractions)
    return tuple(whole.take(torch.from_numpy(order_N[part_N == part])) for part in range(len(fractions) + 1))


def piece(whole: Split, fractions: tuple[float, ...], index: int) -> Split:
    """Return one of the parts of `partition`, where other parts may be empty.

    Raises:
        ValueError: as `partition`, or this part is empty.
    """
    order_N, part_N = _ordered_parts(whole, fractions)
    return whole.take(torch.from_numpy(order_N[part_N == index]))


def _ordered_parts(whole: Split, fractions: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of images in the order of their content, and the part of each in this order."""
    if not all(fraction > 0 for fraction in fractions) or not sum(fractions) < 1:
        raise ValueError(f"fractions: must be > 0 and sum to less than 1, got {fractions}")
    digests_N = _digests(whole.images_NCHW)
    labels_N = whole.labels_N.numpy()
    order_N = np.lexsort((labels_N, digests_N))
    return order_N, _parts(digests_N[order_N], labels_N[order_N], fractions)


def _digests(images_NCHW: Tensor) -> np.ndarray:
    rows_ND = images_NCHW.contiguous().numpy().reshape(len(images_NCHW), -1)
    return np.array([hashlib.blake2b(row.tobytes(), digest_size=16).hexdigest() for row in rows_ND])


def _parts(digests_N: np.ndarray, labels_N: np.ndarray, fractions: tuple[float, ...]) -> np.ndarray:
    """Return the part of each image, for images sorted by digest, then label; copies share a part."""
    # The stratum of copies under several labels is the smallest of these, which the order puts first.
    _, first_U, copy_of_N = np.unique(digests_N, return_index=True, return_inverse=True)
    strata_U = labels_N[first_U]
    by_stratum_U = np.argsort(strata_U, kind="stable")
    cuts = np.cumsum(fractions)
    part_U = np.empty(len(first_U), dtype=np.int64)
    offset = 0
    for size in np.unique(strata_U, return_counts=True)[1]:
        # Rounding where strata begin and end, not their sizes, keeps the total of each part exact.
        ends = np.maximum.accumulate(np.round((offset + size) * cuts) - np.round(offset * cuts))
        part_U[by_stratum_U[offset : offset + size]] = np.searchsorted(ends, np.arange(size), side="right")
        offset += size
    return part_U[copy_of_N]
