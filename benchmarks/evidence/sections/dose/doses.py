"""Doses and their matched controls, chosen on validation images; the choice reads no metric of test images."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, Literal, NamedTuple

from network_pairs import over_pairs
from section import Row

from orchestrator.analysis.claims.comparisons import (
    SIGNIFICANCE,
    PairedDifference,
    UnpairedDifference,
    paired_difference,
)
from orchestrator.analysis.claims.conclusions import Prediction

from .grid import CLASS_MEAN, CONTROLS, LAYERS, SNNL, Recipe

Direction = Literal["higher", "lower"]
Criterion = Literal["cost", "scale"]
CRITERIA: tuple[Criterion, ...] = ("cost", "scale")
ACCURACY_TOLERANCE = 0.01
"""Largest difference of mean validation accuracies of a treatment and a control that is matched in cost."""
LENGTH_TOLERANCE = 2.0
"""Largest ratio of mean squared lengths, in geometric mean over the layers, of a control that is matched in scale."""


class Networks(NamedTuple):
    """Networks of one treatment: metrics by seed, and shares of transfer by source and target, where measured."""

    recipe: Recipe
    values: Mapping[str, Sequence[float]]
    diverged: Sequence[int]
    transfer: Sequence[Sequence[float]]
    noise: Sequence[Sequence[float]]
    by_image: Mapping[str, Any]

    @classmethod
    def of(cls, row: Row) -> "Networks":
        """Return the networks of a measured unit."""
        metrics = row.metrics
        return cls(
            Recipe(**row.settings["recipe"]),
            metrics.get("values", {}),
            metrics["diverged"],
            _complete(metrics.get("transfer", ())),
            _complete(metrics.get("noise", ())),
            metrics.get("by_image", {}),
        )

    def mean(self, metric: str) -> float:
        """Return the mean over seeds."""
        return mean(self.values[metric])

    @property
    def log_lengths(self) -> list[float]:
        """Logarithm of the mean squared length of the activations, by layer."""
        return [math.log(max(self.mean(f"val/length_{tap}"), 1e-30)) for tap in LAYERS]


class Match(NamedTuple):
    """Control of a kind that is nearest to a treatment by a criterion, and their distance; None if there is none."""

    kind: str
    criterion: Criterion
    control: Networks | None = None
    distance: float = math.inf

    @property
    def is_within(self) -> bool:
        """True if the distance is within the tolerance of the criterion."""
        return self.distance <= (ACCURACY_TOLERANCE if self.criterion == "cost" else LENGTH_TOLERANCE)

    @property
    def name(self) -> str:
        """Name of the control, with what it is matched in."""
        weight = "" if self.control is None else f" {self.control.recipe.weight:g}"
        return f"{self.kind.replace('_', ' ')}{weight}, matched in {self.criterion}"


@dataclass(frozen=True)
class Grid:
    """All networks of a data set that did not diverge for any seed."""

    networks: Sequence[Networks]

    @classmethod
    def of(cls, rows: Sequence[Row], data: str) -> "Grid":
        """Return those of a data set."""
        found = (Networks.of(row) for row in rows if row.settings["recipe"]["data"] == data)
        return cls([own for own in found if not own.diverged])

    @property
    def baseline(self) -> Networks:
        """Networks without a term."""
        return next(own for own in self.networks if own.recipe.is_baseline)

    def doses(self, temperature: str, direction: Direction) -> list[Networks]:
        """Return the treatments that are to entangle ('higher') or to separate, the mildest first."""
        sign = -1 if direction == "higher" else 1
        found = [
            own
            for own in self.networks
            if own.recipe.penalty == SNNL and own.recipe.temperature == temperature and own.recipe.weight * sign > 0
        ]
        return sorted(found, key=lambda own: abs(own.recipe.weight))

    def matches(self, treatment: Networks) -> list[Match]:
        """Return the matched controls of a treatment, of each kind and by each criterion."""
        return [self._match(treatment, kind, criterion) for kind in CONTROLS for criterion in CRITERIA]

    def _match(self, treatment: Networks, kind: str, criterion: Criterion) -> Match:
        """Search the weights of a control.

        In cost: the strongest one whose mean validation accuracy is within the tolerance, else the nearest one. Where
        the treatment costs nothing, mild controls do not either, and they would be a comparison with the baseline.
        In scale: the nearest one in the mean squared lengths of the activations. A control on class means has the sign
        of the treatment.
        """
        candidates = [
            own
            for own in self.networks
            if own.recipe.penalty == kind
            and not own.recipe.is_baseline
            and (kind != CLASS_MEAN or own.recipe.weight * treatment.recipe.weight > 0)
        ]
        if not candidates:
            return Match(kind, criterion)
        distance = _length_ratio if criterion == "scale" else _cost_difference
        matches = [Match(kind, criterion, own, distance(own, treatment)) for own in candidates]
        within = [match for match in matches if match.is_within]
        if criterion == "cost" and within:
            return max(within, key=lambda match: abs(match.control.recipe.weight) if match.control else 0.0)
        return min(matches, key=lambda match: match.distance)

    def references(self, treatment: Networks) -> dict[str, Networks]:
        """Return what a treatment is compared with: the baseline, and each control that is within its tolerance."""
        matched = {match.name: match.control for match in self.matches(treatment) if match.is_within}
        return {"baseline": self.baseline, **{name: own for name, own in matched.items() if own is not None}}

    def checks(self, treatment: Networks, direction: Direction, *, images: str = "val") -> dict[str, Prediction]:
        """Return the manipulation checks, on these images: the term of the loss against each reference.

        The term is the sum over its layers. It need not change each of them: a convolution of a few pixels nearly keeps
        the distances of its input, and a dose that changes it has long destroyed the next layer.
        """
        return {
            f"entanglement against {name}": Prediction(
                difference(treatment, reference, f"{images}/entanglement"), direction
            )
            for name, reference in self.references(treatment).items()
        }

    def problems(self, treatment: Networks, direction: Direction) -> list[str]:
        """Return the checks on validation images that a dose fails, and its controls without a match.

        As doses are tried one after the other, each check has to pass at 5 % over their number.
        """
        level = SIGNIFICANCE / len(self.doses(treatment.recipe.temperature, direction))
        checks = self.checks(treatment, direction)
        failed = [name for name, check in checks.items() if not (check.is_as_predicted and check.p <= level)]
        return failed + [f"no {match.name}" for match in self.matches(treatment) if not match.is_within]

    def chosen(self, temperature: str, direction: Direction) -> Networks | None:
        """Return the mildest dose that passes all its checks on validation images; None if no dose does."""
        doses = self.doses(temperature, direction)
        return next((own for own in doses if not self.problems(own, direction)), None)


def difference(treatment: Networks, reference: Networks, metric: str) -> PairedDifference:
    """Return the difference of a metric, paired by seed."""
    return paired_difference(treatment.values[metric], reference.values[metric])


def transfer_difference(treatment: Networks, reference: Networks) -> UnpairedDifference | None:
    """Return the difference of transfer, paired by the seeds of source and target; None if either has none."""
    return _difference_of(treatment.transfer, reference.transfer)


def transfer_beyond_noise(networks: Networks) -> UnpairedDifference | None:
    """Return the difference of transfer to the errors under noise of the same size; None if it was not measured."""
    return _difference_of(networks.transfer, networks.noise)


def _difference_of(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> UnpairedDifference | None:
    if not (one and other):
        return None
    rows = zip(one, other, strict=True)
    found = over_matrix([[own - control for own, control in zip(*pair, strict=True)] for pair in rows])
    # Without any spread a mean has no scale, and nothing can be said of it.
    return found if found.error else None


def over_matrix(matrix: Sequence[Sequence[float]]) -> UnpairedDifference:
    """Return the mean of values by source and target over pairs of different networks.

    >>> found = over_matrix([[0, 1, 3], [1, 0, 3], [1, 3, 0]])
    >>> found.mean, found.degrees
    (2, 2)
    """
    return over_pairs(
        {
            (str(source), str(target)): value
            for source, row in enumerate(matrix)
            for target, value in enumerate(row)
            if source != target
        }
    )


def _complete(matrix: Sequence[Sequence[float | None]]) -> Sequence[Sequence[float]]:
    """Return a matrix, or an empty one if a pair of networks has no image: its mean would be of other networks."""
    return () if any(None in row for row in matrix) else matrix  # type: ignore[return-value]


def _cost_difference(one: Networks, other: Networks) -> float:
    return abs(one.mean("val/accuracy") - other.mean("val/accuracy"))


def _length_ratio(one: Networks, other: Networks) -> float:
    gaps = (abs(own - own_other) for own, own_other in zip(one.log_lengths, other.log_lengths, strict=True))
    return math.exp(mean(gaps))


def data_sets(rows: Iterable[Row]) -> Iterator[str]:
    """Yield the names of the data sets."""
    yield from dict.fromkeys(row.settings["recipe"]["data"] for row in rows)
