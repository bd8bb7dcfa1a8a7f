"""Term of one layer in the training loss: the loss at the temperature that a mode chooses.

The temperature always moves to *minimise* the loss of the batch, whatever the sign of its weight in the
objective, and no gradient flows through it. Shapes: B points, D features, A anchors.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from trainables.errors import short_repr
from trainables.snnl.composition import batch_composition
from trainables.snnl.curve import LossCurve, curve_of, gradient_steps, minimising_log_beta
from trainables.snnl.distances import Distance, full_precision, pairwise_distances, place, require_labels, require_pair
from trainables.snnl.functions import BLOCK, MATRIX_LIMIT, BlockLoss, MatrixLoss
from trainables.snnl.loss import require_inverse, require_temperature
from trainables.snnl.sample import Sample, all_rows, measured_rows

__all__ = [
    "LearnedTemperature",
    "TemperatureMode",
    "TrainingTerm",
    "choose_beta",
    "require_mode",
    "training_term",
]

TemperatureMode = Literal["minimised", "learned", "relative", "absolute"]
OwnCompany = Callable[[Tensor], Tensor]

# Limit of a learned log beta around its origin: a temperature off by e^8 no longer fits the data.
_SPAN = 8.0
# Largest number of pairs, and smallest number of anchors, for a choice of temperature.
_COARSE_PAIRS, _COARSE_ANCHORS = 2**15, 32
_FINE_PAIRS, _FINE_ANCHORS = 2**18, 512


@dataclass(frozen=True, slots=True)
class LearnedTemperature:
    """Learned log(1 / T) of one layer, and its initial value: 0-d tensors on the features' device.

    It persists from batch to batch. It is part of a checkpoint, but not of the optimizer.
    """

    log_beta: Tensor
    origin: Tensor


@dataclass(frozen=True, slots=True)
class TrainingTerm:
    """Loss (0-d, differentiable in the features), and the temperature to pass to the next batch."""

    loss: Tensor
    learned: LearnedTemperature | None


def training_term(
    features_BD: Tensor,
    labels_B: Tensor,
    *,
    mode: TemperatureMode,
    temperature: float = 1.0,
    distance: Distance = "sqeuclidean",
    learned: LearnedTemperature | None = None,
) -> TrainingTerm:
    """Compute the loss at the temperature that `mode` chooses.

    `minimised`: the minimising temperature of this batch, within its data scale, or an infinite one if
    that is better (so the loss never exceeds chance). `learned`: three clipped gradient steps on
    log(1 / T) from `learned`, downhill on this batch; from 1 / median distance where `learned` is None.
    Both ignore `temperature`. `relative`: `temperature` times the median pairwise distance.
    `absolute`: `temperature`. Beyond 1,024 points a median is that of 512 anchors' distances to all points.
    Pairs of points that coincide have no part in a median. Where all points coincide, the loss of every mode but
    `absolute` is the chance level, with no gradient, and a learned temperature begins at a later batch.

    Raises:
        ValueError: as `soft_nearest_neighbor_loss`; an unknown mode; fewer than two points, unless the
            mode is absolute; a learned temperature for another mode.

    >>> x, y = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64), torch.tensor([0, 0, 1])
    >>> first = training_term(x, y, mode="learned")
    >>> second = training_term(x, y, mode="learned", learned=first.learned)
    >>> float(second.loss) < float(first.loss)
    True
    """
    require_mode(mode, temperature=temperature, learned=learned)
    require_labels(features_BD, labels_B)
    require_inverse(temperature, features_BD)
    if mode != "absolute":
        require_pair(features_BD)
    points = place(features_BD, distance)
    choice = {"mode": mode, "temperature": temperature, "learned": learned}
    if len(labels_B) > MATRIX_LIMIT:
        beta, learned = _choice(measured_rows(points.detached()), labels_B, **choice)
        loss = BlockLoss.of(points, labels_B, beta, block=BLOCK)
    else:
        distances_BB = pairwise_distances(points)
        beta, learned = _choice(all_rows(distances_BB, points), labels_B, **choice)
        loss = MatrixLoss.of(points, labels_B, beta, distances_BB=distances_BB)
    return TrainingTerm(_at_most_chance(loss, labels_B) if mode == "minimised" else loss, learned)


@torch.no_grad()
def choose_beta(
    sample: Sample, own_of: OwnCompany, *, mode: TemperatureMode, temperature: float, learned: LearnedTemperature | None
) -> tuple[Tensor, LearnedTemperature | None]:
    """Return 1 / T, 0-d, and the learned temperature to pass on; `own_of` weighs points of the anchors' class."""
    with full_precision(sample.distances_AB.device):
        match mode:
            case "absolute":
                return sample.distances_AB.new_full((), 1 / temperature), None
            case "relative":
                return _finite(1 / (temperature * sample.median())), None
            case "minimised":
                return _minimising_beta(sample, own_of), None
            case "learned":
                moved = _moved(sample, own_of, learned)
                return _finite(moved.log_beta.exp()), moved


