"""TRADES (Zhang et al., ICML 2019): trade-off between accuracy and the stability of predictions.

    loss = CE(f(x), y) + beta KL(p(x) || p(x'))      x' maximises the KL in the ball around x

The ascent starts near x and not at x, where the KL is at its minimum and has no gradient. Shapes: B images, K classes.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.attacks.balls import Norm, at_least_float32, ball_around
from trainables.attacks.gradient import ascend
from trainables.attacks.modes import attacking, outside_inference_mode

__all__ = ["kl_divergence", "trades_ascent", "trades_loss", "trades_noise"]

NOISE_SCALE = 0.001


def trades_noise(x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Sample the start of the ascent relative to x: 0.001 N(0, 1), in the shape, dtype and device of x.

    >>> bool(trades_noise(torch.zeros(100, 100)).abs().max() < 0.01)
    True
    """
    return torch.empty_like(x).normal_(std=NOISE_SCALE, generator=generator)


@outside_inference_mode
def trades_ascent(
    model: nn.Module, x: Tensor, *, epsilon: float, steps: int, step_size: float, noise: Tensor, norm: Norm = "linf"
) -> Tensor:
    """Run PGD from x + noise towards a large KL(p(x) || p(x')); return its last iterate x'.

    It checks nothing, for the reason of `projected_ascent`. It takes no labels, so none leak into the attack.

    Raises:
        ValueError: an unknown norm.

    >>> model, x = nn.Linear(2, 2, bias=False), torch.tensor([[0.5, 0.5]])
    >>> model.weight.data.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).shape
    torch.Size([2, 2])
    >>> noise = torch.tensor([[0.001, 0.0]])
    >>> trades_ascent(model, x, epsilon=0.25, steps=3, step_size=0.125, noise=noise)
    tensor([[0.7500, 0.5000]])
    """
    x = at_least_float32(x)
    ball = ball_around(x, epsilon=epsilon, norm=norm)
    if epsilon == 0:
        return x
    start = ball.project(x + noise.detach().to(x.dtype))
    with attacking(model, device=x.device):
        with torch.no_grad():
            clean_BK = functional.log_softmax(model(x), 1)
        return ascend(
            lambda images: _climbed(clean_BK, functional.log_softmax(model(images), 1)),
            start,
            ball=ball,
            steps=steps,
            step_size=step_size,
        )


def _climbed(clean_BK: Tensor, attacked_BK: Tensor) -> Tensor:
    """Return the divergence of log-probabilities, summed over images; a linear form where float resolves none of it.

    The gradient of the divergence by the attacked logits is q - p. Where both distributions are sure of one class, its
    entry there rounds to 0 and the rest may underflow. The linear form has the gradient's direction at this point.
    """
    divergence_B = functional.kl_div(attacked_BK, clean_BK, reduction="none", log_target=True).sum(1)
    with torch.no_grad():
        resolution = torch.finfo(attacked_BK.dtype).eps
        top_B = clean_BK.argmax(1)
        log_p_BK, log_q_BK = (_rest(values_BK, top_B) for values_BK in (clean_BK, attacked_BK))
        log_rest_B = torch.maximum(log_p_BK.logsumexp(1), log_q_BK.logsumexp(1))
        sure_B = (log_rest_B < math.log(resolution)) & log_rest_B.isfinite()
        slope_BK = (log_q_BK - log_rest_B[:, None]).exp() - (log_p_BK - log_rest_B[:, None]).exp()
        slope_BK = slope_BK.scatter(1, top_B[:, None], -slope_BK.sum(1, keepdim=True)).where(sure_B[:, None], 0)
    # attacked_BK is normalised and the slopes sum to zero, so this is the slope by the logits too.
    linear_B = (slope_BK * attacked_BK.where(sure_B[:, None], 0)).sum(1)
    return linear_B.where(sure_B, divergence_B).sum()


def _rest(log_p_BK: Tensor, top_B: Tensor) -> Tensor:
    return log_p_BK.scatter(1, top_B[:, None], -math.inf)


def trades_loss(clean_BK: Tensor, adversarial_BK: Tensor, y_B: Tensor, *, beta: float) -> Tensor:
    """Return CE(clean, y) + beta KL(p(clean) || p(adversarial)) from logits, both means over the batch.

    Both arguments of the KL carry gradient. beta is 1 / lambda of the paper.

    Raises:
        ValueError: beta negative or not finite.

    >>> logits = torch.tensor([[0.0, 0.0]])
    >>> f"{float(trades_loss(logits, logits, torch.tensor([0]), beta=6.0)):.4f}"  # log(2): the KL is 0
    '0.6931'
    """
    if not 0 <= beta < float("inf"):
        raise ValueError(f"beta: must be finite and >= 0, got {beta}")
    return functional.cross_entropy(clean_BK, y_B) + beta * kl_divergence(clean_BK, adversarial_BK)


def kl_divergence(clean_BK: Tensor, adversarial_BK: Tensor) -> Tensor:
    """Return KL(p(clean) || p(adversarial)) of logits in nats, at least float32, as the mean over the batch.

    Both arguments carry gradient.

    >>> clean = torch.log(torch.tensor([[0.5, 0.5]]))
    >>> f"{float(kl_divergence(clean, torch.log(torch.tensor([[0.25, 0.75]])))):.4f}"  # log(4 / 3) / 2
    '0.1438'
    """
    log_p_BK, log_q_BK = (_log_probabilities(logits_BK) for logits_BK in (clean_BK, adversarial_BK))
    return _divergence(log_p_BK, log_q_BK, reduction="batchmean")


def _log_probabilities(logits_BK: Tensor) -> Tensor:
    # Autocast on a CPU keeps logits in bfloat16, where a divergence of nearly equal distributions is mostly rounding.
    return functional.log_softmax(logits_BK if logits_BK.dtype == torch.float64 else logits_BK.float(), 1)


def _divergence(log_p_BK: Tensor, log_q_BK: Tensor, *, reduction: str) -> Tensor:
    # torch takes KL(p || q) as (log q, log p).
    return functional.kl_div(log_q_BK, log_p_BK, reduction=reduction, log_target=True)
