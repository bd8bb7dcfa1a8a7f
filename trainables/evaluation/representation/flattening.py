"""Whether the states of a class lie flat: singular values of its activations at each tap.

Manifold mixup claims to leave a class few directions of variation (Verma et al., ICML 2019, section
3.2): the first singular value stays and the sum of the rest falls. The paper does not say whether its
activations are centred, nor how many there are; both variants are measured here, on equally many images
of each class, with all values divided by the root of that number. As weight decay alone makes
activations, and so all values, smaller, they are told divided by the mean norm of an activation too.
Shapes: N images, D units of a tap, R singular values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from trainables.attacks import evaluating
from trainables.evaluation.core.figures import graph_objects, panels
from trainables.evaluation.core.prediction import balanced_subset, batches, left_out
from trainables.evaluation.core.results import Cell, Table, no_progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from plotly.graph_objects import Figure
    from torch import Tensor

    from trainables.data import Split
    from trainables.evaluation.core.results import EvaluationBudget, Progress, Result, Subject
    from trainables.models import StagedClassifier

__all__ = ["Flatness", "Flattening", "Spectrum", "flatness", "flattening", "singular_values", "suite"]

_BATCH = 256
_COLUMNS = 8192
# Values below this share of the largest are rounding, and would only stretch a logarithmic axis.
_DRAWN = 1e-6


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
    """

    values_R: tuple[float, ...]

    @property
    def sigma_1(self) -> float:
        """The largest."""
        return self.values_R[0]

    @property
    def sum_rest(self) -> float:
        """The sum of all but the largest."""
        return math.fsum(self.values_R[1:])

    @property
    def rest_fraction(self) -> float:
        """Their share of the sum of all."""
        return self.sum_rest / self._sum if self._sum else math.nan

    @property
    def participation_ratio(self) -> float:
        """(sum s^2)^2 / sum s^4: the number of directions, weighted by their variance."""
        if not self._sum:
            return math.nan
        shares = [(value / self.sigma_1) ** 2 for value in self.values_R]
        return math.fsum(shares) ** 2 / math.fsum(share**2 for share in shares)

    @property
    def effective_rank(self) -> float:
        """The exponential of the entropy of s / sum s (Roy and Vetterli, 2007)."""
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


@dataclass(frozen=True, slots=True)
class Flattening:
    """Spectra by tap and class, and of equally many images of all classes together, where no flattening shows.

    number: how many images each spectrum is of; sums and ranks grow with it, so compare results of one number only.
    classes: by tap, then by class. together: by tap.
    """

    number: int
    classes: Mapping[str, Mapping[int, Flatness]]
    together: Mapping[str, Flatness]
    limits: tuple[str, ...] = ()

    @property
    def refusals(self) -> tuple[str, ...]:
        """Which numbers are not finite."""
        return tuple(
            f"{name}: must be finite to be tracked, got {value}; all activations of a class are 0"
            for name, value in self._numbers().items()
            if not math.isfinite(value)
        )

    def metrics(self) -> Mapping[str, float]:
        """Means over the classes, as the paper has them: uncentred; `centred_`: after the class's mean is taken away.

        `scaled_`: uncentred, divided by the mean norm of an activation. `together_`: uncentred, of all classes.
        """
        return {name: value for name, value in self._numbers().items() if math.isfinite(value)}

    def table(self) -> Table:
        """A row for each tap, class (or all) and variant."""
        columns = (
            "tap",
            "class",
            "variant",
            "images",
            "mean norm of an activation",
            "sigma_1",
            "sum of the rest",
            "sigma_1 / mean norm",
            "sum of the rest / mean norm",
            "share of the rest",
            "participation ratio",
            "effective rank",
        )
        return Table(columns, tuple(self._rows()))

    def figure(self) -> Figure:
        """A panel for each tap: the uncentred spectrum of each class, and of all together."""
        plot = panels(f"Singular values of the activations, uncentred, {self.number} images each", tuple(self.classes))
        go = graph_objects()
        for i, (tap, by_class) in enumerate(self.classes.items()):
            named = {f"class {label}": flat for label, flat in by_class.items()} | {"all": self.together[tap]}
            for rank, (name, flat) in enumerate(named.items()):
                values = [v for v in flat.uncentred.values_R if v > _DRAWN * flat.uncentred.sigma_1]
                colour = "black" if name == "all" else f"hsl({rank * 360 // len(by_class)}, 65%, 50%)"
                line = {"color": colour, "dash": "dash" if name == "all" else "solid"}
                plot.add_trace(
                    go.Scatter(
                        x=list(range(1, len(values) + 1)),
                        y=values,
                        name=name,
                        legendgroup=name,
                        showlegend=i == 0,
                        mode="lines",
                        line=line,
                    ),
                    row=i // 2 + 1,
                    col=i % 2 + 1,
                )
        plot.update_xaxes(title="index of the singular value (log)", type="log", dtick=1)
        plot.update_yaxes(type="log", exponentformat="power", dtick=1)
        plot.update_yaxes(title="value / sqrt(images) (log)", col=1)
        return plot

    def _numbers(self) -> dict[str, float]:
        result: dict[str, float] = {}
        for tap, by_class in self.classes.items():
            flats = list(by_class.values())
            named = {
                "sigma_1": [flat.uncentred.sigma_1 for flat in flats],
                "sum_rest": [flat.uncentred.sum_rest for flat in flats],
                "rest_fraction": [flat.uncentred.rest_fraction for flat in flats],
                "effective_rank": [flat.uncentred.effective_rank for flat in flats],
                "centred_sigma_1": [flat.centred.sigma_1 for flat in flats],
                "centred_sum_rest": [flat.centred.sum_rest for flat in flats],
                "centred_participation_ratio": [flat.centred.participation_ratio for flat in flats],
                "centred_effective_rank": [flat.centred.effective_rank for flat in flats],
                "scaled_sigma_1": [_ratio(flat.uncentred.sigma_1, flat.row_norm) for flat in flats],
                "scaled_sum_rest": [_ratio(flat.uncentred.sum_rest, flat.row_norm) for flat in flats],
                "together_sum_rest": [self.together[tap].uncentred.sum_rest],
                "together_effective_rank": [self.together[tap].uncentred.effective_rank],
            }
            result |= {f"flattening/{tap}_{name}": sum(values) / len(values) for name, values in named.items()}
        return result

    def _rows(self) -> Iterator[tuple[Cell, ...]]:
        for tap, by_class in self.classes.items():
            for label, flat in (*by_class.items(), ("all", self.together[tap])):
                variants: tuple[tuple[Literal["uncentred", "centred"], Spectrum], ...] = (
                    ("uncentred", flat.uncentred),
                    ("centred", flat.centred),
                )
                for variant, spectrum in variants:
                    numbers = (
                        flat.row_norm,
                        spectrum.sigma_1,
                        spectrum.sum_rest,
                        _ratio(spectrum.sigma_1, flat.row_norm),
                        _ratio(spectrum.sum_rest, flat.row_norm),
                        spectrum.rest_fraction,
                        spectrum.participation_ratio,
                        spectrum.effective_rank,
                    )
                    cells = (number if math.isfinite(number) else None for number in numbers)
                    yield (tap, str(label), variant, self.number, *cells)


