"""Figures of a sweep, drawn by plotly: history, learning curves, parallel coordinates.

Trials are compared at equal epochs only: a figure that shows their last epoch says which one that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from orchestrator.analysis.result import SweepResult
    from orchestrator.state.sweep_state import Trial

LEAST_TRIALS = 12
"""Trials that an epoch needs, to be the one at which trials are compared by default."""


@dataclass(frozen=True)
class Plots:
    """Figures of a sweep; each method returns a plotly figure."""

    result: SweepResult

    def history(self) -> go.Figure:
        """Return the objective of each trial's last epoch in the order of the trials, and the best full run so far."""
        figure = _figure(f"{self.result.sweep}: history", "trial", self._metric)
        trials = self.result.state.trials.values()
        last = [(trial, value) for trial in trials if (value := self._values(trial).get(trial.epoch)) is not None]
        figure.add_scatter(
            x=[trial.id for trial, _ in last],
            y=[value for _, value in last],
            text=[f"epoch {trial.epoch} of {trial.budget}" for trial, _ in last],
            mode="markers",
            name="last epoch",
        )
        complete = [(t.id, value) for t, value in last if t.status == "completed" and t.blind_from is None]
        best = list(accumulate((value for _, value in complete), max if self._mode == "max" else min))
        figure.add_scatter(
            x=[name for name, _ in complete], y=best, mode="lines", line_shape="hv", name="best full run so far"
        )
        return figure

    def curves(self) -> go.Figure:
        """Return the objective of every trial by epoch."""
        figure = _figure(f"{self.result.sweep}: learning curves", "epoch", self._metric)
        for trial in self.result.state.trials.values():
            values = self._values(trial)
            if values:
                figure.add_scatter(
                    x=list(values), y=list(values.values()), mode="lines+markers", name=f"{trial.id} {trial.status}"
                )
        return figure

    def parallel(self, *, epoch: int | None = None) -> go.Figure:
        """Return parallel coordinates of the searched parameters, over the trials that measured one epoch.

        Args:
            epoch: the epoch at which trials are compared; by default the highest that at least 12 trials measured.

        Raises:
            ValueError: no trial measured the objective at that epoch.
        """
        import plotly.graph_objects as go  # noqa: PLC0415  an extra

        chosen = self.comparable_epoch() if epoch is None else epoch
        trials = [trial for trial in self.result.state.trials.values() if chosen in self._values(trial)]
        if not trials:
            raise ValueError(f"epoch: must be one that a trial measured {self._metric} at, got {chosen}")
        scores = [self._values(trial)[chosen] for trial in trials]
        dimensions = [_dimension(name, [trial.config.get(name) for trial in trials]) for name in self._searched()]
        figure = go.Figure(
            go.Parcoords(
                line={"color": scores, "colorscale": "Viridis", "showscale": True},
                dimensions=[*dimensions, {"label": self._metric, "values": scores}],
            )
        )
        figure.update_layout(title=f"{self.result.sweep}: {len(trials)} trials at epoch {chosen}")
        return figure

    def comparable_epoch(self) -> int:
        """Return the highest epoch at which at least 12 trials, or else most of them, measured the objective.

        Raises:
            ValueError: no trial has measured it yet.
        """
        counts: dict[int, int] = {}
        for trial in self.result.state.trials.values():
            for epoch in self._values(trial):
                counts[epoch] = counts.get(epoch, 0) + 1
        if not counts:
            raise ValueError(f"{self.result.sweep}: no trial has measured {self._metric} yet")
        needed = min(LEAST_TRIALS, max(counts.values()))
        return max(epoch for epoch, count in counts.items() if count >= needed)

    @property
    def _metric(self) -> str:
        return self.result.plan.spec.objective.metric

    @property
    def _mode(self) -> str:
        return self.result.plan.spec.objective.mode

    def _values(self, trial: Trial) -> dict[int, float]:
        """Return the objective of a trial by epoch, where it was measured."""
        measured = ((epoch, metrics.get(self._metric)) for epoch, metrics in sorted(trial.epochs.items()))
        return {epoch: value for epoch, value in measured if value is not None}

    def _searched(self) -> list[str]:
        return list(self.result.plan.spec.space.names)


def _figure(title: str, x: str, y: str) -> go.Figure:
    import plotly.graph_objects as go  # noqa: PLC0415  an extra

    return go.Figure(layout={"title": title, "xaxis": {"title": x}, "yaxis": {"title": y}})


def _dimension(name: str, values: list[Any]) -> dict[str, Any]:
    """Return an axis of parallel coordinates: numbers as they are, choices and absent values as categories.

    >>> _dimension("depth", [2, 3])["values"], _dimension("act", ["relu", None])["ticktext"]
    ([2, 3], ['None', 'relu'])
    """
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return {"label": name, "values": values}
    texts = sorted({str(value) for value in values})
    places = [texts.index(str(value)) for value in values]
    return {"label": name, "values": places, "tickvals": list(range(len(texts))), "ticktext": texts}
