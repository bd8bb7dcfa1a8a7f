"""Exact nearest neighbours in a bank of representations, cosine or squared Euclidean, in bounded memory.

A matrix product finds candidates. Distances in float64 order them, and prove that no other row can be nearer; without
that proof, every row is measured. Of equal distances, the smaller bank index comes first.

A row of zeros (every unit dead) has no direction: its cosine with any row is 0, so its distance to all
is 1 and its neighbours are the first rows of the bank.

Shapes: M bank rows, Q queries, D features, k neighbours, C candidates.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

from trainables.seeding import generator
from trainables.snnl import Distance
from trainables.snnl.distances import full_precision

__all__ = ["NeighbourBank", "Neighbours", "Sketch", "nearest"]

_SQUARED_LENGTH_OF_A_DEAD_ROW = 1e-12
_SLACK = 32
_QUERY_ROWS, _BANK_ROWS = 256, 8192
_NUMBERS_AT_ONCE = 2**22
# Few numbers a row are multiplied in float64, which is cheap for them: in float32, 1 - cosine of logits, nearly
# parallel within a class, is lost in rounding, and every row would have to be measured.
_COLUMNS_IN_FLOAT64 = 256


class Neighbours(NamedTuple):
    """NeighbourBank indices (Q, k), nearest first, and their distances (Q, k) in float64: squared, or 1 - cosine."""

    indices_Qk: Tensor
    distances_Qk: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """A random projection to `width` numbers: each sums the columns of one bucket, with random signs.

    Inner products are kept in expectation, with a variance of at most 2 / width of the squared lengths'
    product, as for Gaussian projections, at the cost of one pass (the count sketch; Weinberger et al.,
    ICML 2009).
    """

    columns_D: Tensor
    signs_D: Tensor
    width: int

    @classmethod
    def draw(cls, columns: int, *, width: int, seed: int, device: torch.device | str = "cpu") -> Self:
        """Sample buckets and signs for this many columns.

        Raises:
            ValueError: width not between 1 and columns.
        """
        if not 1 <= width <= columns:
            raise ValueError(f"width: must be between 1 and the {columns} columns, got {width}")
        source = generator(seed, f"sketch {columns} to {width}")
        order_D = torch.randperm(columns, generator=source)
        signs_D = torch.randint(2, (columns,), generator=source) * 2.0 - 1.0
        return cls(order_D.to(device), signs_D.to(device), width)

    def __call__(self, x_BD: Tensor) -> Tensor:
        """Project to rows of `width` numbers; differentiable.

        >>> sketch = Sketch.draw(8, width=4, seed=0)
        >>> sketch(torch.eye(8)).abs().sum(0).tolist()
        [2.0, 2.0, 2.0, 2.0]
        """
        mixed_BD = x_BD.index_select(1, self.columns_D) * self.signs_D
        whole_BD = functional.pad(mixed_BD, (0, -len(self.columns_D) % self.width))
        return whole_BD.reshape(len(x_BD), -1, self.width).sum(1)


@dataclass(frozen=True, slots=True, eq=False)
class NeighbourBank:
    """Rows of a nearest-neighbour search, as `placed` makes them; float32, or float64 if the features are.

    >>> bank = NeighbourBank.of(torch.tensor([[0.0], [2.0], [5.0], [2.0]]), distance="sqeuclidean")
    >>> nearest(bank, torch.tensor([[1.0]]), k=3).indices_Qk.tolist()
    [[0, 1, 3]]
    """

    rows_MD: Tensor
    distance: Distance
    sketch: Sketch | None

    @classmethod
    def of(cls, features_MX: Tensor, *, distance: Distance, sketch: Sketch | None = None) -> Self:
        """Return the bank of these representations; they may have any axes after the first."""
        return cls(placed(features_MX, distance=distance, sketch=sketch), distance, sketch)

    def __len__(self) -> int:
        return len(self.rows_MD)

    def place(self, features_QX: Tensor) -> Tensor:
        """Convert representations to rows that are comparable with the bank's; differentiable."""
        return placed(features_QX, distance=self.distance, sketch=self.sketch)

    def take(self, indices: Tensor) -> "NeighbourBank":
        """Return a bank of the rows at these indices, in this order."""
        return NeighbourBank(self.rows_MD[indices], self.distance, self.sketch)


