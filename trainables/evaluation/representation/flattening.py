"""Suite `flattening`: singular values of each class's activations at each tap.

Manifold mixup claims to leave a class few directions of variation (Verma et al., ICML 2019, section 3.2): the first
singular value stays and the sum of the rest falls. The paper does not say if its activations are centred, nor their
number. Both variants are measured here, on equally many images of each class, with all values divided by the root of
that number. Weight decay alone makes activations, and so all values, smaller. Compare networks by what the scale leaves
alone: shares of the sum, effective ranks, and values divided by the mean norm of an activation.
Shapes: N images, D units of a tap.
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
from trainables.evaluation.representation.spectra import Flatness, Spectrum, flatness

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from plotly.graph_objects import Figure

    from trainables.data import Split
    from trainables.evaluation.core.results import EvaluationBudget, Progress, Result, Subject
    from trainables.models import TappedClassifier

__all__ = ["Flattening", "flattening", "suite"]

_BATCH = 256
_TOP = 5
# Values below this share of the largest are rounding, and would only stretch a logarithmic axis.
_PLOTTED = 1e-6


@dataclass(frozen=True, slots=True)
class Flattening:
    """Spectra by tap and class, and of equally many images of all classes together, a control without flattening.

    number: number of images of each spectrum; sums and ranks grow with it, so compare results of one number only.
    classes: by tap, then by class. together: by tap.
    """

    number: int
    classes: Mapping[str, Mapping[int, Flatness]]
    together: Mapping[str, Flatness]
    limits: tuple[str, ...] = ()

    @property
    def refusals(self) -> tuple[str, ...]:
        """Numbers that are not finite, a line each."""
        return tuple(
            f"{name}: must be finite to be tracked, got {value}; all activations of a class are 0"
            for name, value in self._numbers().items()
            if not math.isfinite(value)
        )

    def metrics(self) -> Mapping[str, float]:
        """Return means over the classes, uncentred as in the paper; `centred_`: minus the class's mean.

        `scaled_`: uncentred, divided by the mean norm of an activation, which is `mean_norm`. `together_`: of equally
        many images of all classes. `top_share`: the share of the five largest values in the sum of all. Only `sigma_1`,
        `sum_rest` and `mean_norm` change with the scale of the activations.
        """
        return {name: value for name, value in self._numbers().items() if math.isfinite(value)}

    def table(self) -> Table:
        """Return a row for each tap, class (or all) and variant."""
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
            f"share of the largest {_TOP}",
            "participation ratio",
            "effective rank",
        )
        return Table(columns, tuple(self._rows()))

    def figure(self) -> Figure:
        """Plot a panel for each tap: the normalised spectrum of each class, uncentred, and that of all together."""
        title = f"Normalised singular values of the activations, uncentred, {self.number} images each"
        plot = panels(title, tuple(self.classes))
        go = graph_objects()
        for i, (tap, by_class) in enumerate(self.classes.items()):
            named = {f"class {label}": flat for label, flat in by_class.items()} | {"all": self.together[tap]}
            for rank, (name, flat) in enumerate(named.items()):
                values = [share for share in flat.uncentred.shares_R if share > _PLOTTED * flat.uncentred.shares_R[0]]
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
        plot.update_yaxes(title="share of the sum of all values (log)", col=1)
        return plot

    def _numbers(self) -> dict[str, float]:
        result: dict[str, float] = {}
        for tap, by_class in self.classes.items():
            flats = list(by_class.values())
            named = {
                "sigma_1": [flat.uncentred.sigma_1 for flat in flats],
                "sum_rest": [flat.uncentred.sum_rest for flat in flats],
                "mean_norm": [flat.row_norm for flat in flats],
                "rest_fraction": [flat.uncentred.rest_fraction for flat in flats],
                "top_share": [flat.uncentred.top_share(_TOP) for flat in flats],
                "participation_ratio": [flat.uncentred.participation_ratio for flat in flats],
                "effective_rank": [flat.uncentred.effective_rank for flat in flats],
                "centred_sigma_1": [flat.centred.sigma_1 for flat in flats],
                "centred_sum_rest": [flat.centred.sum_rest for flat in flats],
                "centred_rest_fraction": [flat.centred.rest_fraction for flat in flats],
                "centred_top_share": [flat.centred.top_share(_TOP) for flat in flats],
                "centred_participation_ratio": [flat.centred.participation_ratio for flat in flats],
                "centred_effective_rank": [flat.centred.effective_rank for flat in flats],
                "scaled_sigma_1": [_ratio(flat.uncentred.sigma_1, flat.row_norm) for flat in flats],
                "scaled_sum_rest": [_ratio(flat.uncentred.sum_rest, flat.row_norm) for flat in flats],
                "together_sum_rest": [self.together[tap].uncentred.sum_rest],
                "together_rest_fraction": [self.together[tap].uncentred.rest_fraction],
                "together_top_share": [self.together[tap].uncentred.top_share(_TOP)],
                "together_effective_rank": [self.together[tap].uncentred.effective_rank],
                "together_centred_effective_rank": [self.together[tap].centred.effective_rank],
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
                        spectrum.top_share(_TOP),
                        spectrum.participation_ratio,
                        spectrum.effective_rank,
                    )
                    cells = (number if math.isfinite(number) else None for number in numbers)
                    yield (tap, str(label), variant, self.number, *cells)


def suite(subject: Subject, budget: EvaluationBudget, progress: Progress, /) -> Mapping[str, Result]:
    """Measure spectra of the test images at every tap."""
    result = flattening(subject.model, subject.test, images=budget.images, progress=progress)
    return {"flattening": result}


def flattening(
    model: TappedClassifier, test: Split, *, images: int | None = None, progress: Progress = no_progress
) -> Flattening:
    """Measure spectra at every tap, of equally many images of each class; memory holds one class at a time.

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


@torch.no_grad()
def _at_taps(model: TappedClassifier, split: Split) -> dict[str, Flatness]:
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
