"""Loss of every anchor of a data set, at many temperatures, without a matrix of its pairs.

Points are sorted by label, so that most blocks of pairs hold one kind of pair only, own class or other class.
The distances of each pair of blocks are computed once and serve the anchors of both. A first pass finds each
anchor's nearest distance of each kind. Subtracting it keeps every exponential in range, at any temperature.

Shapes: N points, D features, K betas, A anchors in a block; 2 kinds of pair, own class and other class.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from trainables.snnl.closed_form import LOG2_E, kinds, losses_of, mean_of, out_of_reach, smallest_beta
from trainables.snnl.composition import Company, company
from trainables.snnl.distances import Distance, Points, block_distances, offsets, place, require_finite, require_labels
from trainables.snnl.loss import require_inverse, require_temperature
from trainables.snnl.sample import ROUNDINGS, rounding_of

__all__ = [
    "BLOCK",
    "PointBank",
    "bank_losses",
    "bank_of",
    "mean_losses",
    "nearest_of_each_kind",
    "smallest_excess",
    "streaming_losses",
]

BLOCK = 1024


class PointBank(NamedTuple):
    """Data set sorted by label, prepared for passes over its pairs; distances up to `rounding_N` count as 0.

    `kept` are the distances of a bank of one block, so that passes compute them once; None of a larger bank.
    """

    points: Points
    labels_N: Tensor
    offset_N: Tensor
    rounding_N: Tensor
    company: Company
    order_N: Tensor
    blocks: tuple["Block", ...]
    kept: tuple["KindDistances", ...] | None = None


class Block(NamedTuple):
    """Consecutive points of a bank, and their smallest and largest label."""

    place: slice
    low: int
    high: int


class KindDistances(NamedTuple):
    """Distances (A, ...) from the anchors at `place` to points of one kind; the other kind is out of reach."""

    kind: int
    place: slice
    distances_A: Tensor


def streaming_losses(
    features_ND: Tensor,
    labels_N: Tensor,
    temperature: float,
    *,
    distance: Distance = "sqeuclidean",
    block: int = BLOCK,
) -> tuple[Tensor, Tensor]:
    """Return the loss of each anchor (N,), in float64, and its validity (N,), as `per_anchor_losses`, without gradient.

    N = 50,000 by D = 512 takes minutes on two cores, and a copy of the features.

    Raises:
        ValueError: as `soft_nearest_neighbor_loss`; NaN or infinity in the features.

    >>> x, y = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64), torch.tensor([0, 1, 0])
    >>> [f"{loss:.4f}" for loss in streaming_losses(x, y, 1.0, block=2)[0]]
    ['8.0003', '0.0000', '5.0067']
    """
    require_temperature(temperature)
    require_labels(features_ND, labels_N)
    require_inverse(temperature, features_ND)
    require_finite(features_ND)
    bank = bank_of(features_ND, labels_N, distance=distance, block=block)
    losses_KN = bank_losses(bank, nearest_of_each_kind(bank), torch.tensor([1 / temperature], dtype=torch.float64))
    return torch.empty_like(losses_KN[0]).scatter_(0, bank.order_N, losses_KN[0]), company(labels_N).valid_B


@torch.no_grad()
def bank_of(features_ND: Tensor, labels_N: Tensor, *, distance: Distance, block: int = BLOCK) -> PointBank:
    """Sort and centre a data set.

    Raises:
        ValueError: labels that are not one integer per point, or an unknown distance.
    """
    require_labels(features_ND, labels_N)
    ordered_N, order_N = labels_N.sort(stable=True)
    points = place(features_ND, distance)
    rounding = rounding_of(points)
    lift_N = None if points.lift_B is None else points.lift_B[order_N]
    centred_ND = points.x_BD[order_N].sub_(points.centre_D)
    points = Points(centred_ND, torch.zeros_like(points.centre_D), distance, lift_N)
    places = [slice(start, min(start + block, len(ordered_N))) for start in range(0, len(ordered_N), block)]
    blocks = tuple(Block(at, int(ordered_N[at.start]), int(ordered_N[at.stop - 1])) for at in places)
    offset_N = offsets(points)
    rounding_N = torch.maximum(2 * ROUNDINGS * torch.finfo(offset_N.dtype).eps * offset_N, rounding)
    bank = PointBank(points, ordered_N, offset_N, rounding_N, company(ordered_N), order_N, blocks)
    return bank._replace(kept=tuple(_views(bank))) if len(blocks) == 1 else bank


@torch.no_grad()
def nearest_of_each_kind(bank: PointBank) -> Tensor:
    """Return each anchor's nearest distance to its own class and to other classes, (2, N), in the bank's order."""
    nearest_2N = torch.full_like(bank.offset_N, out_of_reach(bank.offset_N.dtype)).repeat(2, 1)
    for view in _views(bank):
        anchors_A = nearest_2N[view.kind, view.place]
        torch.minimum(anchors_A, view.distances_A.amin(1), out=anchors_A)
    return nearest_2N


@torch.no_grad()
def bank_losses(bank: PointBank, nearest_2N: Tensor, betas_K: Tensor) -> Tensor:
    """Return the loss of each anchor at each beta, (K, N) in float64, in the bank's order."""
    betas_K = betas_K.clamp_min(smallest_beta(nearest_2N.dtype))
    sums_2KN = nearest_2N.new_zeros(2, len(betas_K), nearest_2N.shape[1], dtype=torch.float64)
    for kind, at, distances_A in _views(bank):
        excess_A = distances_A - nearest_2N[kind, at, None]
        # New memory for every beta would cost more than its exponentials.
        kernel_A = torch.empty_like(excess_A)
        for k, beta in enumerate(betas_K.tolist()):
            sums_2KN[kind, k, at] += torch.mul(excess_A, -LOG2_E * beta, out=kernel_A).exp2_().sum(1)
    exponents_2KN = sums_2KN.log2() - LOG2_E * betas_K[:, None] * nearest_2N[:, None].double()
    return losses_of(exponents_2KN[0], exponents_2KN[1], bank.company)[0]


