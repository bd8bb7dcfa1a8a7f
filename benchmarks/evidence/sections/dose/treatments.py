"""Treatments that the questions are about, and why one has no dose that is tested."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .doses import Direction, Grid
from .grid import TEMPERATURES

OUTLIERS = {"mnist": "notmnist", "digits": "permuted"}
"""Set of outliers that the predictions are tested on: the paper's for MNIST, one without an orientation for digits."""
OPPOSITE: Mapping[Direction, Direction] = {"higher": "lower", "lower": "higher"}
NAMES = {"higher": "entangling", "lower": "separating"}
NOT_TRAINED = "no such network was trained"
CHOSEN_BY = "dose chosen by validation accuracy as well"
"""Caveat of claims at a chosen dose: one that costs an accuracy that no weight of a control costs is not used."""


class Treatment(NamedTuple):
    """Treatment in one direction, with one form of the temperature, on one data set."""

    data: str
    temperature: str
    direction: Direction

    @property
    def title(self) -> str:
        """Title of its question."""
        return f"{self.data}: {NAMES[self.direction]}, temperature {self.temperature}"

    @property
    def is_claimed(self) -> bool:
        """True for the treatment of the paper: it entangles, at the minimising temperature of equation 2."""
        return (self.temperature, self.direction) == ("minimised", "higher")

    def of(self, predicted: Direction) -> Direction:
        """Return the direction for this treatment of what the paper predicts of entangled networks."""
        return predicted if self.direction == "higher" else OPPOSITE[predicted]


def treatments(recipes: Sequence[Mapping[str, Any]]) -> list[Treatment]:
    """Return the treatments of recipes, and first those of the claims."""
    claimed = [Treatment(data, "minimised", "higher") for data in OUTLIERS]
    found = (
        Treatment(own["data"], own["temperature"], "higher" if own["weight"] < 0 else "lower")
        for own in recipes
        if own["temperature"] in TEMPERATURES
    )
    return list(dict.fromkeys([*claimed, *found]))


def why_not(treatment: Treatment, grid: Grid) -> str:
    """Return why no dose is tested: of each dose, the checks that fail and the controls without a match."""
    if not grid.networks:
        return NOT_TRAINED
    doses = grid.doses(treatment.temperature, treatment.direction)
    if not doses:
        return "every dose diverged for some seed"
    reasons = [f"{own.recipe.weight:g}, {'; '.join(grid.problems(own, treatment.direction))}" for own in doses]
    return f"no dose passes its manipulation checks: failed are, by weight, {'. '.join(reasons)}"
