"""The ladder of attacks, from none to the strongest, and the suite of all that is known of robustness.

Accuracy under attack only counts as an upper bound, and only when no red flag of masking is raised.
Shapes: N images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor, nn

from trainables.attacks import Norm, aa_lite
from trainables.evaluation.core import figures
from trainables.evaluation.core.evaluation_attack import unattacked, withstands
from trainables.evaluation.core.intervals import RARE, one_way, rarely, wilson
from trainables.evaluation.core.prediction import as_pixels, logits, within
from trainables.evaluation.core.results import Budget, Cell, Progress, Result, Subject, Table, untold
from trainables.evaluation.robustness.distortion import REFUSED, accuracy_curve, minimum_distortion, titled
from trainables.evaluation.robustness.gradient_ascent import ascent, start_noise
from trainables.evaluation.robustness.gradient_masking import MASKING_IMAGES, Check, masking, raised
from trainables.seeding import generator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plotly.graph_objects import Figure

    from trainables.attacks import AaLite
    from trainables.data import Split

__all__ = ["Ladder", "Rung", "climb", "suite"]

CLEAN: Final = "clean"
RESTARTED: Final = "pgd-50x10"
AA: Final = "aa-lite"
CURVE_IMAGES: Final = 200

_RESTARTS: Final = 10
_Z_TWO: Final = 2.241402727604947  # each of two intervals at 97.5 %, so that both hold in 95 %
_AA_CLASSES: Final = 4


class Rung(NamedTuple):
    """One attack of the ladder.

    attacked: images it met; those that are not among them were already wrong, or are not known.
    accuracy: after this attack alone, where it met every rightly classified image; else after all so far.
    worst: images that withstand this attack and all before it, as a fraction of all.
    low, high: the 95 % interval of `worst`.
    at_most: `worst` if every image that did not meet the restarts withstood them.
    estimated: whether `worst` is estimated, from a random sample of the images that met the restarts.
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
class Ladder:
    """Accuracy of `num_images` images at one radius, rung by rung; an image is broken by any success."""

    epsilon: float
    norm: Norm
    num_images: int
    rungs: tuple[Rung, ...]
    refusals: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    def metrics(self) -> Mapping[str, float]:
        """Accuracy under each attack and the worst case, with the bound that no estimate enters; none if refused."""
        if self.refusals:
            return {}
        last = self.rungs[-1]
        values = {rung.attack: rung.accuracy for rung in self.rungs if rung.attack != CLEAN}
        values |= {"worst": last.worst, "worst-at-most": last.at_most}
        return {f"robust/{name}@{self.epsilon:g}": value for name, value in values.items()}

    def table(self) -> Table:
        """A row for each rung; only the clean one shows numbers if the claim is refused."""
        rows: list[tuple[Cell, ...]] = []
        for rung in self.rungs:
            numbers: tuple[Cell, ...] = (rung.accuracy, rung.worst, rung.low, rung.high, rung.at_most)
            refused = self.refusals and rung.attack != CLEAN
            kind = REFUSED if refused else "estimated" if rung.estimated else "counted"
            rows.append((rung.attack, rung.attacked, *((REFUSED,) * 5 if refused else numbers), self.num_images, kind))
        columns = ("attack", "images attacked", "accuracy", "worst case so far", "95 % from", "95 % to", "at most")
        return Table((*columns, "images", "worst case is"), tuple(rows))

    def figure(self) -> Figure:
        """The worst case after each rung, with its 95 % interval."""
        title = f"Accuracy under attack, {self.norm} ball of radius {self.epsilon:g}, {self.num_images} images"
        drawn = figures.figure(
            titled(title, self.refusals),
            x="attack, each after all those on its left",
            y="accuracy, worst case so far",
            yaxis_range=[0, 1.05],
            showlegend=False,
        )
        shown = [rung for rung in self.rungs if not self.refusals or rung.attack == CLEAN]
        bars = figures.graph_objects().Bar(
            x=[rung.attack for rung in shown],
            y=[rung.worst for rung in shown],
            text=[f"{rung.worst:.3f}" for rung in shown],
            textposition="inside",
            insidetextanchor="start",
            error_y={
                "array": [rung.high - rung.worst for rung in shown],
                "arrayminus": [rung.worst - rung.low for rung in shown],
            },
        )
        drawn.add_trace(bars)
        order = [rung.attack for rung in self.rungs]
        drawn.update_xaxes(categoryorder="array", categoryarray=order, range=[-0.5, len(order) - 0.5])
        for attack in order[len(shown) :]:
            drawn.add_annotation(x=attack, y=0.05, text=REFUSED, showarrow=False)
        return drawn


