"""Gradient masking: red flags of a model that hides its gradients from attacks instead of withstanding them.

Athalye et al., ICML 2018; Carlini et al., 2019. Every flag compares counts of the same images. A flag is raised where
an honest model would show such counts in at most one of a hundred samples, so a single image decides nothing.
Shapes: N images in all, B of a batch, C channels, H by W pixels, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.attacks import Norm, dlr, square
from trainables.attacks.balls import surface_noise
from trainables.attacks.margins import margin, without_gradient
from trainables.attacks.modes import attacking, outside_inference_mode
from trainables.evaluation.core import figures
from trainables.evaluation.core.evaluation_attack import (
    logits_under_attack,
    still_right,
    unattacked,
    withstands,
)
from trainables.evaluation.core.intervals import RARE, mcnemar_test, plausible
from trainables.evaluation.core.prediction import BATCH_SIZE, as_pixels
from trainables.evaluation.core.results import Table, no_progress
from trainables.evaluation.robustness.gradient_ascent import ascent, start_noise
from trainables.seeding import generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from plotly.graph_objects import Figure

    from trainables.data import Split
    from trainables.evaluation.core.evaluation_attack import EvaluationAttack
    from trainables.evaluation.core.results import Cell, Progress

__all__ = ["Check", "Masking", "masking", "raised"]

MASKING_IMAGES: Final = 100
"""Number of test images that are tested for red flags, independent of the budget."""
_QUERIES: Final = 500
_NEAR_ZERO: Final = 0.01
_MUCH: Final = 0.05

_WHITE: Final = ("fgsm", "pgd-20", "pgd-50", "pgd-50 on dlr")
_SQUARE: Final = "square, after these"
_HALF: Final = "pgd-100, radius of grey"
_UNBOUNDED: Final = "pgd-200, unbounded"


@dataclass(frozen=True, slots=True)
class Check:
    """One red flag: the requirement, the observation, and whether the observation breaks the requirement."""

    name: str
    requirement: str
    observed: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Masking:
    """Red flags of a model, and the number of images of `num_images` that each probe fooled, by the probe's name.

    >>> flags = (Check("logits", "outputs must be logits", "rows sum to 1", True),)
    >>> Masking(0.1, "linf", 100, {"clean": 3}, flags).refusals
    ('logits: outputs must be logits; got: rows sum to 1',)
    """

    epsilon: float
    norm: Norm
    num_images: int
    fooled: Mapping[str, int]
    checks: tuple[Check, ...]
    limits: tuple[str, ...] = ()

    @property
    def refusals(self) -> tuple[str, ...]:
        """Raised flags, a line each; any of them refuses every claim of robustness."""
        return raised(self.checks)

    def metrics(self) -> Mapping[str, float]:
        """Return the number of raised flags, which is itself no claim of robustness."""
        return {"robust/red_flags": float(len(self.refusals))}

    def table(self) -> Table:
        """Return a row for each flag."""
        rows: list[tuple[Cell, ...]] = [
            (check.name, check.requirement, check.observed, "RAISED" if check.failed else "passed")
            for check in self.checks
        ]
        return Table(("red flag", "law", "found", "verdict"), tuple(rows))

    def figure(self) -> Figure:
        """Plot the number of images that each probe fooled: the evidence, not a measure of robustness."""
        raised = [check.name for check in self.checks if check.failed]
        title = "Gradient masking: " + (f"{len(raised)} red flags raised" if raised else "no red flag raised")
        plot = figures.figure(
            f"{title}<br><sup>{', '.join(raised)}</sup>" if raised else title,
            x=f"images fooled, of {self.num_images}",
            y="",
            margin={"l": 230, "r": 30, "t": 70, "b": 70},
        )
        names, counts = list(self.fooled), list(self.fooled.values())
        bars = figures.graph_objects().Bar(x=counts, y=names, orientation="h", text=counts, showlegend=False)
        plot.add_trace(bars)
        plot.update_yaxes(autorange="reversed")
        plot.update_xaxes(range=[0, self.num_images * 1.05])
        return plot


def raised(checks: Iterable[Check]) -> tuple[str, ...]:
    """Return a line for each flag that is raised."""
    return tuple(f"{check.name}: {check.requirement}; got: {check.observed}" for check in checks if check.failed)


def masking(
    model: nn.Module,
    split: Split,
    *,
    epsilon: float,
    norm: Norm = "linf",
    seed: int = 0,
    progress: Progress = no_progress,
) -> Masking:
    """Probe a model for the red flags of gradient masking at this radius.

    Restarts can raise no flag of their own: an image counts as fooled by any of them, so more of them
    never raise accuracy. Five passes over the same images show a model whose answers are random.

    Raises:
        ValueError: epsilon not > 0; a gradient that is not finite.
    """
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon: must be finite and > 0, got {epsilon}; without a radius there is nothing to mask")
    probes = _probes(model, split, epsilon=epsilon, norm=norm, seed=seed)
    right_N = withstands(split, unattacked(model))
    holds: dict[str, Tensor] = {"clean": right_N}
    for done, (name, probe) in enumerate(probes.items()):
        progress(f"red flags: {name}", done / (len(probes) + 1))
        holds[name] = withstands(split, probe, among_N=right_N)
    progress("red flags: square", len(probes) / (len(probes) + 1))
    white_N = torch.stack([holds[name] for name in _WHITE]).all(0)
    search = _square(model, epsilon=epsilon, norm=norm, seed=seed)
    holds[_SQUARE] = withstands(split, search, among_N=white_N)
    checks = (*_inspections(model, split, right_N), *_comparisons(holds, white_N, split))
    fooled = {name: len(split) - int(holds_N.sum()) for name, holds_N in holds.items()}
    progress("red flags", 1.0)
    return Masking(epsilon, norm, len(split), fooled, checks)


def _probes(model: nn.Module, split: Split, *, epsilon: float, norm: Norm, seed: int) -> dict[str, EvaluationAttack]:
    def noise(purpose: str) -> Tensor:
        return start_noise(split, norm=norm, seed=seed, purpose=purpose)

    def steps(
        number: int, noise_NCHW: Tensor, objective: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> EvaluationAttack:
        return ascent(model, epsilon=epsilon, norm=norm, steps=number, noise_NCHW=noise_NCHW, objective=objective)

    # At this radius every ball holds the grey image, which no model classifies better than chance.
    grey = 0.5 if norm == "linf" else 0.5 * math.sqrt(split.images_NCHW[0].numel())
    long = noise("red flags, pgd-50")
    return {
        "noise": _noise(model, split, epsilon=epsilon, norm=norm, seed=seed),
        "fgsm": ascent(model, epsilon=epsilon, norm=norm, steps=1, step_size=epsilon),
        "pgd-20": steps(20, noise("red flags, pgd-20")),
        "pgd-50": steps(50, long),
        "pgd-50 on dlr": steps(50, long, objective=_margin_loss),
        _HALF: ascent(model, epsilon=grey, norm=norm, steps=100, step_size=grey / 40),
        _UNBOUNDED: ascent(model, epsilon=1, norm="linf", steps=200, step_size=0.01),
    }


def _noise(model: nn.Module, split: Split, *, epsilon: float, norm: Norm, seed: int) -> EvaluationAttack:
    """Return noise as long as FGSM's step: random signs in the Linf ball, a Gaussian direction in the L2 ball."""
    like = torch.empty(split.images_NCHW.shape, device=split.labels_N.device)
    noise_NCHW = surface_noise(like, epsilon=1, norm=norm, generator=generator(seed, "noise", device=like.device))
    noise_NCHW = epsilon * (noise_NCHW.sign() if norm == "linf" else noise_NCHW)
    return lambda x, y_B, index_B: still_right(model, (x + noise_NCHW[index_B]).clamp(0, 1), y_B)


