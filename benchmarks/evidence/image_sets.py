"""Disjoint sets of test images: a value of each of them says how much it depends on the images."""

import torch

from trainables.data import Split


def image_sets(test: Split, *, count: int, size: int) -> list[Split]:
    """Return disjoint sets of images, in each of them equally many of every class, in the order of the split.

    Raises:
        ValueError: too few images of a class.

    >>> test = Split(torch.zeros(8, 1, 1, 1, dtype=torch.uint8), torch.arange(8) % 2)
    >>> [one.labels_N.tolist() for one in image_sets(test, count=2, size=4)]
    [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    labels = test.labels_N.unique()
    each = size // len(labels)
    places = [(test.labels_N == label).nonzero().flatten() for label in labels]
    if (fewest := min(map(len, places))) < count * each:
        raise ValueError(f"images: must be {count} x {each} of each class, got {fewest} of the rarest one")
    return [
        test.take(torch.cat([own[number * each : (number + 1) * each] for own in places])) for number in range(count)
    ]
