"""Adaptive attack on deep nearest neighbours: pull representations towards neighbours of another class.

FGSM and BIM climb the network's own loss, which does not enter the vote of the neighbours. Here, as in
Sitawarin and Wagner (DLS 2019; arXiv 2003.06559), the guides of an image are its m nearest training
images of its own class and of another one, at each tap, and the steps climb

    sum over taps of  LSE_{i of the other class}(-d_i / T) - LSE_{j of its own}(-d_j / T),

the log-odds of the soft nearest neighbour loss, projected into the ball. Each round finds new guides for the current
image. Of all rounds and starts the attack keeps an image that the neighbours misclassify, and among these the most
credible one.

Shapes: N images, L taps, m guides, K classes, D features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from trainables.attacks import Norm, pgd
from trainables.attacks.balls import ball_around
from trainables.attacks.gradient import ascend
from trainables.attacks.modes import attacking
from trainables.config.adversarial import pgd_step_size
from trainables.evaluation.uncertainty.conformal import ConformalPrediction
from trainables.evaluation.uncertainty.dknn import DeepNearestNeighbors
from trainables.evaluation.uncertainty.neighbours import NeighbourBank, nearest

__all__ = ["NETWORK_ATTACKS", "AttackEffort", "Candidate", "attack_neighbors", "attack_network"]


NETWORK_ATTACKS: Final[Mapping[str, int]] = MappingProxyType({"fgsm": 1, "bim": 10})
"""Number of steps of the attacks on the network's own loss, by name."""


