"""How far an image must be moved: accuracy over the radius of the ball, and the smallest perturbation by L-BFGS.

Shapes: N images, B of those with a target, C channels, H by W pixels, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import pairwise
from textwrap import shorten
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor, nn

from trainables import attacks
from trainables.evaluation.core import figures
from trainables.evaluation.core.evaluation_attack import replacement, unattacked, withstands
from trainables.evaluation.core.intervals import wilson
from trainables.evaluation.core.prediction import as_pixels, logits
from trainables.evaluation.core.results import Cell, Progress, Table, untold
from trainables.evaluation.robustness.gradient_ascent import ascent, start_noise
from trainables.seeding import generator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plotly.graph_objects import Figure

    from trainables.attacks import Norm
    from trainables.data import Split

__all__ = ["Curve", "Distortion", "accuracy_curve", "minimum_distortion", "titled"]

REFUSED: Final = "refused"

_RMS: Final = 0.1
_ENOUGH: Final = 0.9
_MULTIPLES: Final = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
_NEAR_ZERO: Final = 0.01
_STEPS: Final = 20
_BISECTIONS: Final = 4
_ITERATIONS: Final = 30


@dataclass(frozen=True, slots=True)
class Curve:
    """How many of `num_images` images withstand PGD-20 in balls of these radii, which grow.

    An image that a smaller ball has broken counts as broken in the larger ones, which hold that ball:
    so the curve falls, and lies on or below that of attacks at one radius alone.

    Raises:
        ValueError: radii that do not grow, counts that do, or unequal lengths.

    >>> Curve("linf", 10, (0.0, 0.1), (9, 4)).metrics()
    {'robust/curve@0': 0.9, 'robust/curve@0.1': 0.4}
    """

    norm: Norm
    num_images: int
    epsilons: tuple[float, ...]
    robust: tuple[int, ...]
    refusals: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        grow = all(one < other for one, other in pairwise(self.epsilons))
        fall = all(one >= other for one, other in pairwise(self.robust))
        if not (grow and fall and len(self.epsilons) == len(self.robust)):
            raise ValueError(f"curve: radii must grow and counts must not, got {self.epsilons} and {self.robust}")

    def metrics(self) -> Mapping[str, float]:
        """The accuracy at each radius, unless it is refused."""
        if self.refusals:
            return {}
        points = zip(self.epsilons, self.robust, strict=True)
        return {f"robust/curve@{epsilon:g}": count / self.num_images for epsilon, count in points}

    def table(self) -> Table:
        """A row for each radius; accuracy in a ball that is more than a point is refused with the claim."""
        rows: list[tuple[Cell, ...]] = []
        for epsilon, count in zip(self.epsilons, self.robust, strict=True):
            numbers = (count / self.num_images, *wilson(count, self.num_images))
            shown = (REFUSED,) * 3 if self.refusals and epsilon > 0 else numbers
            rows.append((epsilon, *shown, self.num_images))
        return Table(("epsilon (pixels)", "accuracy", "95 % from", "95 % to", "images"), tuple(rows))

    def figure(self) -> Figure:
        """Accuracy over the radius, within its 95 % interval."""
        drawn = figures.figure(
            titled("Accuracy under PGD-20", self.refusals),
            x=f"epsilon, radius of the {self.norm} ball in pixel units of [0, 1]",
            y="accuracy",
            yaxis_range=[0, 1.02],
        )
        if self.refusals:
            return drawn
        accuracy = [count / self.num_images for count in self.robust]
        ends = [wilson(count, self.num_images) for count in self.robust]
        scatter = figures.graph_objects().Scatter
        drawn.add_trace(
            scatter(
                x=[*self.epsilons, *self.epsilons[::-1]],
                y=[high for _, high in ends] + [low for low, _ in ends][::-1],
                fill="toself",
                mode="lines",
                line={"width": 0},
                opacity=0.3,
                name="95 % interval",
            )
        )
        drawn.add_trace(scatter(x=self.epsilons, y=accuracy, mode="lines+markers", name="still right"))
        return drawn


def accuracy_curve(
    model: nn.Module,
    split: Split,
    *,
    epsilon: float,
    norm: Norm = "linf",
    seed: int = 0,
    refusals: tuple[str, ...] = (),
    progress: Progress = untold,
) -> Curve:
    """Attack by PGD-20 at multiples of epsilon, from 0 until at most 1 % still hold or the ball is the box.

    Each image starts from the same noise at every radius, in proportion to it.
    """
    whole = 1.0 if norm == "linf" else math.sqrt(split.images_NCHW[0].numel())
    noise_NCHW = start_noise(split, norm=norm, seed=seed, purpose="pgd-20")
    radii = [*(radius for multiple in _MULTIPLES if (radius := round(multiple * epsilon, 12)) < whole), whole]
    holds_N, robust = withstands(split, unattacked(model)), list[int]()
    for radius in radii:
        progress(f"accuracy at epsilon {radius:g}", 1 - float(holds_N.double().mean()))
        if radius > 0:
            attack = ascent(model, epsilon=radius, norm=norm, steps=_STEPS, noise_NCHW=noise_NCHW)
            holds_N = withstands(split, attack, among_N=holds_N)
        robust.append(int(holds_N.sum()))
        if robust[-1] <= _NEAR_ZERO * len(split):
            break
    progress("accuracy over epsilon", 1.0)
    return Curve(norm, len(split), tuple(radii[: len(robust)]), tuple(robust), refusals)


class Amplified(NamedTuple):
    """Perturbations of an RMS of 0.1 that were clipped to the box: the RMS left, and the images still right."""

    rms: float
    right: int


@dataclass(frozen=True, slots=True)
class Distortion:
    """Smallest perturbations towards a wrong class drawn at random.

    attempted: rightly classified images that were tried.
    rms: root mean square over pixels of each perturbation that was found; a failure has none.
    amplified: the found perturbations at an RMS of 0.1, and noise of the same RMS on the same images, by name.
    refusals: why neither the averages nor the accuracies stand for the model.
    """

    attempted: int
    rms: tuple[float, ...]
    amplified: Mapping[str, Amplified]
    refusals: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """Images for which no perturbation was found; no average holds them."""
        return self.attempted - len(self.rms)

    def metrics(self) -> Mapping[str, float]:
        """Mean and median RMS, and accuracies at RMS 0.1, unless they are refused."""
        if self.refusals:
            return {}
        found = len(self.rms)
        accuracies = {f"robust/{name}@rms-{_RMS:g}": kind.right / found for name, kind in self.amplified.items()}
        return {**self._averages(), "robust/lbfgs_failed": self.failed / self.attempted, **accuracies}

    def table(self) -> Table:
        """Counts, averages over the images that were found, and the accuracies."""
        rows: list[tuple[Cell, ...]] = [("images tried", self.attempted), ("failures", self.failed)]
        values: dict[str, Cell] = {
            "mean RMS of the perturbations found": self._averages().get("robust/lbfgs_rms"),
            "median RMS of the perturbations found": self._averages().get("robust/lbfgs_rms_median"),
        }
        for name, kind in self.amplified.items():
            values[f"accuracy, {name} at RMS {_RMS:g}"] = kind.right / len(self.rms)
            values[f"RMS left by the box, {name}"] = kind.rms
        rows += [(name, REFUSED if self.refusals else value) for name, value in values.items()]
        return Table(("what", "value"), tuple(rows))

    def figure(self) -> Figure:
        """How many images need how much distortion."""
        title = f"Smallest distortion by L-BFGS, {len(self.rms)} of {self.attempted} images, {self.failed} failures"
        drawn = figures.figure(
            titled(title, self.refusals),
            x="distortion, root mean square over pixels of [0, 1]",
            y="images",
        )
        if not self.refusals:
            drawn.add_trace(figures.graph_objects().Histogram(x=self.rms, nbinsx=20, name="found"))
            median = self._averages()["robust/lbfgs_rms_median"]
            drawn.add_vline(x=median, line_dash="dash", annotation_text=f"median {median:.3g}")
        return drawn

    def _averages(self) -> dict[str, float]:
        if not self.rms:
            return {}
        rms = torch.tensor(self.rms, dtype=torch.float64)
        return {"robust/lbfgs_rms": float(rms.mean()), "robust/lbfgs_rms_median": float(rms.quantile(0.5))}


def minimum_distortion(
    model: nn.Module,
    split: Split,
    *,
    images: int,
    seed: int = 0,
    refusals: tuple[str, ...] = (),
    progress: Progress = untold,
) -> Distortion:
    """The smallest perturbation of the first rightly classified images towards a random wrong class.

    The claim is refused unless nine of ten searches succeed: the images that fail may be the far ones, so
    an average over the others is too small.

    Raises:
        ValueError: images < 1.
    """
    if images < 1:
        raise ValueError(f"images: must be >= 1, got {images}")
    logits_NK = logits(model, split)
    right_N = logits_NK.argmax(1) == split.labels_N
    if not bool(right_N.any()):
        nothing = "lbfgs: no image is classified rightly, so there is none to perturb"
        return Distortion(0, (), {}, (*refusals, nothing))
    chosen = split.take(right_N.nonzero()[:images, 0])
    found = _search(model, chosen, _wrong(chosen.labels_N, classes=logits_NK.shape[1], seed=seed), progress=progress)
    num_found, tried = int(found.succeeded_B.sum()), len(chosen)
    if num_found < _ENOUGH * tried:
        few = f"lbfgs: {_ENOUGH:.0%} of the searches must succeed, got {num_found} of {tried}"
        refusals = (*refusals, f"{few}; an average over these would be over the near ones")
    return Distortion(
        tried,
        tuple(found.distortion_B[found.succeeded_B].tolist()),
        _amplified(model, chosen, found, seed=seed),
        refusals,
        _told(tried, len(split)),
    )


def titled(title: str, refusals: tuple[str, ...], *, width: int = 110) -> str:
    """A figure's title; where the claim is refused it says so, and below it the first reason.

    >>> titled("Accuracy", ()), titled("Accuracy", ("logits: must be", "more"))
    ('Accuracy', 'Accuracy: REFUSED<br><sup>logits: must be (1 more)</sup>')
    """
    if not refusals:
        return title
    more = f" ({len(refusals) - 1} more)" if len(refusals) > 1 else ""
    return f"{title}: REFUSED<br><sup>{shorten(refusals[0], width, placeholder=' ...')}{more}</sup>"


def _wrong(labels_B: Tensor, *, classes: int, seed: int) -> Tensor:
    """A class other than its own for each image, uniformly; the same for every model."""
    draw = torch.randint(1, classes, labels_B.shape, generator=generator(seed, "lbfgs targets"))
    return (labels_B + draw.to(labels_B.device)) % classes


def _search(model: nn.Module, chosen: Split, target_B: Tensor, *, progress: Progress) -> attacks.MinimumDistortion:
    """One search after another: SciPy solves for one image at a time, so nothing is lost, and progress is told."""
    x = as_pixels(chosen.images_NCHW)
    found = []
    for place, (image, target) in enumerate(zip(torch.split(x, 1), torch.split(target_B, 1), strict=True)):
        progress(f"smallest distortion, image {place + 1} of {len(x)}", place / len(x))
        found.append(
            attacks.lbfgs(
                model, image, target, initial_constant=1.0, bisections=_BISECTIONS, max_iterations=_ITERATIONS
            )
        )
    progress("smallest distortions", 1.0)
    columns = ([getattr(one, column.name) for one in found] for column in fields(found[0]))
    return attacks.MinimumDistortion(*map(torch.cat, columns))


def _amplified(model: nn.Module, chosen: Split, found: attacks.MinimumDistortion, *, seed: int) -> dict[str, Amplified]:
    """The found perturbations and two controls of the same length, scaled to one RMS and clipped."""
    if not bool(found.succeeded_B.any()):
        return {}
    split = chosen.take(found.succeeded_B.nonzero()[:, 0])
    x = as_pixels(split.images_NCHW)
    noise = generator(seed, "lbfgs controls", device=x.device)
    gauss = torch.empty_like(x).normal_(generator=noise)
    signs = torch.empty_like(x).normal_(generator=noise).sign()
    moved = {"lbfgs-amplified": found.x_adv[found.succeeded_B], "gaussian-noise": x + gauss, "sign-noise": x + signs}
    return {name: _measure(model, split, attacks.amplify(x, other, rms=_RMS)) for name, other in moved.items()}


def _measure(model: nn.Module, split: Split, moved: Tensor) -> Amplified:
    right_N = withstands(split, replacement(model, moved))
    rms_N = (moved - as_pixels(split.images_NCHW)).flatten(1).square().mean(1).sqrt()
    return Amplified(float(rms_N.mean()), int(right_N.sum()))


def _told(tried: int, images: int) -> tuple[str, ...]:
    return (
        f"L-BFGS was tried on {tried} rightly classified images of {images}",
        f"L-BFGS had {_BISECTIONS} bisections of {_ITERATIONS} iterations: its distortions are upper bounds",
    )