@torch.no_grad()
def smallest_excess(bank: PointBank, nearest_2N: Tensor) -> float:
    """Return the smallest distance from an anchor minus its nearest of that kind, among those above rounding."""
    smallest = math.inf
    for kind, at, distances_A in _views(bank):
        excess_A = distances_A - nearest_2N[kind, at, None]
        above_A = excess_A.where(excess_A > bank.rounding_N[at, None], math.inf)
        smallest = min(smallest, float(above_A.amin()))
    return smallest


def mean_losses(bank: PointBank, nearest_2N: Tensor, betas_K: Tensor) -> Tensor:
    """Return the mean loss over the valid anchors at each beta, (K,) in float64."""
    losses_KN = bank_losses(bank, nearest_2N, betas_K)
    return torch.stack([mean_of(losses_N, bank.company) for losses_N in losses_KN])


def _views(bank: PointBank) -> Iterator[KindDistances]:
    if bank.kept is not None:
        yield from bank.kept
        return
    for i, rows in enumerate(bank.blocks):
        for columns in bank.blocks[: i + 1]:
            distances_IJ = block_distances(bank.points, bank.offset_N, rows=rows.place, columns=columns.place)
            for kind, seen_IJ in _by_kind(distances_IJ, bank, rows, columns):
                yield KindDistances(kind, rows.place, seen_IJ)
                if rows is not columns:
                    yield KindDistances(kind, columns.place, seen_IJ.T)


def _by_kind(distances_IJ: Tensor, bank: PointBank, rows: Block, columns: Block) -> Iterator[tuple[int, Tensor]]:
    if columns.high < rows.low:
        yield 1, distances_IJ
        return
    if rows is not columns and columns.low == rows.high:
        yield 0, distances_IJ
        return
    far, dtype = out_of_reach(distances_IJ.dtype), distances_IJ.dtype
    pair = kinds(bank.labels_N[rows.place], bank.labels_N[columns.place], itself=rows is columns, dtype=dtype)
    for kind, without_IJ in enumerate(pair):
        yield kind, torch.add(distances_IJ, without_IJ, alpha=far)
