"""Subsets of a training split: disjoint parts, and fractions; the same images for every trial and seed.

Images are chosen by their content, as the splits are: within each class, in the order of their hashes. So parts are
stratified, copies of an image share a part, and the validation and test splits stay whole.
"""

import torch

from trainables.data.splits import Split, piece
from trainables.errors import ConfigError, Problem

__all__ = ["subset"]


def subset(train: Split, *, fraction: float = 1.0, part: str | None = None) -> Split:
    """Return a fraction of one of N parts of a training split: `part` is I/N, counted from 1.

    Raises:
        ConfigError: a class has no image in it.

    >>> train = Split(torch.arange(40, dtype=torch.uint8).reshape(20, 1, 1, 2), torch.arange(20) % 2)
    >>> [len(subset(train, part=part)) for part in ("1/2", "2/2")], len(subset(train, fraction=0.2))
    ([10, 10], 4)
    """
    chosen = train
    if part is not None:
        number, parts = map(int, part.split("/"))
        chosen = _piece(chosen, (1 / parts,) * (parts - 1), number - 1, place="data.part", value=part)
    if fraction < 1:
        chosen = _piece(chosen, (fraction,), 0, place="data.fraction", value=fraction)
    return chosen


def _piece(whole: Split, fractions: tuple[float, ...], index: int, *, place: str, value: object) -> Split:
    before_C = whole.labels_N.bincount()
    try:
        chosen = piece(whole, fractions, index)
        after_C = chosen.labels_N.bincount(minlength=len(before_C))
    except ValueError:  # not one image
        chosen, after_C = whole, torch.zeros_like(before_C)
    lost = ((before_C > 0) & (after_C == 0)).nonzero().flatten().tolist()
    if lost:
        size, smallest = len(whole), int(before_C[before_C > 0].min())
        message = f"must leave an image of every class, got {value} of {size} images, {smallest} of the rarest class"
        raise ConfigError([Problem(place, f"{message}, which leaves none of class {lost[0]}; choose a larger share")])
    return chosen