def _square(model: nn.Module, *, epsilon: float, norm: Norm, seed: int) -> EvaluationAttack:
    """Return Square; for L2 it searches the largest Linf ball inside, so that its images are in the L2 ball."""

    def attack(x: Tensor, y_B: Tensor, index_B: Tensor) -> Tensor:
        radius = epsilon if norm == "linf" else epsilon / math.sqrt(x[0].numel())
        noise = generator(seed, f"red flags, square {int(index_B[0])}", device=x.device)
        return still_right(model, square(model, x, y_B, epsilon=radius, queries=_QUERIES, generator=noise), y_B)

    return attack


def _margin_loss(logits_BK: Tensor, y_B: Tensor) -> Tensor:
    return dlr(logits_BK, y_B) if logits_BK.shape[1] > 2 else -margin(logits_BK, y_B)


def _comparisons(holds: Mapping[str, Tensor], white_N: Tensor, split: Split) -> Iterator[Check]:
    """Yield the flags that compare attacks."""
    trials = len(split)
    for weaker, stronger in (("noise", "fgsm"), ("fgsm", "pgd-20"), ("pgd-20", "pgd-50")):
        pair, failed = mcnemar_test(holds[weaker], holds[stronger])
        observed = f"{weaker} alone fools {pair.weaker} of {trials} images, {stronger} alone {pair.stronger}"
        yield Check(f"{weaker} and {stronger}", f"{weaker} must not fool more images than {stronger}", observed, failed)
    pair, more = mcnemar_test(holds["pgd-50 on dlr"], holds["pgd-50"])
    yield Check(
        "cross-entropy and margin",
        f"PGD on the margin (DLR) must not fool {_MUCH:.0%} of the images more than PGD on the cross-entropy",
        f"the margin alone fools {pair.weaker} of {trials} images, the cross-entropy alone {pair.stronger}",
        more and pair.weaker - pair.stronger > _MUCH * trials,
    )
    alone = int((white_N & ~holds[_SQUARE]).sum())
    yield Check(
        "black box",
        f"Square must not fool {RARE:.1%} of the images beyond the attacks that see gradients",
        f"it alone fools {alone} of {trials} images",
        not plausible(alone, trials, rate=RARE),
    )
    chance = int(split.labels_N.bincount().max()) / trials
    for name, requirement, rate in (
        (_HALF, f"accuracy must not exceed chance, {chance:.3g}, where every image can turn grey", chance),
        (_UNBOUNDED, "accuracy must be about 0 where nothing bounds the attack", _NEAR_ZERO),
    ):
        kept = int(holds[name].sum())
        yield Check(
            name, requirement, f"{kept} of {trials} images withstand it", not plausible(kept, trials, rate=rate)
        )