def placed(features_BX: Tensor, *, distance: Distance, sketch: Sketch | None = None) -> Tensor:
    """Flatten the features to rows of at least float32, projected, of unit length for cosine; differentiable.

    Raises:
        ValueError: an unknown distance, or a number that is not finite.
    """
    if distance not in {"cosine", "sqeuclidean"}:
        raise ValueError(f"distance: must be 'sqeuclidean' or 'cosine', got {distance!r}")
    x_BD = features_BX.flatten(1)
    x_BD = x_BD if x_BD.dtype == torch.float64 else x_BD.float()
    if not bool(x_BD.isfinite().all()):
        raise ValueError("features: must be finite to have neighbours, got NaN or infinity; check the model's weights")
    x_BD = x_BD if sketch is None else sketch(x_BD)
    return _unit_rows(x_BD) if distance == "cosine" else x_BD


@torch.no_grad()
def nearest(bank: NeighbourBank, features_QX: Tensor, *, k: int) -> Neighbours:
    """Find the k nearest rows of each query, in chunks of queries and of the bank.

    Raises:
        ValueError: k not between 1 and the size of the bank; other numbers of features; a value not finite.
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f"k: must be between 1 and the {len(bank)} rows of the bank, got {k}")
    queries_QD = bank.place(features_QX)
    if queries_QD.shape[1] != bank.rows_MD.shape[1]:
        raise ValueError(f"features: must have {bank.rows_MD.shape[1]} numbers a row, got {queries_QD.shape[1]}")
    with full_precision(queries_QD.device):
        search = _NeighbourSearch.in_bank(bank)
        parts = [search.chunk(chunk_QD, k=k) for chunk_QD in torch.split(queries_QD, _QUERY_ROWS)]
    return Neighbours(torch.cat([part.indices_Qk for part in parts]), torch.cat([part.distances_Qk for part in parts]))


@dataclass(frozen=True, slots=True, eq=False)
class _NeighbourSearch:
    bank: NeighbourBank
    centre_D: Tensor
    squares_M: Tensor
    dtype: torch.dtype

    @classmethod
    def in_bank(cls, bank: NeighbourBank) -> Self:
        rows_MD = bank.rows_MD
        dtype = torch.float64 if rows_MD.shape[1] <= _COLUMNS_IN_FLOAT64 else rows_MD.dtype
        # Cosine needs no centre; without one, differences of close rows drown in the size of their squares.
        centre_D = rows_MD.mean(0) if bank.distance == "sqeuclidean" else rows_MD.new_zeros(rows_MD.shape[1])
        parts = torch.split(rows_MD, _BANK_ROWS)
        squares_M = torch.cat([(part.to(dtype) - centre_D).square().sum(1) for part in parts])
        return cls(bank, centre_D, squares_M, dtype)

    def chunk(self, queries_QD: Tensor, *, k: int) -> Neighbours:
        count = min(k + _SLACK, len(self.bank))
        keys_QC = self._candidates(queries_QD, count=count)
        indices_QC = (keys_QC & 0xFFFFFFFF).sort(1).values
        result = _ordered(indices_QC, self._measured(queries_QD, indices_QC), k=k)
        if count == len(self.bank):
            return result
        furthest_Q = _distances_in(keys_QC[:, -1])
        settled_Q = result.distances_Qk[:, -1] + self._tolerance(queries_QD, furthest_Q) < furthest_Q
        for query in (~settled_Q).nonzero()[:, 0].tolist():
            result.indices_Qk[query], result.distances_Qk[query] = self._among_all(queries_QD[query], k=k)
        return result

    def _candidates(self, queries_QD: Tensor, *, count: int) -> Tensor:
        """Return approximate distance (high bits) and bank index (low bits) of the nearest rows, sorted, (Q, C)."""
        centred_QD = queries_QD.to(self.dtype) - self.centre_D
        squares_Q = centred_QD.square().sum(1, keepdim=True)
        best_QC = torch.empty(len(queries_QD), 0, dtype=torch.int64, device=queries_QD.device)
        for start in range(0, len(self.bank), _BANK_ROWS):
            rows = slice(start, start + _BANK_ROWS)
            products_QM = centred_QD @ (self.bank.rows_MD[rows].to(self.dtype) - self.centre_D).T
            if self.bank.distance == "cosine":
                distances_QM = 1 - products_QM
            else:
                distances_QM = squares_Q + self.squares_M[rows] - 2 * products_QM
            indices_M = torch.arange(start, start + distances_QM.shape[1], device=queries_QD.device)
            keys_QM = (_bits(distances_QM) << 32) | indices_M
            best_QC = torch.cat([best_QC, _smallest(keys_QM, count)], dim=1)
            best_QC = _smallest(best_QC, count)
        return best_QC

    def _measured(self, queries_QD: Tensor, indices_QC: Tensor) -> Tensor:
        """Return distances (Q, C) in float64, the same for equal rows."""
        step = max(1, _NUMBERS_AT_ONCE // (indices_QC.shape[1] * queries_QD.shape[1]))
        chunks = zip(torch.split(queries_QD, step), torch.split(indices_QC, step), strict=True)
        return torch.cat([self._between(x_QD[:, None], self.bank.rows_MD[i_QC]) for x_QD, i_QC in chunks])

    def _among_all(self, query_D: Tensor, *, k: int) -> tuple[Tensor, Tensor]:
        if self.bank.distance == "cosine" and not bool(query_D.any()):
            return torch.arange(k, device=query_D.device), query_D.new_ones(k, dtype=torch.float64)
        step = max(1, _NUMBERS_AT_ONCE // len(query_D))
        distances_M = torch.cat([self._between(query_D, part) for part in torch.split(self.bank.rows_MD, step)])
        ordered = distances_M.sort(stable=True)
        return ordered.indices[:k], ordered.values[:k]

    def _between(self, query_D: Tensor, rows_CD: Tensor) -> Tensor:
        if self.bank.distance == "cosine":
            return 1 - (query_D.double() * rows_CD).sum(-1)
        return (query_D.double() - rows_CD).square_().sum(-1)

    def _tolerance(self, queries_QD: Tensor, furthest_Q: Tensor) -> Tensor:
        """Bound the error of a candidate's distance: rounding errors of a product grow as the root of its length."""
        squares_Q = (queries_QD.to(self.dtype) - self.centre_D).square().sum(1).double()
        product = 4 * torch.finfo(self.dtype).eps * math.sqrt(queries_QD.shape[1])
        return product * (squares_Q + self.squares_M.max()) + torch.finfo(torch.float32).eps * furthest_Q


