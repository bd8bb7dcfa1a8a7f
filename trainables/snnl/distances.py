"""Distances within a batch: d_ij = a_i + a_j - c <x_i - m, x_j - m>, with m the mean of the batch.

Squared Euclidean: c = 2, and a_i = |x_i - m|^2. Cosine: rows of unit length, c = 1, and a_i = |x_i - m|^2 / 2, because
1 - <u, v> = |u - v|^2 / 2. Nearly parallel rows are all near m: 1 - <u, v> would lose as many digits as they share.
A dead row, of length 0, has 1/2 more. Everything is computed in float32 or float64, outside autocast and
without the matrix units' shorter formats: the error of a bfloat16 distance exceeds differences of neighbours.

Shapes: B points, D features; I and J are blocks of points.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor

from trainables.errors import short_repr

__all__ = [
    "Distance",
    "Points",
    "block_distances",
    "differentiable_distances",
    "distances_of",
    "full_precision",
    "offsets",
    "pairwise_distances",
    "place",
    "require_finite",
    "require_labels",
    "require_pair",
    "require_rows",
    "widened",
    "widened_dtype",
]

Distance = Literal["sqeuclidean", "cosine"]

# A row shorter than this has no direction: cosine treats it as unlike every row, with no gradient.
_SQUARED_LENGTH_OF_A_DEAD_ROW = 1e-12
# Numbers in a chunk of centred features, which avoids a second copy of the batch. On an accelerator, starting a
# product costs more than the memory of a large one.
_CPU_CHUNK_NUMBERS, _CHUNK_NUMBERS = 2**20, 2**24
# Rows of the Gram matrix computed at once, up to the diagonal; the other half is the transpose.
_GRAM_ROWS = 256


class Points(NamedTuple):
    """Batch prepared for distances: rows in float32 or float64 (of unit length for cosine), and m.

    `lift_B` is added to the a of each row; None for none.
    """

    x_BD: Tensor
    centre_D: Tensor
    distance: Distance
    lift_B: Tensor | None = None

    @property
    def factor(self) -> float:
        """Factor c of d_ij = a_i + a_j - c <x_i - m, x_j - m>."""
        return 2.0 if self.distance == "sqeuclidean" else 1.0

    def detached(self) -> Self:
        """Return the same points, without gradient."""
        return self._replace(x_BD=self.x_BD.detach())

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield centred columns in chunks, without gradient; each chunk overwrites the previous one."""
        x_BD = self.x_BD.detach()
        numbers = _CPU_CHUNK_NUMBERS if x_BD.device.type == "cpu" else _CHUNK_NUMBERS
        width = max(256, numbers // max(len(x_BD), 1))
        chunk_BC = torch.empty_like(x_BD[:, :width], memory_format=torch.contiguous_format)
        for start in range(0, x_BD.shape[1], width):
            part_BC = x_BD[:, start : start + width]
            columns = slice(start, start + part_BC.shape[1])
            yield columns, torch.sub(part_BC, self.centre_D[columns], out=chunk_BC[:, : part_BC.shape[1]])


def place(features_BD: Tensor, distance: Distance) -> Points:
    """Flatten, widen, and compute the centre; differentiable in the features.

    Raises:
        ValueError: an unknown distance.
    """
    x_BD = widened(features_BD)
    if distance == "cosine":
        x_BD, alive_B = _unit_rows(x_BD)
        return Points(x_BD, x_BD.detach().mean(0), distance, torch.where(alive_B, 0.0, 0.5).to(x_BD.dtype))
    if distance != "sqeuclidean":
        raise ValueError(f"distance: must be 'sqeuclidean' or 'cosine', got {short_repr(distance)}")
    return Points(x_BD, x_BD.detach().mean(0), distance)


def pairwise_distances(points: Points) -> Tensor:
    """Return all distances, (B, B), without gradient.

    >>> pairwise_distances(place(torch.tensor([[0.0], [1.0], [3.0]]), "sqeuclidean")).tolist()
    [[0.0, 1.0, 9.0], [1.0, 0.0, 4.0], [9.0, 4.0, 0.0]]
    """
    size = len(points.x_BD)
    with torch.no_grad(), full_precision(points.x_BD.device):
        lower_BB = points.x_BD.new_zeros(size, size)
        for _, x_BC in points.chunks():
            for start in range(0, size, _GRAM_ROWS):
                rows, upto = slice(start, start + _GRAM_ROWS), min(start + _GRAM_ROWS, size)
                lower_BB[rows, :upto].addmm_(x_BC[rows], x_BC[:upto].T)
        products_BB = lower_BB.tril_() + lower_BB.tril(-1).T
        offset_B = _offset(products_BB.diagonal().clone(), points)
        return products_BB.mul_(-points.factor).add_(offset_B[:, None]).add_(offset_B).clamp_min_(0)


def block_distances(points: Points, offset_B: Tensor, *, rows: Tensor | slice, columns: slice) -> Tensor:
    """Return distances from the points `rows` to the points `columns`, (I, J), without gradient; see `offsets`."""
    with torch.no_grad(), full_precision(points.x_BD.device):
        x_ID, x_JD = points.x_BD[rows] - points.centre_D, points.x_BD[columns] - points.centre_D
        distances_IJ = torch.addmm(offset_B[None, columns], x_ID, x_JD.T, alpha=-points.factor)
        return distances_IJ.add_(offset_B[rows, None]).clamp_min_(0)


def offsets(points: Points) -> Tensor:
    """Return the a of d_ij = a_i + a_j - c <x_i - m, x_j - m>, (B,), without gradient."""
    with torch.no_grad(), full_precision(points.x_BD.device):
        squares_B = points.x_BD.new_zeros(len(points.x_BD))
        for _, x_BC in points.chunks():
            squares_B += torch.linalg.vecdot(x_BC, x_BC)
        return _offset(squares_B, points)


def differentiable_distances(features_BD: Tensor, distance: Distance) -> Tensor:
    """Return all distances, (B, B), through autograd.

    Raises:
        ValueError: an unknown distance.
    """
    return distances_of(place(features_BD, distance))


def distances_of(points: Points) -> Tensor:
    """Return all distances, (B, B), through autograd; a centre without gradient does not change them."""
    with full_precision(points.x_BD.device):
        x_BD = points.x_BD - points.centre_D
        offset_B = _offset(x_BD.square().sum(1), points)
        return (offset_B[:, None] + offset_B - points.factor * x_BD @ x_BD.T).clamp_min(0)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Keep all bits of float32 in matrix products of the block, whatever autocast and the process set."""
    allowed = torch.get_float32_matmul_precision()
    with torch.autocast(device.type, enabled=False):
        if allowed == "highest":
            yield
            return
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(allowed)


def require_labels(features_BD: Tensor, labels_B: Tensor) -> None:
    """Reject labels that are not one class index per point, and features without rows of real numbers.

    Raises:
        ValueError: they are not.
    """
    require_rows(features_BD)
    if labels_B.dtype == torch.bool or labels_B.is_complex():
        raise ValueError(f"labels: must be class indices, got {labels_B.dtype}; convert them with labels.long()")
    if labels_B.shape != features_BD.shape[:1]:
        raise ValueError(
            f"labels: must be one class index per point, got shape {tuple(labels_B.shape)} "
            f"for features of shape {tuple(features_BD.shape)}; take argmax of one-hot labels"
        )


def require_rows(features_BD: Tensor) -> None:
    """Reject features that are no rows of real numbers; values are not looked at, as the host would wait.

    Raises:
        ValueError: no dimension of features, no points, or complex numbers.
    """
    if features_BD.dim() < 2:
        raise ValueError(
            f"features: must have a row per point, got shape {tuple(features_BD.shape)}; "
            "of one number per point, take features[:, None]"
        )
    if features_BD.is_complex():
        raise ValueError(f"features: must be real, got {features_BD.dtype}; take torch.view_as_real(features)")
    if len(features_BD) == 0:
        raise ValueError("features: must be at least 1 point, got an empty batch")


def require_finite(features_ND: Tensor) -> None:
    """Reject features with NaN or infinity, for analyses that read values anyway.

    Raises:
        ValueError: at least one number is not finite.
    """
    wrong_N = ~features_ND.flatten(1).isfinite().all(1)
    if bool(wrong_N.any()):
        raise ValueError(
            f"features: must be finite to have distances, got NaN or infinity in {int(wrong_N.sum())} of "
            f"{len(wrong_N)} rows; check the model's weights"
        )


def require_pair(features_BD: Tensor) -> None:
    """Reject a single point, which has no neighbour and so no scale.

    Raises:
        ValueError: fewer than two points.
    """
    if len(features_BD) < 2:
        raise ValueError(f"features: must be at least 2 points to have neighbours, got {len(features_BD)}")


def widened(features_BD: Tensor) -> Tensor:
    """Return one row per point, in float32 or float64."""
    return features_BD.flatten(1).to(widened_dtype(features_BD))


def widened_dtype(features_BD: Tensor) -> torch.dtype:
    """Return the precision of distances between these features."""
    return torch.float64 if features_BD.dtype == torch.float64 else torch.float32


def _unit_rows(x_BD: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows of unit length, 0 for a dead row, and which are alive, (B,)."""
    squares_B = x_BD.square().sum(1, keepdim=True)
    alive_B = squares_B > _SQUARED_LENGTH_OF_A_DEAD_ROW
    # Use 1 for a dead row's length, because the infinite slope of rsqrt at 0 would make its gradient NaN.
    return x_BD * squares_B.where(alive_B, 1).rsqrt().where(alive_B, 0), alive_B[:, 0]


def _offset(squares_B: Tensor, points: Points) -> Tensor:
    offset_B = squares_B if points.distance == "sqeuclidean" else squares_B / 2
    return offset_B if points.lift_B is None else offset_B + points.lift_B
