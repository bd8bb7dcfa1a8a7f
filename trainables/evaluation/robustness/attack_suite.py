"""Suite `robust`: accuracy under attacks of growing strength, with red flags, accuracy over epsilon and distortion.

Accuracy under attack is only an upper bound, and only where no red flag of masking is raised.
Shapes: N images.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from trainables.attacks import Norm, aa_lite, autoattack
from trainables.evaluation.core.evaluation_attack import unattacked, withstands
from trainables.evaluation.core.intervals import RARE, mcnemar_test, plausible, wilson
from trainables.evaluation.core.prediction import as_pixels, logits, within
from trainables.evaluation.core.results import EvaluationBudget, Progress, Result, Subject, no_progress
from trainables.evaluation.robustness.accuracy_over_radius import accuracy_curve
from trainables.evaluation.robustness.attack_stages import CLEAN, AccuracyUnderAttack, AttackStage
from trainables.evaluation.robustness.distortion import minimum_distortion
from trainables.evaluation.robustness.gradient_ascent import ascent, start_noise
from trainables.evaluation.robustness.gradient_masking import MASKING_IMAGES, Check, masking, raised
from trainables.seeding import generator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trainables.attacks import EnsembleResult
    from trainables.data import Split

__all__ = ["accuracy_under_attack", "suite"]

RESTARTED: Final = "pgd-50x10"
AA_LITE: Final = "aa-lite"
AUTOATTACK: Final = "autoattack"
CURVE_IMAGES: Final = 200

_RESTARTS: Final = 10
_Z_TWO: Final = 2.241402727604947  # each of two intervals at 97.5 %, so that both hold in 95 %
_AA_CLASSES: Final = 4


def accuracy_under_attack(
    model: nn.Module,
    split: Split,
    *,
    epsilon: float,
    budget: EvaluationBudget,
    norm: Norm = "linf",
    seed: int = 0,
    refusals: tuple[str, ...] = (),
    progress: Progress = no_progress,
) -> AccuracyUnderAttack:
    """Measure accuracy on clean images, under FGSM, PGD-20, PGD-50 with ten restarts, and ensembles of the budget.

    The restarts meet only images that withstood all previous attacks: at most `budget.restart_images` of them, a
    random sample. Then the worst case is (images that withstood the previous attacks) x (fraction of the sample that
    withstands the restarts too), which is unbiased for restarts on all of them. It is never above `at_most`, which
    counts the images that did not meet the restarts by the result of the attacks they met.
    """
    noise_NCHW = start_noise(split, norm=norm, seed=seed, purpose="pgd-20")
    fgsm = ascent(model, epsilon=epsilon, norm=norm, steps=1, step_size=epsilon)
    pgd = ascent(model, epsilon=epsilon, norm=norm, steps=20, noise_NCHW=noise_NCHW)

    progress("attacks: fgsm", 0.0)
    right_N = withstands(split, unattacked(model))
    fgsm_N = withstands(split, fgsm, among_N=right_N)
    progress("attacks: pgd-20", 0.1)
    pgd_N = withstands(split, pgd, among_N=right_N)
    holds_N, attacked = fgsm_N & pgd_N, int(right_N.sum())
    stages = [
        _counted(CLEAN, len(split), right_N, right_N),
        _counted("fgsm", attacked, fgsm_N, fgsm_N),
        _counted("pgd-20", attacked, pgd_N, holds_N),
    ]
    checks = [_fgsm_and_pgd(fgsm_N, pgd_N)]
    before, sample_N = int(holds_N.sum()), _sample(holds_N, size=budget.restart_images, seed=seed)
    limits = _sampling_limits(before, sample_N, len(split))

    if budget.restart_images > 0:
        for restart in range(_RESTARTS):
            progress(f"attacks: pgd-50, restart {restart + 1} of {_RESTARTS}", 0.2 + 0.03 * restart)
            noise_NCHW = start_noise(split, norm=norm, seed=seed, purpose=f"pgd-50, restart {restart}")
            pgd = ascent(model, epsilon=epsilon, norm=norm, steps=50, noise_NCHW=noise_NCHW)
            holds_N &= withstands(split, pgd, among_N=holds_N & sample_N) | ~sample_N
        stages.append(_restarted(RESTARTED, int(sample_N.sum()), holds_N, sample_N, before=before))

    if not (budget.aa_lite or budget.autoattack):
        limits = (*limits, "AA-lite did not run: the worst case is over FGSM and PGD alone")
    for name, title in _ensembles(budget):
        if (classes := logits(model, split.take(torch.tensor([0]))).shape[1]) < _AA_CLASSES:
            limits = (*limits, f"{title} did not run: it needs {_AA_CLASSES} classes, got {classes}")
            continue
        left_N = holds_N.nonzero()[:, 0]
        if len(left_N):
            progress(f"attacks: {name}", 0.5)
            left, attack = split.take(left_N), {AA_LITE: aa_lite, AUTOATTACK: autoattack}[name]
            result = attack(model, as_pixels(left.images_NCHW), left.labels_N, epsilon=epsilon, seed=seed, norm=norm)
            holds_N = holds_N.index_put((left_N,), result.robust_B)
            checks += _ensemble_checks(result, name, len(left), len(split))
        stages.append(_restarted(name, len(left_N), holds_N, sample_N, before=before))
    progress("attacks", 1.0)
    return AccuracyUnderAttack(epsilon, norm, len(split), tuple(stages), (*refusals, *raised(checks)), limits)


def suite(subject: Subject, budget: EvaluationBudget, progress: Progress, /) -> Mapping[str, Result]:
    """Run the red flags first: if one is raised, the claims of all later analyses are refused.

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
    under_attack = accuracy_under_attack(
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
        refusals=under_attack.refusals,
        progress=_part(progress, 0.5, 0.65),
    )
    distortion = minimum_distortion(
        model,
        split,
        images=budget.distortion_images,
        seed=seed,
        refusals=under_attack.refusals,
        progress=_part(progress, 0.65, 1.0),
    )
    return {
        "masking": replace(flags, limits=(*few_limits, *flags.limits)),
        "ladder": replace(under_attack, limits=(*limits, *under_attack.limits)),
        "curve": replace(curve, limits=(*limits, *some_limits, *curve.limits)),
        "distortion": replace(distortion, limits=(*limits, *distortion.limits)),
    }