def _ordered(indices_QC: Tensor, distances_QC: Tensor, *, k: int) -> Neighbours:
    """Sort by distance; the indices must be in ascending order, which breaks ties."""
    ordered = distances_QC.sort(dim=1, stable=True)
    return Neighbours(indices_QC.gather(1, ordered.indices[:, :k]), ordered.values[:, :k].clone())


def _smallest(keys_QC: Tensor, count: int) -> Tensor:
    return keys_QC.topk(min(count, keys_QC.shape[1]), dim=1, largest=False).values


def _bits(distances: Tensor) -> Tensor:
    """Return integers in the order of the distances; `abs` because the bits of -0 would come before those of 0."""
    return distances.clamp_min(0).abs().float().view(torch.int32).to(torch.int64)


def _distances_in(keys: Tensor) -> Tensor:
    distances: Tensor = (keys >> 32).to(torch.int32).view(torch.float32).double()
    return distances


def _unit_rows(x_BD: Tensor) -> Tensor:
    squares_B1 = x_BD.square().sum(1, keepdim=True)
    alive_B1 = squares_B1 > _SQUARED_LENGTH_OF_A_DEAD_ROW
    # The length of a dead row is replaced by one, because the infinite slope of rsqrt at 0 would poison its gradient.
    unit_BD: Tensor = x_BD * squares_B1.where(alive_B1, 1).rsqrt().where(alive_B1, 0)
    return unit_BD
