"""Spectra of activations: singular values, and numbers that summarise them.

Shapes: N images, D units of a tap, R singular values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Flatness", "Spectrum", "flatness", "singular_values"]

_COLUMNS = 8192


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Singular values, largest first; ratios of values that are all 0 are NaN.

    >>> spectrum = Spectrum((3.0, 1.0, 0.0))
    >>> spectrum.sigma_1, spectrum.sum_rest, spectrum.rest_fraction
    (3.0, 1.0, 0.25)
    >>> f"{spectrum.participation_ratio:.4f} {spectrum.effective_rank:.4f}"
    '1.2195 1.7548'
    >>> f"{Spectrum((2.0, 2.0)).effective_rank:.3f}"
    '2.000'
    >>> spectrum.shares_R, spectrum.top_share(2)
    ((0.75, 0.25, 0.0), 1.0)
    """

    values_R: tuple[float, ...]

    @property
    def sigma_1(self) -> float:
        """Largest value."""
        return self.values_R[0]

    @property
    def sum_rest(self) -> float:
        """Sum of all values but the largest."""
        return math.fsum(self.values_R[1:])

    @property
    def rest_fraction(self) -> float:
        """Share of all values but the largest in the sum of all."""
        return self.sum_rest / self._sum if self._sum else math.nan

    @property
    def shares_R(self) -> tuple[float, ...]:  # noqa: N802 - the shape
        """Normalised spectrum: the share of each value in the sum of all, free of the scale of the activations."""
        return tuple(value / self._sum if self._sum else math.nan for value in self.values_R)

    def top_share(self, count: int) -> float:
        """Return the share of the `count` largest values in the sum of all; 1 if there are no more."""
        return math.fsum(self.values_R[:count]) / self._sum if self._sum else math.nan

    @property
    def participation_ratio(self) -> float:
        """(sum s^2)^2 / sum s^4: the number of directions, weighted by their variance."""
        if not self._sum:
            return math.nan
        shares = [(value / self.sigma_1) ** 2 for value in self.values_R]
        return math.fsum(shares) ** 2 / math.fsum(share**2 for share in shares)

    @property
    def effective_rank(self) -> float:
        """Exponential of the entropy of s / sum s (Roy and Vetterli, 2007)."""
        if not self._sum:
            return math.nan
        shares = [value / self._sum for value in self.values_R if value > 0]
        return math.exp(-math.fsum(share * math.log(share) for share in shares))

    @property
    def _sum(self) -> float:
        return math.fsum(self.values_R)


@dataclass(frozen=True, slots=True)
class Flatness:
    """Spectra of some activations, divided by the root of their number.

    row_norm: the mean norm of an activation, which the values grow with.
    """

    uncentred: Spectrum
    centred: Spectrum
    row_norm: float


def flatness(rows_ND: Tensor) -> Flatness:
    """Return both spectra of some activations, divided by sqrt(N).

    >>> flat = flatness(torch.tensor([[3.0, 0.0], [3.0, 0.0], [3.0, 0.0], [3.0, 0.0]]))
    >>> flat.uncentred.sigma_1, flat.centred.sigma_1, flat.row_norm
    (3.0, 0.0, 3.0)
    """
    root = math.sqrt(len(rows_ND))
    plain_R, centred_R = singular_values(rows_ND)
    norm = float(torch.linalg.vector_norm(rows_ND, dim=1, dtype=torch.float64).mean())
    return Flatness(Spectrum(tuple((plain_R / root).tolist())), Spectrum(tuple((centred_R / root).tolist())), norm)


def singular_values(rows_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Return the singular values of the rows, and of the rows minus their mean: min(N, D) float64 each, largest first.

    If there are more columns than rows, they come from the N x N Gram matrix, summed over slices of
    columns: no float64 copy of the rows is made. Values below 1e-8 of the largest are then rounding.

    >>> as_they_are, centred = singular_values(torch.tensor([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]]))
    >>> as_they_are.numpy().round(4).tolist(), centred.tolist()
    ([2.8284, 0.0], [0.0, 0.0])
    """
    number, units = rows_ND.shape
    if units <= number:
        rows = rows_ND.double()
        return torch.linalg.svdvals(rows), torch.linalg.svdvals(rows - rows.mean(0))
    gram_NN = torch.zeros(number, number, dtype=torch.float64, device=rows_ND.device)
    centred_NN = torch.zeros_like(gram_NN)
    for columns in torch.split(rows_ND, _COLUMNS, dim=1):
        part = columns.double()
        gram_NN.addmm_(part, part.T)
        part = part - part.mean(0)
        centred_NN.addmm_(part, part.T)
    return _roots(gram_NN), _roots(centred_NN)


def _roots(gram_NN: Tensor) -> Tensor:
    squares_N: Tensor = torch.linalg.eigvalsh(gram_NN)
    return squares_N.clamp_min(0).sqrt().flip(0)