@dataclass(frozen=True, slots=True)
class AttackEffort:
    """Effort of the attack.

    rounds: number of times that guides are searched; steps: gradient steps of a round, each of `relative_step` *
    epsilon, halved after each third of the rounds. guides: number of guides of each class at each tap. temperature:
    that of the soft neighbours, in units of the mean distance to an image's guides.

    Raises:
        ValueError: a number that is not positive.
    """

    rounds: int = 6
    steps: int = 8
    relative_step: float = 0.2
    guides: int = 75
    temperature: float = 0.3

    def __post_init__(self) -> None:
        for name in ("rounds", "steps", "relative_step", "guides", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: must be > 0, got {getattr(self, name)}")


class Candidate(NamedTuple):
    """Attacked images, the predictions of the neighbours, and flags (N,) of images no longer predicted correctly."""

    x_NCHW: Tensor
    prediction: ConformalPrediction
    fooled_N: Tensor


class _Guides(NamedTuple):
    """Placed rows (N, m, D) of one tap: of the class to go to, and of the image's own."""

    bank: NeighbourBank
    other_NmD: Tensor
    own_NmD: Tensor


def attack_network(model: nn.Module, x_NCHW: Tensor, y_N: Tensor, *, epsilon: float, norm: Norm, steps: int) -> Tensor:
    """Attack the network's loss alone by FGSM (one step of epsilon) or BIM (PGD, steps of `pgd_step_size`).

    >>> x, y = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])
    >>> attacked = attack_network(nn.Sequential(nn.Flatten(), nn.Linear(2, 2)), x, y, epsilon=0.1, norm="linf", steps=1)
    >>> f"{float((attacked - x).abs().max()):.3f}"
    '0.100'
    """
    step_size = min(epsilon, pgd_step_size(epsilon, steps=steps))
    return pgd(model, x_NCHW, y_N, epsilon=epsilon, norm=norm, steps=steps, step_size=step_size, random_start=False)


def attack_neighbors(
    detector: DeepNearestNeighbors,
    x_NCHW: Tensor,
    y_N: Tensor,
    *,
    epsilon: float,
    norm: Norm = "linf",
    effort: AttackEffort | None = None,
) -> Candidate:
    """Search the worst image in the ball around each image, from two starts: the image itself, and BIM's result.

    The attack is deterministic. The images of FGSM and BIM are candidates too, so it is never weaker than they are.

    Raises:
        ValueError: as `pgd`, or a bank of one class only.
    """
    settings = AttackEffort() if effort is None else effort
    if bool((detector.labels_M == detector.labels_M[0]).all()):
        raise ValueError(f"bank: must hold at least two classes to be attacked, got {int(detector.labels_M[0])} only")
    best = _candidate(detector, x_NCHW, y_N)
    if epsilon == 0:
        return best
    climbed = {
        name: attack_network(detector.model, x_NCHW, y_N, epsilon=epsilon, norm=norm, steps=steps)
        for name, steps in NETWORK_ATTACKS.items()
    }
    best = _more_fooling(best, _candidate(detector, climbed["fgsm"], y_N), y_N)
    for start_NCHW in (x_NCHW, climbed["bim"]):
        current = _candidate(detector, start_NCHW, y_N)
        best = _more_fooling(best, current, y_N)
        for round_ in range(settings.rounds):
            step_size = settings.relative_step * epsilon / 2 ** (3 * round_ // settings.rounds)
            moved = _round(
                detector, current, x_NCHW, y_N, epsilon=epsilon, norm=norm, step_size=step_size, effort=settings
            )
            current = _candidate(detector, moved, y_N)
            best = _more_fooling(best, current, y_N)
    return best


def _round(
    detector: DeepNearestNeighbors,
    current: Candidate,
    x_NCHW: Tensor,
    y_N: Tensor,
    *,
    epsilon: float,
    norm: Norm,
    step_size: float,
    effort: AttackEffort,
) -> Tensor:
    """Step towards the guides of the current images."""
    target_N = _conforming_other(current.prediction.alpha_NK, current.prediction.logits_NK, detector, y_N)
    guides = _all_guides(detector, current.x_NCHW, y_N, target_N, number=effort.guides)

    def log_odds(images_NCHW: Tensor) -> Tensor:
        read = detector.model.features(images_NCHW, taps=detector.taps).taps
        odds = [_tap_log_odds(read[tap], guides[tap], temperature=effort.temperature) for tap in detector.taps]
        return torch.stack(odds).sum()

    with attacking(detector.model, device=x_NCHW.device):
        ball = ball_around(x_NCHW, epsilon=epsilon, norm=norm)
        return ascend(log_odds, current.x_NCHW, ball=ball, steps=effort.steps, step_size=step_size)


def _tap_log_odds(features_NX: Tensor, guides: _Guides, *, temperature: float) -> Tensor:
    row_ND = guides.bank.place(features_NX)
    other_Nm, own_Nm = (_distances(row_ND, rows_NmD, bank=guides.bank) for rows_NmD in guides[1:])
    scale_N1 = temperature * torch.cat([other_Nm, own_Nm], dim=1).detach().mean(1, keepdim=True)
    scale_N1 = scale_N1.clamp_min(torch.finfo(scale_N1.dtype).tiny)
    return ((-other_Nm / scale_N1).logsumexp(1) - (-own_Nm / scale_N1).logsumexp(1)).sum()


def _distances(row_ND: Tensor, rows_NmD: Tensor, *, bank: NeighbourBank) -> Tensor:
    if bank.distance == "cosine":
        return 1 - torch.einsum("nd,nmd->nm", row_ND, rows_NmD)
    return (row_ND[:, None] - rows_NmD).square().sum(2)


def _conforming_other(alpha_NK: Tensor, logits_NK: Tensor, detector: DeepNearestNeighbors, y_N: Tensor) -> Tensor:
    """Return the wrong class of most votes, of several the one of largest logit; only classes that the bank has."""
    present_K = torch.zeros(alpha_NK.shape[1], dtype=torch.bool, device=y_N.device)
    present_K[detector.labels_M] = True
    wrong_NK = present_K.expand_as(alpha_NK).scatter(1, y_N[:, None], value=False)
    ranked_NK = alpha_NK.masked_fill(~wrong_NK, torch.iinfo(alpha_NK.dtype).max)
    least_NK = ranked_NK == ranked_NK.amin(1, keepdim=True)
    return logits_NK.masked_fill(~least_NK, -torch.inf).argmax(1)


@torch.no_grad()
def _all_guides(
    detector: DeepNearestNeighbors, x_NCHW: Tensor, y_N: Tensor, target_N: Tensor, *, number: int
) -> dict[str, _Guides]:
    with attacking(detector.model, device=x_NCHW.device), torch.no_grad():
        read = detector.model.features(x_NCHW, taps=detector.taps).taps
    return {
        tap: _Guides(
            bank,
            _of_class(bank, read[tap], target_N, labels_M=detector.labels_M, number=number),
            _of_class(bank, read[tap], y_N, labels_M=detector.labels_M, number=number),
        )
        for tap, bank in detector.banks.items()
    }


def _of_class(bank: NeighbourBank, features_NX: Tensor, class_N: Tensor, *, labels_M: Tensor, number: int) -> Tensor:
    """Return the rows of each image's class that are nearest to it, (N, m, D); equally many of each class."""
    sizes = [int((labels_M == label).sum()) for label in torch.unique(class_N).tolist()]
    if 0 in sizes:
        raise ValueError("bank: must hold images of each attacked image's own class, and one class has none")
    m = min(number, *sizes)
    rows_NmD = bank.rows_MD.new_empty(len(class_N), m, bank.rows_MD.shape[1])
    for label in torch.unique(class_N).tolist():
        images, members = class_N == label, bank.take((labels_M == label).nonzero()[:, 0])
        rows_NmD[images] = members.rows_MD[nearest(members, features_NX[images], k=m).indices_Qk]
    return rows_NmD


def _candidate(detector: DeepNearestNeighbors, x_NCHW: Tensor, y_N: Tensor) -> Candidate:
    prediction = detector.predict_pixels(x_NCHW)
    return Candidate(x_NCHW, prediction, prediction.prediction_N != y_N)


def _more_fooling(first: Candidate, second: Candidate, y_N: Tensor) -> Candidate:
    """Select the candidate of the higher score for each image; `first` if both are equal."""
    take_N = _score(second, y_N) > _score(first, y_N)
    x_NCHW = torch.where(take_N.reshape(-1, *[1] * (first.x_NCHW.dim() - 1)), second.x_NCHW, first.x_NCHW)
    prediction = first.prediction.where(~take_N, second.prediction)
    return Candidate(x_NCHW, prediction, prediction.prediction_N != y_N)


def _score(attempt: Candidate, y_N: Tensor) -> Tensor:
    """Score misclassified images by 1 + credibility, and the rest below 0: the lower, the more the true class leads."""
    alpha_NK = attempt.prediction.alpha_NK.double()
    own_N = alpha_NK.gather(1, y_N[:, None])[:, 0]
    other_N = alpha_NK.scatter(1, y_N[:, None], torch.inf).amin(1)
    return torch.where(attempt.fooled_N, 1 + attempt.prediction.credibility_N, own_N - other_N - 1)