def _sample(holds_N: Tensor, *, size: int, seed: int) -> Tensor:
    """Sample the images that still withstand, as flags (N,); all of them if there are no more than `size`."""
    left_S = holds_N.nonzero()[:, 0]
    order_S = torch.randperm(len(left_S), generator=generator(seed, "images with restarts")).to(left_S.device)
    return torch.zeros_like(holds_N).index_fill_(0, left_S[order_S[:size]], value=True)


def _counted(attack: str, attacked: int, alone_N: Tensor, holds_N: Tensor) -> AttackStage:
    total, kept = len(holds_N), int(holds_N.sum())
    accuracy, worst = int(alone_N.sum()) / total, kept / total
    return AttackStage(attack, attacked, accuracy, worst, *wilson(kept, total), at_most=worst, estimated=False)


def _restarted(attack: str, attacked: int, holds_N: Tensor, sample_N: Tensor, *, before: int) -> AttackStage:
    """Return the worst case after restarts on a sample of the `before` images that withstood the previous attacks."""
    total, size, kept = len(holds_N), int(sample_N.sum()), int((holds_N & sample_N).sum())
    if size in {0, before}:
        return _counted(attack, attacked, holds_N, holds_N)
    at_most = int(holds_N.sum()) / total
    worst = min(before / total * kept / size, at_most)
    (low, high), (low_share, high_share) = wilson(before, total, z=_Z_TWO), wilson(kept, size, z=_Z_TWO)
    return AttackStage(
        attack, attacked, worst, worst, min(low * low_share, worst), high * high_share, at_most, estimated=True
    )


def _fgsm_and_pgd(fgsm_N: Tensor, pgd_N: Tensor) -> Check:
    pair, failed = mcnemar_test(fgsm_N, pgd_N)
    return Check(
        "fgsm and pgd-20, all images",
        "fgsm must not fool more images than pgd-20",
        f"fgsm alone fools {pair.weaker} of {len(pgd_N)} images, pgd-20 alone {pair.stronger}",
        failed,
    )


def _ensembles(budget: EvaluationBudget) -> Iterator[tuple[str, str]]:
    """Yield the name and the title of each ensemble that the budget has; the later one meets what withstood."""
    if budget.aa_lite:
        yield AA_LITE, "AA-lite"
    if budget.autoattack:
        yield AUTOATTACK, "AutoAttack"


def _ensemble_checks(result: EnsembleResult, name: str, attacked: int, total: int) -> list[Check]:
    flat = round(result.zero_gradient * attacked)
    checks = [
        Check(
            f"zero gradients, {name}",
            "gradients of the cross-entropy must not be exactly zero",
            f"they are at {flat} of {attacked} images",
            not plausible(flat, attacked, rate=RARE),
        )
    ]
    if result.square_alone is not None:
        alone = round(result.square_alone * attacked)
        checks.append(
            Check(
                f"black box, {name}",
                f"Square must not fool {RARE:.1%} of the images beyond the attacks that see gradients",
                f"it alone fools {alone} of {total} images",
                not plausible(alone, total, rate=RARE),
            )
        )
    return checks


def _sampling_limits(before: int, sample_N: Tensor, total: int) -> tuple[str, ...]:
    size = int(sample_N.sum())
    if size == before:
        return ()
    if size == 0:
        return (f"restarts did not run: {before} of {total} images met no more than PGD-20",)
    met = f"restarts met {size} images, sampled from the {before} of {total} that withstood the previous attacks"
    return (f"{met}: the worst case from here on is an estimate, 'at most' counts the other images as robust",)


def _part(progress: Progress, low: float, high: float) -> Progress:
    return lambda step, fraction: progress(step, low + (high - low) * fraction)