def climb(
    model: nn.Module,
    split: Split,
    *,
    epsilon: float,
    budget: Budget,
    norm: Norm = "linf",
    seed: int = 0,
    refusals: tuple[str, ...] = (),
    progress: Progress = untold,
) -> Ladder:
    """Clean, FGSM, PGD-20, PGD-50 with ten restarts, and AA-lite if the budget has it.

    The restarts meet only images that withstood everything before: at most `budget.restart_images` of
    them, a random sample. Then the worst case is (images that withstood all before) x (fraction of
    the sample that withstands the restarts too), which is unbiased for the restarts on all of them, but
    never above `at_most`, which counts the images that did not meet the restarts by what is known of them.
    """
    noise_NCHW = start_noise(split, norm=norm, seed=seed, purpose="pgd-20")
    fgsm = ascent(model, epsilon=epsilon, norm=norm, steps=1, step_size=epsilon)
    pgd = ascent(model, epsilon=epsilon, norm=norm, steps=20, noise_NCHW=noise_NCHW)

    progress("ladder: fgsm", 0.0)
    right_N = withstands(split, unattacked(model))
    fgsm_N = withstands(split, fgsm, among_N=right_N)
    progress("ladder: pgd-20", 0.1)
    pgd_N = withstands(split, pgd, among_N=right_N)
    holds_N, attacked = fgsm_N & pgd_N, int(right_N.sum())
    rungs = [
        _counted(CLEAN, len(split), right_N, right_N),
        _counted("fgsm", attacked, fgsm_N, fgsm_N),
        _counted("pgd-20", attacked, pgd_N, holds_N),
    ]
    checks = [_fgsm_and_pgd(fgsm_N, pgd_N)]
    before, sample_N = int(holds_N.sum()), _sample(holds_N, size=budget.restart_images, seed=seed)
    limits = _told(before, sample_N, len(split))

    if budget.restart_images > 0:
        for restart in range(_RESTARTS):
            progress(f"ladder: pgd-50, restart {restart + 1} of {_RESTARTS}", 0.2 + 0.03 * restart)
            noise_NCHW = start_noise(split, norm=norm, seed=seed, purpose=f"pgd-50, restart {restart}")
            pgd = ascent(model, epsilon=epsilon, norm=norm, steps=50, noise_NCHW=noise_NCHW)
            holds_N &= withstands(split, pgd, among_N=holds_N & sample_N) | ~sample_N
        rungs.append(_restarted(RESTARTED, int(sample_N.sum()), holds_N, sample_N, before=before))

    if not budget.aa_lite:
        limits = (*limits, "AA-lite did not run: the worst case is over FGSM and PGD alone")
    elif (classes := logits(model, split.take(torch.tensor([0]))).shape[1]) < _AA_CLASSES:
        limits = (*limits, f"AA-lite did not run: it needs {_AA_CLASSES} classes, got {classes}")
    elif bool(holds_N.any()):
        progress("ladder: aa-lite", 0.5)
        left_N = holds_N.nonzero()[:, 0]
        left = split.take(left_N)
        found = aa_lite(model, as_pixels(left.images_NCHW), left.labels_N, epsilon=epsilon, seed=seed, norm=norm)
        holds_N = holds_N.index_put((left_N,), found.robust_B)
        checks += _aa_checks(found, len(left), len(split))
        rungs.append(_restarted(AA, len(left), holds_N, sample_N, before=before))
    else:
        rungs.append(_restarted(AA, 0, holds_N, sample_N, before=before))
    progress("ladder", 1.0)
    return Ladder(epsilon, norm, len(split), tuple(rungs), (*refusals, *raised(checks)), limits)


