"""Figures of a sweep as methods; `ravel plot` draws the same ones.

Trials are compared at one epoch, which each figure names. By default it is the highest that at least 12 trials reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.analysis.comparison.epochs import comparable_epoch
from orchestrator.analysis.figures.registry import draw

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from orchestrator.analysis.result import SweepResult


@dataclass(frozen=True)
class Plots:
    """Figures of a sweep; each method returns a plotly figure, over the trials that measured one epoch.

    All raise an ``OrchestratorError`` if no trial measured the objective at that epoch, or the sweep lacks what the
    figure shows.
    """

    result: SweepResult

    def history(self, *, epoch: int | None = None) -> go.Figure:
        """Return the objective in the order of the trials, and the best so far; those not compared are grey."""
        return draw(self.result, "history", epoch=epoch)

    def curves(self, *, epoch: int | None = None) -> go.Figure:
        """Return the objective of every trial by epoch, a colour for each rung at which trials ended."""
        return draw(self.result, "curves", epoch=epoch)

    def rungs(self) -> go.Figure:
        """Return the trials at each rung, a panel for each, coloured by what became of them there."""
        return draw(self.result, "rungs")

    def importance(self, *, epoch: int | None = None) -> go.Figure:
        """Return the importance of each parameter by fANOVA and PED-ANOVA, with bootstrap intervals."""
        return draw(self.result, "importance", epoch=epoch)

    def slice(self, *, epoch: int | None = None) -> go.Figure:
        """Return each searched parameter against the objective, with the baseline's as a line."""
        return draw(self.result, "slice", epoch=epoch)

    def rank(self, *, epoch: int | None = None) -> go.Figure:
        """Return pairs of parameters, their trials coloured by rank."""
        return draw(self.result, "rank", epoch=epoch)

    def contour(self, *, epoch: int | None = None) -> go.Figure:
        """Return smoothed surfaces over pairs of parameters, empty away from points, with the points."""
        return draw(self.result, "contour", epoch=epoch)

    def parallel(self, *, epoch: int | None = None) -> go.Figure:
        """Return parallel coordinates of the searched parameters, coloured by rank; those not compared are grey."""
        return draw(self.result, "parallel", epoch=epoch)

    def pareto(self, *, epoch: int | None = None) -> go.Figure:
        """Return trials by two objectives (accuracy and robust accuracy by default), with the Pareto front."""
        return draw(self.result, "pareto", epoch=epoch)

    def timeline(self) -> go.Figure:
        """Return the slots of the sweep over time, a bar for each attempt."""
        return draw(self.result, "timeline")

    def cost(self) -> go.Figure:
        """Return the epochs that trials ran, and those that early stopping saved."""
        return draw(self.result, "cost")

    def entanglement(self) -> go.Figure:
        """Return the entanglement at each tap, by the sign of SNNL's weight and by epoch."""
        return draw(self.result, "entanglement")

    def effect(self, *, epoch: int | None = None) -> go.Figure:
        """Return the difference of each trial to the baseline, by the methods that are on."""
        return draw(self.result, "effect", epoch=epoch)

    def comparable_epoch(self) -> int:
        """Return the epoch at which figures compare trials by default, see ``comparison.epochs``.

        Raises:
            OrchestratorError: no trial has measured the objective yet.
        """
        return comparable_epoch(self.result.plan, self.result.state)
