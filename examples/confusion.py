"""Confusion of classes, as an evaluation suite of a user's own.

    ravel evaluate SWEEP --suite confusion:confusion

The rate at which images of class i are classified as j, and the pair of different classes that is confused most.
Shapes: N images, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from plotly.graph_objects import Figure, Heatmap
from torch import Tensor

from trainables.evaluation.core.prediction import logits, within
from trainables.evaluation.core.results import EvaluationBudget, Progress, Result, Subject, Table


@dataclass(frozen=True, eq=False)
class Confusion:
    """Rates (K, K) at which images of a row's class are classified as a column's; they sum to 1 along a row."""

    rates_KK: Tensor
    limits: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    def metrics(self) -> Mapping[str, float]:
        """Return the rate of the pair that is confused most, and the recall of the class that is missed most."""
        errors_KK = self.rates_KK.clone().fill_diagonal_(0)
        return {"confusion/worst_pair": float(errors_KK.max()), "confusion/worst_recall": float(self._recall().min())}

    def table(self) -> Table:
        """Return a row for each class."""
        columns = ("class", *(f"as {label}" for label in range(len(self.rates_KK))))
        return Table(columns, tuple((label, *row) for label, row in enumerate(self.rates_KK.tolist())))

    def figure(self) -> Figure:
        """Plot the rates."""
        plot = Figure(Heatmap(z=self.rates_KK.tolist(), zmin=0, zmax=1, colorbar={"title": "rate"}))
        return plot.update_layout(title="Confusion", xaxis_title="classified as", yaxis_title="class")

    def _recall(self) -> Tensor:
        return self.rates_KK.diagonal()


def confusion(subject: Subject, budget: EvaluationBudget, progress: Progress) -> Mapping[str, Result]:
    """Classify the test images."""
    images, limits = within(subject.test, budget.images)
    progress("classifying", 0.0)
    logits_NK = logits(subject.model, images)
    rates_KK = rates(images.labels_N, logits_NK.argmax(1), classes=logits_NK.shape[1])
    return {"rates": Confusion(rates_KK, limits)}


def rates(labels_N: Tensor, predicted_N: Tensor, *, classes: int) -> Tensor:
    """Return the rates (K, K); the row of a class without images is 0.

    >>> rates(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1]), classes=2).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    count_KK = torch.bincount(labels_N * classes + predicted_N, minlength=classes**2).reshape(classes, classes)
    return count_KK.double() / count_KK.sum(1, keepdim=True).clamp(min=1)