def require_mode(mode: TemperatureMode, *, temperature: float, learned: LearnedTemperature | None) -> None:
    """Reject a mode with arguments that do not belong to it.

    Raises:
        ValueError: an unknown mode, a temperature <= 0, a learned temperature for another mode.
    """
    require_temperature(temperature)
    if mode not in get_args(TemperatureMode):
        raise ValueError(
            f"mode: must be one of {', '.join(map(repr, get_args(TemperatureMode)))}, got {short_repr(mode)}"
        )
    if learned is not None and mode != "learned":
        raise ValueError(f"learned: belongs to mode 'learned' alone, got it with mode {mode!r}; leave it out")


def _choice(sample: Sample, labels_B: Tensor, **choice: Any) -> tuple[Tensor, LearnedTemperature | None]:
    def own_of(anchors_A: Tensor) -> Tensor:
        return (labels_B[anchors_A, None] == labels_B).to(sample.distances_AB.dtype)

    return choose_beta(sample, own_of, **choice)


def _finite(beta: Tensor) -> Tensor:
    """Keep 1 / T below infinity, which has no product with a distance of 0."""
    return beta.clamp_max(torch.finfo(beta.dtype).max)


def _minimising_beta(sample: Sample, own_of: OwnCompany) -> Tensor:
    """Return 1 / T, or 0 where all points coincide."""
    coarse = sample.thinned(_COARSE_PAIRS, at_least=_COARSE_ANCHORS)
    fine = sample.thinned(_FINE_PAIRS, at_least=_FINE_ANCHORS)
    low, high = coarse.log_beta_range()
    theta = minimising_log_beta(_curve(coarse, own_of), _curve(fine, own_of), low=low, high=high)
    return _finite(theta.exp()).where(coarse.has_scale(), 0)


def _moved(sample: Sample, own_of: OwnCompany, learned: LearnedTemperature | None) -> LearnedTemperature:
    """Return the learned temperature after its steps; it begins at the first batch whose points do not all coincide."""
    if learned is None:
        origin = -sample.median().log()
        learned = LearnedTemperature(origin, origin)
    else:
        begun = learned.origin.isfinite()
        origin = -sample.thinned(_COARSE_PAIRS, at_least=_COARSE_ANCHORS).median().log()
        learned = LearnedTemperature(learned.log_beta.where(begun, origin), learned.origin.where(begun, origin))
    curve = _curve(sample.thinned(_FINE_PAIRS, at_least=_FINE_ANCHORS), own_of)
    low, high = learned.origin - _SPAN, learned.origin + _SPAN
    return replace(learned, log_beta=gradient_steps(curve, learned.log_beta, low=low, high=high))


def _curve(sample: Sample, own_of: OwnCompany) -> LossCurve:
    return curve_of(sample.distances_AB, own_of(sample.anchors_A), sample.anchors_A)


def _at_most_chance(loss: Tensor, labels_B: Tensor) -> Tensor:
    """Limit the loss to chance, which an infinite temperature gives, with no gradient."""
    return torch.minimum(loss, batch_composition(labels_B)[0].to(loss.dtype))
