"""FAB: the nearest misclassified image, along linearised decision boundaries (Croce and Hein, ICML 2020).

In each step the model is linearised at the iterate, and x_i and the original x are projected, inside the box, onto
the nearest of the hyperplanes on which another class draws level with the label:

    x_{i+1} = clip((1 - alpha)(x_i + eta d_i) + alpha (x + eta d)),   alpha = min(|d_i| / (|d_i| + |d|), alpha_max)

with the steps d_i and d of `hyperplanes`. A misclassified iterate is a candidate, and the next step starts from
x + beta (x_{i+1} - x). Last, three steps of interpolation between x and the nearest candidate bring it nearer.
FAB-T takes one hyperplane, that of a target class; every misclassification is a success for both.
Shapes: B images of n pixels, K classes.
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self

import torch
from torch import Tensor, nn

from trainables.attacks.balls import Norm, at_least_float32, ball_around, surface_noise
from trainables.attacks.checks import check_epsilon, check_finite, check_images, check_labels, check_steps
from trainables.attacks.hyperplanes import step_onto_plane
from trainables.attacks.margins import likeliest_wrong
from trainables.attacks.modes import attacking, outside_inference_mode

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NearestAdversarial", "fab", "fab_nearest"]

ALPHA_MAX, ETA, BETA = 0.1, 1.05, 0.9
FINAL_STEPS = 3
NUM_TARGETS = 9


@dataclass(frozen=True, slots=True)
class NearestAdversarial:
    """Nearest misclassified images that the search reached, by image: upper bounds of the smallest distance.

    x_adv: the misclassified images; where none was reached, x.
    succeeded_B: True if x_adv is misclassified.
    distance_B: the length of the perturbation in the norm of the search; infinite where none was reached.
    """

    x_adv: Tensor
    succeeded_B: Tensor
    distance_B: Tensor

    @classmethod
    def of_clean(cls, x: Tensor, right_B: Tensor) -> Self:
        """Return the state before the search: an image that is already misclassified is its own nearest."""
        return cls(x.clone(), ~right_B, torch.where(right_B, torch.inf, 0.0).to(x.dtype))

    def part(self, index_L: Tensor) -> Self:
        """Return the state of some of the images."""
        return type(self)(self.x_adv[index_L], self.succeeded_B[index_L], self.distance_B[index_L])


@outside_inference_mode
def fab(
    model: nn.Module,
    x: Tensor,
    y_B: Tensor,
    *,
    epsilon: float,
    norm: Norm = "linf",
    targeted: bool = False,
    steps: int = 100,
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the nearest misclassified image that FAB reaches, moved back to the ball's surface if it is outside.

    An image that is already misclassified, or for which no misclassified one was reached, is returned unchanged.
    `targeted` is FAB-T: a run for each of the nine likeliest wrong classes, or for all if the model has fewer.
    The first run starts at x, a restart on a sphere of half the radius (epsilon, or that of the nearest so far).
    Runs stop for an image that is misclassified within epsilon.

    Raises:
        ValueError: epsilon negative or not finite; steps or restarts < 1; an unknown norm; x outside [0, 1], NaN
            or of an integer type; labels of another shape or type; a gradient that is not finite.

    >>> model, x = nn.Linear(2, 2, bias=False), torch.tensor([[0.6, 0.5]])
    >>> model.weight.data.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0]])).shape
    torch.Size([2, 2])
    >>> attacked = fab(model, x, torch.tensor([0]), epsilon=0.1)
    >>> model(attacked).argmax(1), f"{float((attacked - x).abs().max()):.3f}"  # the boundary is 0.05 away
    (tensor([1]), '0.050')
    """
    _check(x, y_B, epsilon=epsilon, norm=norm, steps=steps, restarts=restarts)
    x = at_least_float32(x)
    ball = ball_around(x, epsilon=epsilon, norm=norm)
    if epsilon == 0:
        return x
    settings = _Settings(model, norm, steps, epsilon, generator)
    nearest = _search(settings, x, y_B, targeted=targeted, restarts=restarts, within=epsilon)
    shrink_B = (epsilon / nearest.distance_B).clamp_max(1)
    inside = torch.lerp(x, nearest.x_adv, _wide(shrink_B, x))
    return ball.project(torch.where(_wide(shrink_B < 1, x), inside, nearest.x_adv))