def _inspections(model: nn.Module, split: Split, right_N: Tensor) -> Iterator[Check]:
    """Yield the flags that inspect outputs and gradients."""
    x, y_B = as_pixels(split.images_NCHW[:BATCH_SIZE]), split.labels_N[:BATCH_SIZE]
    answers = torch.stack([logits_under_attack(model, x) for _ in range(5)])
    spread = float((answers - answers[0]).abs().max())
    # A bias added to all logits changes no answer, so it must not excuse a spread.
    scale = min(float(answers.abs().max()), float((answers.amax(2) - answers.amin(2)).max()))
    yield Check(
        "randomness",
        "the same images must get the same logits",
        f"logits of size {scale:.3g} differ by {spread:.3g} between passes",
        spread > 1e-4 * scale,
    )
    sums_B, least = answers[0].sum(1), float(answers[0].min())
    distributions = least >= 0 and bool(((sums_B - 1).abs() < 1e-4).all())
    yield Check(
        "logits",
        "outputs must be logits, not probabilities",
        f"outputs from {least:.3g}, rows with sums from {float(sums_B.min()):.3g} to {float(sums_B.max()):.3g}",
        distributions,
    )
    flat, right = _zero_gradients(model, x, y_B, right_N[:BATCH_SIZE]), int(right_N[:BATCH_SIZE].sum())
    yield Check(
        "zero gradients",
        "gradients of the cross-entropy must not be exactly zero",
        f"they are at {flat} of {right} images that are classified correctly",
        not plausible(flat, right, rate=RARE),
    )


@outside_inference_mode
def _zero_gradients(model: nn.Module, x: Tensor, y_B: Tensor, right_B: Tensor) -> int:
    leaf = x.detach().requires_grad_()
    with attacking(model, device=x.device):
        (gradient,) = torch.autograd.grad(functional.cross_entropy(model(leaf), y_B, reduction="sum"), leaf)
    return int((without_gradient(gradient) & right_B).sum())
