"""Suite `dknn`: credibility of test images and outliers, and accuracy of the neighbours under attack.

FGSM and BIM climb the network's loss and ignore the neighbours, so accuracy that they leave proves nothing. Accuracy
and credibility under attack are claimed only at the radius of the adaptive attack.
Shapes: N images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from trainables.evaluation.core.figures import figure, graph_objects
from trainables.evaluation.core.prediction import batches, within
from trainables.evaluation.core.results import Table, no_progress
from trainables.evaluation.robustness.gradient_masking import MASKING_IMAGES, masking
from trainables.evaluation.uncertainty.conformal import ConformalPrediction
from trainables.evaluation.uncertainty.credibility import credibility, share_of
from trainables.evaluation.uncertainty.dknn import fit_subject
from trainables.evaluation.uncertainty.dknn_attack import NETWORK_ATTACKS, attack_neighbors, attack_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from plotly.graph_objects import Figure
    from torch import Tensor

    from trainables.attacks import Norm
    from trainables.data import Split
    from trainables.evaluation.core.results import EvaluationBudget, Progress, Result, Subject
    from trainables.evaluation.uncertainty.dknn import DeepNearestNeighbors

__all__ = ["Attacked", "UnderAttack", "suite", "under_attack"]

RELATIVE_RADII: Final = (0.25, 0.5, 1.0, 1.5, 2.0)
_BATCH_SIZE: Final = 100


@dataclass(frozen=True, slots=True)
class Attacked:
    """Accuracy and credibility under one attack; `changed` is the mean credibility of the misclassified images."""

    attack: str
    epsilon: float
    accuracy: float
    network_accuracy: float
    credibility: float
    changed: float | None


@dataclass(frozen=True, slots=True)
class UnderAttack:
    """Attacks on the same images, at several radii; claims at `epsilon` alone."""

    epsilon: float
    norm: Norm
    images: int
    rows: tuple[Attacked, ...]
    limits: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    def metrics(self) -> Mapping[str, float]:
        """Return `dknn/accuracy_<attack>@<epsilon>` and `dknn/credibility_...`; none without the adaptive attack."""
        if self.refusals:
            return {}
        claimed = [row for row in self.rows if row.epsilon == self.epsilon]
        return {f"dknn/accuracy_{row.attack}@{row.epsilon:g}": row.accuracy for row in claimed} | {
            f"dknn/credibility_{row.attack}@{row.epsilon:g}": row.credibility for row in claimed
        }

    def table(self) -> Table:
        """Return a row for each attack and radius."""
        columns = ("attack", f"epsilon, {self.norm}", "accuracy", "network's accuracy", "mean credibility")
        rows = (
            (row.attack, row.epsilon, row.accuracy, row.network_accuracy, row.credibility, row.changed)
            for row in self.rows
        )
        return Table((*columns, "mean credibility of misjudged images"), tuple(rows))

    def figure(self) -> Figure:
        """Plot credibility, solid, and accuracy, dotted, over the radius; stars for the adaptive attack."""
        plot = figure(
            f"Neighbours under attack, {self.images} test images",
            x=f"epsilon ({self.norm}), in pixels of [0, 1]",
            y="mean credibility, accuracy",
        )
        attacks = dict.fromkeys(row.attack for row in self.rows if row.attack != "none")
        for attack, colour in zip(attacks, ("#1f77b4", "#d95f02", "#333333"), strict=False):
            plot.add_trace(self._trace(attack, "credibility", line={"color": colour}, marker={"symbol": "circle"}))
            plot.add_trace(
                self._trace(attack, "accuracy", line={"color": colour, "dash": "dot"}, marker={"symbol": "square-open"})
            )
        plot.update_yaxes(range=[0, 1.02])
        return plot

    def _trace(self, attack: str, measure: str, *, line: dict[str, str], marker: dict[str, str]) -> Any:
        # One radius makes no line: no radius between it and the clean images was measured.
        swept = attack != "adaptive"
        rows = [row for row in self.rows if row.attack == attack or (swept and row.attack == "none")]
        size_and_symbol = (
            {"size": 8}
            if swept
            else {"size": 14, "symbol": marker["symbol"].replace("square", "star").replace("circle", "star")}
        )
        return graph_objects().Scatter(
            x=[row.epsilon for row in rows],
            y=[getattr(row, measure) for row in rows],
            name=f"{measure}, {attack}",
            mode="lines+markers" if swept else "markers",
            line=line,
            marker={**marker, "color": line["color"], **size_and_symbol},
        )


def suite(subject: Subject, budget: EvaluationBudget, progress: Progress, /) -> Mapping[str, Result]:
    """Measure credibility on test images and outliers, then under FGSM, BIM and the adaptive attack.

    Neighbours are searched by cosine among all training images, at all taps, with 75 votes each.
    """
    progress("neighbours of the training images", 0.0)
    detector = fit_subject(subject)
    test, limits = within(subject.test, budget.images)
    progress("credibility", 0.4)
    clean = credibility(detector, test, outliers=subject.outliers, seed=subject.seed, limits=limits)
    attacked = under_attack(
        detector,
        test,
        epsilon=subject.epsilon,
        norm=subject.norm,
        images=budget.attack_images,
        progress=lambda step, part: progress(step, 0.5 + 0.4 * part),
    )
    if not attacked.refusals:
        progress("red flags", 0.9)
        few, _ = within(subject.test, MASKING_IMAGES)
        flags = masking(subject.model, few, epsilon=subject.epsilon, norm=subject.norm, seed=subject.seed)
        attacked = replace(attacked, refusals=flags.refusals)
    notes = (*limits, *detector.limits, *attacked.limits)
    return {"credibility": clean, "under_attack": replace(attacked, limits=notes)}


def under_attack(
    detector: DeepNearestNeighbors,
    test: Split,
    *,
    epsilon: float,
    norm: Norm = "linf",
    images: int = 100,
    progress: Progress = no_progress,
) -> UnderAttack:
    """Run FGSM and BIM at a quarter to twice epsilon, and the adaptive attack at epsilon, on balanced test images.

    BIM is PGD of 10 steps of epsilon / 4 without a random start; FGSM under l2 is one step of PGD.
    Without images or a radius nothing is attacked, and nothing is claimed.
    """
    if images < 1 or epsilon == 0:
        what = f"attack_images is {images}" if images < 1 else "epsilon is 0"
        reason = f"dknn under attack: {what}, so the adaptive attack was not run, and no robustness is claimed"
        return UnderAttack(epsilon, norm, 0, (), refusals=(reason,))
    split, limits = within(test, images, name="attacks")
    radii = [epsilon * relative for relative in RELATIVE_RADII if norm != "linf" or epsilon * relative <= 1]
    rows = [_evaluated("none", 0.0, detector, split, lambda x, _: x)]
    for done, radius in enumerate(radii):
        progress(f"fgsm and bim at {radius:g}", 0.4 * done / len(radii))
        rows += _network_attacks(detector, split, radius=radius, norm=norm)
    progress(f"adaptive attack at {epsilon:g}", 0.4)
    rows.append(
        _evaluated(
            "adaptive",
            epsilon,
            detector,
            split,
            lambda x, y: attack_neighbors(detector, x, y, epsilon=epsilon, norm=norm).x_NCHW,
        )
    )
    progress("attacks", 1.0)
    alone = f"attacks: the adaptive attack ran at epsilon {epsilon:g} alone; fgsm and bim at other radii are no metric"
    return UnderAttack(epsilon, norm, len(split), tuple(rows), (*limits, alone))


def _network_attacks(detector: DeepNearestNeighbors, split: Split, *, radius: float, norm: Norm) -> Iterator[Attacked]:
    for name, steps in NETWORK_ATTACKS.items():
        attack = partial(attack_network, detector.model, epsilon=radius, norm=norm, steps=steps)
        yield _evaluated(name, radius, detector, split, attack)


def _evaluated(
    name: str, epsilon: float, detector: DeepNearestNeighbors, split: Split, attack: Callable[[Tensor, Tensor], Tensor]
) -> Attacked:
    chunks = batches(split, size=_BATCH_SIZE)
    result = ConformalPrediction.joined([detector.predict_pixels(attack(x, labels)) for x, labels in chunks])
    right_N = result.prediction_N == split.labels_N
    wrong = result.credibility_N[~right_N]
    return Attacked(
        name,
        epsilon,
        accuracy=share_of(right_N),
        network_accuracy=share_of(result.predicted_by_network == split.labels_N),
        credibility=float(result.credibility_N.mean()),
        changed=float(wrong.mean()) if len(wrong) else None,
    )