@outside_inference_mode
def fab_nearest(
    model: nn.Module,
    x: Tensor,
    y_B: Tensor,
    *,
    start_radius: float,
    norm: Norm = "linf",
    targeted: bool = False,
    steps: int = 100,
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> NearestAdversarial:
    """Search the nearest misclassified image with no ball around x: every run continues to its last step.

    Restarts begin on a sphere of half of `start_radius`, or of the distance of the nearest image so far.

    Raises:
        ValueError: as `fab`, with start_radius in the place of epsilon.

    >>> model, x = nn.Linear(2, 2, bias=False), torch.tensor([[0.6, 0.5]])
    >>> model.weight.data.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0]])).shape
    torch.Size([2, 2])
    >>> nearest = fab_nearest(model, x, torch.tensor([0]), start_radius=0.1, norm="l2")
    >>> nearest.succeeded_B, f"{float(nearest.distance_B):.3f}"  # 0.1 / sqrt(2)
    (tensor([True]), '0.071')
    """
    _check(x, y_B, epsilon=start_radius, norm=norm, steps=steps, restarts=restarts)
    ball_around(x, epsilon=start_radius, norm=norm)  # rejects an unknown norm
    settings = _Settings(model, norm, steps, start_radius, generator)
    return _search(settings, at_least_float32(x), y_B, targeted=targeted, restarts=restarts, within=0.0)


@dataclass(frozen=True, slots=True)
class _Settings:
    """Settings that all runs of one attack share."""

    model: nn.Module
    norm: Norm
    steps: int
    start_radius: float
    generator: torch.Generator | None

    def length(self, delta: Tensor) -> Tensor:
        """Return the length of each perturbation (B,)."""
        order = torch.inf if self.norm == "linf" else 2
        length_B: Tensor = torch.linalg.vector_norm(delta.flatten(1), order, dim=1)
        return length_B

    def dual_length(self, gradient: Tensor) -> Tensor:
        """Return the largest change of a linear function over the unit ball (B,), without squares that overflow."""
        flat_Bn = gradient.flatten(1)
        largest_B = flat_Bn.abs().amax(1).clamp_min(torch.finfo(flat_Bn.dtype).tiny)
        order = 1 if self.norm == "linf" else 2
        length_B: Tensor = largest_B * torch.linalg.vector_norm(flat_Bn / largest_B[:, None], order, dim=1)
        return length_B


class _Plane(NamedTuple):
    """Linear approximation of z_k - z_y of one class k for each image: its value and its gradient at the iterate."""

    value_B: Tensor
    normal: Tensor


def _search(
    settings: _Settings, x: Tensor, y_B: Tensor, *, targeted: bool, restarts: int, within: float
) -> NearestAdversarial:
    with attacking(settings.model, device=x.device):
        logits_BK = _logits(settings.model, x)
        nearest = NearestAdversarial.of_clean(x, logits_BK.argmax(1) == y_B)
        targets: Sequence[Tensor | None] = [None]
        if targeted:
            targets = likeliest_wrong(logits_BK, y_B, number=NUM_TARGETS).unbind(1)
        for restart in range(restarts):
            for target_B in targets:
                (left_B,) = (nearest.distance_B > within).nonzero(as_tuple=True)
                if not len(left_B):
                    return nearest
                target_L = None if target_B is None else target_B[left_B]
                result = _run(settings, x[left_B], y_B[left_B], target_L, nearest.part(left_B), at_random=restart > 0)
                nearest.x_adv[left_B], nearest.succeeded_B[left_B] = result.x_adv, result.succeeded_B
                nearest.distance_B[left_B] = result.distance_B
    return nearest


def _run(
    settings: _Settings, x: Tensor, y_B: Tensor, target_B: Tensor | None, best: NearestAdversarial, *, at_random: bool
) -> NearestAdversarial:
    """Run from x, or from a random start; return the nearest misclassified images of this run and of those before."""
    iterate = _random_start(settings, x, best.distance_B) if at_random else x
    for _ in range(settings.steps):
        iterate = _biased_step(settings, x, iterate, _plane(settings, iterate, y_B, target_B))
        fooled_B = _logits(settings.model, iterate).argmax(1) != y_B
        best = _nearer(best, iterate, settings.length(iterate - x), fooled_B)
        iterate = torch.where(_wide(fooled_B, x), x + BETA * (iterate - x), iterate)
    check_finite(iterate)
    return _final_search(settings, x, y_B, best)


def _random_start(settings: _Settings, x: Tensor, distance_B: Tensor) -> Tensor:
    noise = surface_noise(x, epsilon=1.0, norm=settings.norm, generator=settings.generator)
    return (x + noise * _wide(distance_B.clamp_max(settings.start_radius) / 2, x)).clamp(0, 1)


def _plane(settings: _Settings, iterate: Tensor, y_B: Tensor, target_B: Tensor | None) -> _Plane:
    if target_B is None:
        return _nearest_plane(settings, iterate, y_B)
    return _target_plane(settings, iterate, y_B, target_B)


def _nearest_plane(settings: _Settings, iterate: Tensor, y_B: Tensor) -> _Plane:
    """Return the hyperplane that is nearest to the iterate, by image: one gradient for each class."""
    leaf = iterate.detach().requires_grad_()
    lead_BK = _lead(settings.model(leaf), y_B)
    nearest_B = torch.full_like(lead_BK[:, 0], torch.inf)
    value_B, normal = torch.zeros_like(nearest_B), torch.zeros_like(iterate)
    for label, lead_B in enumerate(lead_BK.unbind(1)):
        (gradient,) = torch.autograd.grad(lead_B.sum(), leaf, retain_graph=True)
        reach_B = settings.dual_length(gradient)
        distance_B = torch.where((reach_B > 0) & (y_B != label), lead_B.detach().abs() / reach_B, torch.inf)
        # A gradient that is not finite must show: it spoils the iterate, which is checked.
        distance_B = torch.where(reach_B.isfinite(), distance_B, -torch.inf)
        nearer_B = distance_B < nearest_B
        nearest_B = torch.where(nearer_B, distance_B, nearest_B)
        value_B = torch.where(nearer_B, lead_B.detach(), value_B)
        normal = torch.where(_wide(nearer_B, normal), gradient, normal)
    return _Plane(value_B, normal)


def _target_plane(settings: _Settings, iterate: Tensor, y_B: Tensor, target_B: Tensor) -> _Plane:
    leaf = iterate.detach().requires_grad_()
    value_B = _lead(settings.model(leaf), y_B).gather(1, target_B[:, None])[:, 0]
    (gradient,) = torch.autograd.grad(value_B.sum(), leaf)
    return _Plane(value_B.detach(), gradient)


def _biased_step(settings: _Settings, x: Tensor, iterate: Tensor, plane: _Plane) -> Tensor:
    normal_Bn = plane.normal.flatten(1)
    from_x_B = plane.value_B + (normal_Bn * (x - iterate).flatten(1)).sum(1)
    onto = partial(step_onto_plane, normal_Bn=normal_Bn, norm=settings.norm)
    step = onto(iterate.flatten(1), value_B=plane.value_B).reshape(x.shape)
    step_x = onto(x.flatten(1), value_B=from_x_B).reshape(x.shape)
    length_B, length_x_B = settings.length(step), settings.length(step_x)
    smallest = torch.finfo(x.dtype).tiny
    alpha = _wide((length_B / (length_B + length_x_B).clamp_min(smallest)).clamp_max(ALPHA_MAX), x)
    return ((1 - alpha) * (iterate + ETA * step) + alpha * (x + ETA * step_x)).clamp(0, 1)


def _nearer(best: NearestAdversarial, images: Tensor, distance_B: Tensor, fooled_B: Tensor) -> NearestAdversarial:
    nearer_B = fooled_B & (distance_B < best.distance_B)
    return NearestAdversarial(
        torch.where(_wide(nearer_B, images), images, best.x_adv),
        best.succeeded_B | nearer_B,
        torch.where(nearer_B, distance_B, best.distance_B),
    )


def _final_search(settings: _Settings, x: Tensor, y_B: Tensor, best: NearestAdversarial) -> NearestAdversarial:
    """Interpolate between x and the nearest image to where the two classes draw level, three times."""
    right, wrong = x, best.x_adv
    right_BK, wrong_BK = (_logits(settings.model, images) for images in (right, wrong))
    for _ in range(FINAL_STEPS):
        rival_B1 = wrong_BK.argmax(1, keepdim=True)
        ahead_B, behind_B = (-_lead(logits, y_B).gather(1, rival_B1)[:, 0] for logits in (right_BK, wrong_BK))
        share_B = ahead_B / (ahead_B - behind_B)
        share_B = torch.where((share_B >= 0) & (share_B <= 1), share_B, 1)
        between = torch.lerp(right, wrong, _wide(share_B, x)).clamp(0, 1)
        between_BK = _logits(settings.model, between)
        fooled_B = between_BK.argmax(1) != y_B
        fooled, fooled_B1 = _wide(fooled_B, x), fooled_B[:, None]
        right, wrong = torch.where(fooled, right, between), torch.where(fooled, between, wrong)
        right_BK, wrong_BK = (
            torch.where(fooled_B1, right_BK, between_BK),
            torch.where(fooled_B1, between_BK, wrong_BK),
        )
        best = _nearer(best, between, settings.length(between - x), fooled_B)
    return best


def _lead(logits_BK: Tensor, y_B: Tensor) -> Tensor:
    """Return z_k - z_y (B, K)."""
    return logits_BK - logits_BK.gather(1, y_B[:, None])


@torch.no_grad()
def _logits(model: nn.Module, x: Tensor) -> Tensor:
    logits_BK: Tensor = model(x)
    return logits_BK


def _wide(values_B: Tensor, images: Tensor) -> Tensor:
    return values_B.reshape(-1, *[1] * (images.dim() - 1))


def _check(x: Tensor, y_B: Tensor, *, epsilon: float, norm: Norm, **counts: int) -> None:
    check_epsilon(epsilon, norm=norm)
    check_images(x)
    check_labels(y_B, x=x)
    check_steps(**counts)
