"""Result of attacks of growing strength: the accuracy that is left after each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from trainables.evaluation.core import figures
from trainables.evaluation.core.results import REFUSED, Cell, Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plotly.graph_objects import Figure

    from trainables.attacks import Norm

__all__ = ["CLEAN", "AccuracyUnderAttack", "AttackStage"]

CLEAN: Final = "clean"


class AttackStage(NamedTuple):
    """One attack of the sequence, and the accuracy after it.

    attacked: number of images that met the attack; the rest were already wrong, or are not known.
    accuracy: after this attack alone, if it met every correctly classified image; else after all attacks so far.
    worst: images that withstand this attack and all previous ones, as a fraction of all.
    low, high: the 95 % interval of `worst`.
    at_most: `worst` if every image that did not meet the restarts withstood them.
    estimated: True if `worst` is an estimate, from a random sample of the images that met the restarts.
    """

    attack: str
    attacked: int
    accuracy: float
    worst: float
    low: float
    high: float
    at_most: float
    estimated: bool


@dataclass(frozen=True, slots=True)
class AccuracyUnderAttack:
    """Accuracy of `num_images` images at one radius, stage by stage; an image is broken by any success."""

    epsilon: float
    norm: Norm
    num_images: int
    stages: tuple[AttackStage, ...]
    refusals: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    def metrics(self) -> Mapping[str, float]:
        """Return the accuracy under each attack, the worst case, and its bound without an estimate; none if refused."""
        if self.refusals:
            return {}
        last = self.stages[-1]
        values = {stage.attack: stage.accuracy for stage in self.stages if stage.attack != CLEAN}
        values |= {"worst": last.worst, "worst-at-most": last.at_most}
        return {f"robust/{name}@{self.epsilon:g}": value for name, value in values.items()}

    def table(self) -> Table:
        """Return a row for each stage; only the clean one shows numbers if the claim is refused."""
        rows: list[tuple[Cell, ...]] = []
        for stage in self.stages:
            numbers: tuple[Cell, ...] = (stage.accuracy, stage.worst, stage.low, stage.high, stage.at_most)
            refused = self.refusals and stage.attack != CLEAN
            kind = REFUSED if refused else "estimated" if stage.estimated else "counted"
            rows.append(
                (stage.attack, stage.attacked, *((REFUSED,) * 5 if refused else numbers), self.num_images, kind)
            )
        columns = ("attack", "images attacked", "accuracy", "worst case so far", "95 % from", "95 % to", "at most")
        return Table((*columns, "images", "worst case is"), tuple(rows))

    def figure(self) -> Figure:
        """Plot the worst case after each stage, with its 95 % interval."""
        title = f"Accuracy under attack, {self.norm} ball of radius {self.epsilon:g}, {self.num_images} images"
        plot = figures.figure(
            figures.titled(title, self.refusals),
            x="attack, each after all those on its left",
            y="accuracy, worst case so far",
            yaxis_range=[0, 1.05],
            showlegend=False,
        )
        shown = [stage for stage in self.stages if not self.refusals or stage.attack == CLEAN]
        bars = figures.graph_objects().Bar(
            x=[stage.attack for stage in shown],
            y=[stage.worst for stage in shown],
            text=[f"{stage.worst:.3f}" for stage in shown],
            textposition="inside",
            insidetextanchor="start",
            error_y={
                "array": [stage.high - stage.worst for stage in shown],
                "arrayminus": [stage.worst - stage.low for stage in shown],
            },
        )
        plot.add_trace(bars)
        order = [stage.attack for stage in self.stages]
        plot.update_xaxes(categoryorder="array", categoryarray=order, range=[-0.5, len(order) - 0.5])
        for attack in order[len(shown) :]:
            plot.add_annotation(x=attack, y=0.05, text=REFUSED, showarrow=False)
        return plot
