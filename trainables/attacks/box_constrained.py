"""Upper bound of the smallest perturbation that makes a model predict a target class: box-constrained L-BFGS.

Szegedy et al., ICLR 2014, section 4.1: minimise ||r|| subject to f(x + r) = l and x + r in [0, 1]^n,
by way of

    minimise  c CE(f(x + r), l) + ||r||_2^2   subject to  x + r in [0, 1]^n

for the smallest c whose minimiser is classified as l. (The paper puts c in front of |r|, and
searches the largest c.) The squared norm is used because |r| has no gradient at the start, r = 0.
With more than two classes the bound is not tight even on a linear model, where it was up to a tenth above the exact
minimum: the cross-entropy also pushes the other classes down, which a smallest perturbation need not do.
Shapes: B images of n pixels, K classes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from trainables.attacks.balls import at_least_float32
from trainables.attacks.checks import check_images, check_labels, check_step_size, check_steps
from trainables.attacks.modes import attacking, outside_inference_mode

__all__ = ["MinimumDistortion", "amplify", "box_minimum", "lbfgs", "objective"]

Vector = NDArray[np.float64]
Classifier = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class MinimumDistortion:
    """Smallest perturbations that the search reached, by image: upper bounds of the smallest that exist.

    x_adv: the perturbed images; a failure is x, which is not adversarial.
    succeeded_B: True if the model classifies x_adv as the target; average over these images only.
    distortion_B: root mean square of the perturbation over pixels, an upper bound; NaN where the search failed.
    constant_B: the smallest c that succeeded, NaN where the search failed; 0 where no perturbation is needed.
    evaluations_B: number of evaluations of the objective and its gradient.
    """

    x_adv: Tensor
    succeeded_B: Tensor
    distortion_B: Tensor
    constant_B: Tensor
    evaluations_B: Tensor


@outside_inference_mode
def lbfgs(
    model: nn.Module,
    x: Tensor,
    target_B: Tensor,
    *,
    initial_constant: float = 1e-2,
    decades: int = 6,
    bisections: int = 10,
    max_iterations: int = 200,
) -> MinimumDistortion:
    """Search c for each image: multiply by ten until the target is reached, then bisect between the powers of ten.

    The search evaluates the model in float64 whatever its dtype. Success is checked with the model itself on
    the returned images, in the dtype of x or float32. For an image that succeeds at `initial_constant`, the
    constant is divided by ten instead, at most as many times.

    Raises:
        ValueError: x outside [0, 1], NaN or of an integer type; targets of another shape or type;
            initial_constant not > 0; decades, bisections or max_iterations < 1.

    >>> model = nn.Linear(2, 2)
    >>> model.weight.data, model.bias.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([-0.6, 0.6])
    >>> result = lbfgs(model, torch.tensor([[0.5, 0.5]]), torch.tensor([0]))  # the boundary is at 0.6
    >>> bool(result.succeeded_B), f"{float(result.distortion_B):.3f}"  # 0.1 / sqrt(2)
    (True, '0.071')
    """
    check_images(x)
    check_labels(target_B, x=x)
    check_step_size(initial_constant, name="initial_constant")
    check_steps(decades=decades, bisections=bisections, max_iterations=max_iterations)
    x = at_least_float32(x)
    with attacking(model, device=x.device):
        wide = _in_float64(model)
        tried = [
            _search(
                partial(_solve, model, wide, image, target, max_iterations=max_iterations),
                initial=initial_constant,
                decades=decades,
                bisections=bisections,
            )
            for image, target in zip(x[:, None], target_B[:, None], strict=True)
        ]
    return _collect(x, tried)


@dataclass(frozen=True, slots=True)
class _Solution:
    """Minimiser for one constant, in the dtype of the returned images."""

    x_adv: Tensor
    succeeded: bool
    distortion: float
    constant: float
    evaluations: int


def objective(model: Classifier, x: Tensor, target_B: Tensor, *, adversarial: Tensor, constant: float) -> Tensor:
    """Return the objective of L-BFGS: c CE(f(x'), target) + ||x' - x||_2^2, summed over images.

    >>> x = torch.zeros(1, 2)
    >>> objective(nn.Linear(2, 2), x, torch.tensor([0]), adversarial=x + 1, constant=0.0)
    tensor(2., grad_fn=<AddBackward0>)
    """
    loss = functional.cross_entropy(model(adversarial), target_B, reduction="sum")
    return constant * loss + (adversarial - x).square().sum()


def box_minimum(
    value_and_gradient: Callable[[Vector], tuple[float, Vector]], start: Vector, *, max_iterations: int
) -> tuple[Vector, int]:
    """Return the minimiser in [0, 1]^n from this start, and the number of evaluations.

    L-BFGS-B may leave the box by a rounding error, so its answer is clipped.

    >>> point, _ = box_minimum(lambda v: (float(((v - 2) ** 2).sum()), 2 * (v - 2)), np.zeros(2), max_iterations=50)
    >>> point.tolist()
    [1.0, 1.0]
    """
    options = {"maxiter": max_iterations, "maxcor": 15, "ftol": 1e-14, "gtol": 1e-9}
    bounds = Bounds(np.zeros_like(start), np.ones_like(start))
    solution = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return np.clip(solution.x, 0, 1), int(solution.nfev)


def amplify(x: Tensor, x_adv: Tensor, *, rms: float = 0.1) -> Tensor:
    """Scale each perturbation to this root mean square over pixels, then clip to the box.

    Raises:
        ValueError: shapes that differ; rms not > 0; an image that is not perturbed.

    >>> amplify(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.51, 0.49]]))
    tensor([[0.6000, 0.4000]])
    """
    check_step_size(rms, name="rms")
    if x.shape != x_adv.shape:
        raise ValueError(f"x_adv: must have the shape of x, {tuple(x.shape)}, got {tuple(x_adv.shape)}")
    perturbation = x_adv - x
    rms_B = _rms(perturbation)
    if not bool((rms_B > 0).all()):
        raise ValueError(
            "x_adv: must differ from x in every image, as an unperturbed image has no direction; leave it out"
        )
    return (x + perturbation * (rms / rms_B).reshape(-1, *[1] * (x.dim() - 1))).clamp(0, 1)


def _search(solve: Callable[[float], _Solution], *, initial: float, decades: int, bisections: int) -> list[_Solution]:
    """Return a solution for each constant that was tried."""
    unperturbed = solve(0.0)
    if unperturbed.succeeded:
        return [unperturbed]
    tried = _bracket(solve, initial=initial, decades=decades)
    high = min((solution.constant for solution in tried if solution.succeeded), default=math.inf)
    if math.isinf(high):
        return tried
    low = max((solution.constant for solution in tried if solution.constant < high), default=high / 10)
    for _ in range(bisections):
        tried.append(solve(math.sqrt(low * high)))
        low, high = (low, tried[-1].constant) if tried[-1].succeeded else (tried[-1].constant, high)
    return tried


def _bracket(solve: Callable[[float], _Solution], *, initial: float, decades: int) -> list[_Solution]:
    """Try powers of ten, upwards after a failure and downwards after a success, until the outcome changes."""
    tried = [solve(initial)]
    factor = 0.1 if tried[0].succeeded else 10.0
    for decade in range(1, decades + 1):
        if tried[-1].succeeded != tried[0].succeeded:
            break
        tried.append(solve(initial * factor**decade))
    return tried


def _solve(
    model: Classifier, wide: Classifier, image: Tensor, target: Tensor, constant: float, *, max_iterations: int
) -> _Solution:
    x = image.double()

    def value_and_gradient(pixels: Vector) -> tuple[float, Vector]:
        leaf = torch.from_numpy(pixels).to(x.device).reshape(x.shape).requires_grad_()
        value = objective(wide, x, target, adversarial=leaf, constant=constant)
        (gradient,) = torch.autograd.grad(value, leaf)
        return float(value.detach()), gradient.flatten().cpu().numpy()

    pixels, evaluations = box_minimum(value_and_gradient, x.flatten().cpu().numpy(), max_iterations=max_iterations)
    x_adv = torch.from_numpy(pixels).to(image).reshape(image.shape)
    with torch.no_grad():
        succeeded = bool(model(x_adv).argmax(1) == target)
    return _Solution(x_adv, succeeded, float(_rms(x_adv.double() - x)), constant, evaluations)


def _in_float64(model: nn.Module) -> Classifier:
    """Return the model's function in float64; the model itself does not change."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    wide = {name: value.detach().double() if value.is_floating_point() else value for name, value in tensors.items()}
    return lambda images: functional_call(model, wide, (images,))


def _rms(perturbation: Tensor) -> Tensor:
    return perturbation.flatten(1).square().mean(1).sqrt()


def _collect(x: Tensor, tried: list[list[_Solution]]) -> MinimumDistortion:
    best = [min(solutions, key=lambda solution: (not solution.succeeded, solution.distortion)) for solutions in tried]

    images = [solution.x_adv if solution.succeeded else image for solution, image in zip(best, x[:, None], strict=True)]

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=x.device)

    return MinimumDistortion(
        x_adv=torch.cat(images) if best else x,
        succeeded_B=torch.tensor([solution.succeeded for solution in best], dtype=torch.bool, device=x.device),
        distortion_B=column([solution.distortion if solution.succeeded else math.nan for solution in best]),
        constant_B=column([solution.constant if solution.succeeded else math.nan for solution in best]),
        evaluations_B=torch.tensor(
            [sum(solution.evaluations for solution in solutions) for solutions in tried],
            dtype=torch.int64,
            device=x.device,
        ),
    )