def suite(subject: Subject, budget: EvaluationBudget, progress: Progress, /) -> Mapping[str, Result]:
    """Spectra of the test images at every tap."""
    result = flattening(subject.model, subject.test, images=budget.images, progress=progress)
    return {"flattening": result}


def flattening(
    model: StagedClassifier, test: Split, *, images: int | None = None, progress: Progress = no_progress
) -> Flattening:
    """Spectra at every tap, of equally many images of each class; one class at a time is in memory.

    Raises:
        ValueError: a class with fewer than two images, or activations that are not finite.
    """
    counts_K = test.labels_N.bincount()
    labels = counts_K.nonzero()[:, 0].tolist()
    rarest = int(counts_K[labels].min())
    number = rarest if images is None else min(rarest, images // len(labels))
    if number < 2:
        raise ValueError(f"test: each of the {len(labels)} classes needs at least 2 images, got {number}; take more")
    subset = balanced_subset(test, size=number * len(labels))
    groups = {label: subset.take((subset.labels_N == label).nonzero()[:, 0]) for label in labels}
    result: dict[str, dict[int, Flatness]] = {tap: {} for tap in model.taps}
    for done, (label, group) in enumerate(groups.items()):
        progress("flattening", done / (len(labels) + 1))
        for tap, flat in _at_taps(model, group).items():
            result[tap][label] = flat
    together = _at_taps(model, balanced_subset(test, size=number))
    progress("flattening", 1.0)
    return Flattening(number, result, together, left_out(subset, test))


def flatness(rows_ND: Tensor) -> Flatness:
    """Both spectra of some activations, divided by sqrt(N).

    >>> flat = flatness(torch.tensor([[3.0, 0.0], [3.0, 0.0], [3.0, 0.0], [3.0, 0.0]]))
    >>> flat.uncentred.sigma_1, flat.centred.sigma_1, flat.row_norm
    (3.0, 0.0, 3.0)
    """
    root = math.sqrt(len(rows_ND))
    plain_R, centred_R = singular_values(rows_ND)
    norm = float(torch.linalg.vector_norm(rows_ND, dim=1, dtype=torch.float64).mean())
    return Flatness(Spectrum(tuple((plain_R / root).tolist())), Spectrum(tuple((centred_R / root).tolist())), norm)


def singular_values(rows_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Of the rows as they are, and of the rows less their mean, min(N, D) float64 values each, largest first.

    Where there are more columns than rows, they come from the N x N Gram matrix, summed over slices of
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


@torch.no_grad()
def _at_taps(model: StagedClassifier, split: Split) -> dict[str, Flatness]:
    with evaluating(model), torch.autocast(split.labels_N.device.type, enabled=False):
        passes = [dict(model.features(x, taps=model.taps).taps) for x, _ in batches(split, size=_BATCH)]
    result = {}
    for tap in model.taps:
        rows_ND = torch.cat([taps.pop(tap).flatten(1) for taps in passes])
        if not rows_ND.isfinite().all():
            raise ValueError(f"{tap}: activations must be finite to have a spectrum, got NaN or infinity")
        result[tap] = flatness(rows_ND)
    return result


def _ratio(value: float, norm: float) -> float:
    return value / norm if norm else math.nan