def suite(subject: Subject, budget: Budget, progress: Progress, /) -> Mapping[str, Result]:
    """Red flags first, as every claim of the others falls with them.

    Raises:
        ValueError: a radius that is not positive.
    """
    if not 0 < subject.epsilon < math.inf:
        raise ValueError(
            f"subject.epsilon: must be finite and > 0 for the suite 'robust', got {subject.epsilon}; "
            "give the radius that robustness is claimed at"
        )
    split, limits = within(subject.test, budget.images)
    few, few_limits = within(subject.test, MASKING_IMAGES, name="red flags")
    some, some_limits = within(split, CURVE_IMAGES, name="accuracy curve")
    model, norm, seed = subject.model, subject.norm, subject.seed

    flags = masking(model, few, epsilon=subject.epsilon, norm=norm, seed=seed, progress=_part(progress, 0.0, 0.25))
    ladder = climb(
        model,
        split,
        epsilon=subject.epsilon,
        budget=budget,
        norm=norm,
        seed=seed,
        refusals=flags.refusals,
        progress=_part(progress, 0.25, 0.5),
    )
    curve = accuracy_curve(
        model,
        some,
        epsilon=subject.epsilon,
        norm=norm,
        seed=seed,
        refusals=ladder.refusals,
        progress=_part(progress, 0.5, 0.65),
    )
    distortion = minimum_distortion(
        model,
        split,
        images=budget.distortion_images,
        seed=seed,
        refusals=ladder.refusals,
        progress=_part(progress, 0.65, 1.0),
    )
    return {
        "masking": replace(flags, limits=(*few_limits, *flags.limits)),
        "ladder": replace(ladder, limits=(*limits, *ladder.limits)),
        "curve": replace(curve, limits=(*limits, *some_limits, *curve.limits)),
        "distortion": replace(distortion, limits=(*limits, *distortion.limits)),
    }


def _sample(holds_N: Tensor, *, size: int, seed: int) -> Tensor:
    """A random sample of the images that still hold, as flags (N,); all of them if there are no more."""
    left_S = holds_N.nonzero()[:, 0]
    order_S = torch.randperm(len(left_S), generator=generator(seed, "images with restarts")).to(left_S.device)
    return torch.zeros_like(holds_N).index_fill_(0, left_S[order_S[:size]], value=True)


def _counted(attack: str, attacked: int, alone_N: Tensor, holds_N: Tensor) -> Rung:
    total, kept = len(holds_N), int(holds_N.sum())
    accuracy, worst = int(alone_N.sum()) / total, kept / total
    return Rung(attack, attacked, accuracy, worst, *wilson(kept, total), at_most=worst, estimated=False)


def _restarted(attack: str, attacked: int, holds_N: Tensor, sample_N: Tensor, *, before: int) -> Rung:
    """The worst case once restarts have met a sample of the `before` images that held until then."""
    total, size, kept = len(holds_N), int(sample_N.sum()), int((holds_N & sample_N).sum())
    if size in {0, before}:
        return _counted(attack, attacked, holds_N, holds_N)
    at_most = int(holds_N.sum()) / total
    worst = min(before / total * kept / size, at_most)
    (low, high), (low_share, high_share) = wilson(before, total, z=_Z_TWO), wilson(kept, size, z=_Z_TWO)
    return Rung(attack, attacked, worst, worst, min(low * low_share, worst), high * high_share, at_most, estimated=True)


def _fgsm_and_pgd(fgsm_N: Tensor, pgd_N: Tensor) -> Check:
    pair, failed = one_way(fgsm_N, pgd_N)
    return Check(
        "fgsm and pgd-20, all images",
        "fgsm must not fool more images than pgd-20",
        f"fgsm alone fools {pair.weaker} of {len(pgd_N)} images, pgd-20 alone {pair.stronger}",
        failed,
    )


def _aa_checks(found: AaLite, attacked: int, total: int) -> list[Check]:
    flat = round(found.zero_gradient * attacked)
    checks = [
        Check(
            "zero gradients, aa-lite",
            "gradients of the cross-entropy must not be exactly zero",
            f"they are at {flat} of {attacked} images",
            not rarely(flat, attacked, rate=RARE),
        )
    ]
    if found.square_alone is not None:
        alone = round(found.square_alone * attacked)
        checks.append(
            Check(
                "black box, aa-lite",
                f"Square must not fool {RARE:.1%} of the images beyond the attacks that see gradients",
                f"it alone fools {alone} of {total} images",
                not rarely(alone, total, rate=RARE),
            )
        )
    return checks


def _told(before: int, sample_N: Tensor, total: int) -> tuple[str, ...]:
    size = int(sample_N.sum())
    if size == before:
        return ()
    if size == 0:
        return (f"restarts did not run: {before} of {total} images met no more than PGD-20",)
    met = f"restarts met {size} images, drawn at random from the {before} of {total} that withstood all before"
    return (f"{met}: the worst case from there on is an estimate, 'at most' counts the others as robust",)


def _part(progress: Progress, low: float, high: float) -> Progress:
    return lambda what, fraction: progress(what, low + (high - low) * fraction)
