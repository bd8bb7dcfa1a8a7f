"""Square attack: random search that uses the logits of the model alone (Andriushchenko et al., ECCV 2020).

It needs no gradient, so it also attacks a model that only masks its gradients.
Shapes: B images, C channels, H by W pixels, K classes.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainables.attacks.balls import LinfBall, Norm, at_least_float32
from trainables.attacks.checks import check_epsilon, check_finite, check_images, check_labels, check_steps
from trainables.attacks.margins import margin
from trainables.attacks.modes import evaluating
from trainables.errors import short_repr

__all__ = ["square", "square_side"]

_FIRST_SHARE = 0.8
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_QUERIES_BETWEEN_LOOKS = 50  # to drop images that are fooled the host has to wait for the device


def square(
    model: nn.Module,
    x_BCHW: Tensor,
    y_B: Tensor,
    *,
    epsilon: float,
    queries: int = 5000,
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Attack with vertical stripes of +-epsilon and then `queries` squares of +-2 epsilon, projected.

    A square is kept where it lowers the margin z_y - max_{i != y} z_i, or fools the model. Its place is
    sampled once for all images, its sign once for each channel. An image that is already misclassified is
    returned unchanged.

    Raises:
        ValueError: epsilon negative or not finite; queries < 1; norm "l2"; x not (B, C, H, W), outside
            [0, 1], NaN or of an integer type; labels of another shape or type.

    >>> model, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.full((1, 1, 2, 2), 0.5)
    >>> model[1].weight.data, model[1].bias.data = torch.tensor([[1.0] * 4, [-1.0] * 4]), torch.tensor([-1.9, 1.9])
    >>> square(model, x, torch.tensor([0]), epsilon=0.1, queries=100).sum() < 1.9
    tensor(True)
    """
    _check(x_BCHW, y_B, epsilon=epsilon, queries=queries, norm=norm)
    x_BCHW = at_least_float32(x_BCHW)
    if epsilon == 0:
        return x_BCHW
    with evaluating(model), torch.no_grad(), torch.autocast(x_BCHW.device.type, enabled=False):
        return check_finite(_search(model, x_BCHW, y_B, epsilon=epsilon, queries=queries, generator=generator))


def square_side(query: int, *, height: int, width: int) -> int:
    """Return the side of the square at this query (from 0): 80 % of the area at first, half as much at each stage.

    >>> [square_side(query, height=28, width=28) for query in (0, 10, 11, 4001)]
    [25, 25, 18, 2]
    """
    stage = sum(query > first for first in _HALVINGS)
    share = _FIRST_SHARE * 0.5**stage
    return min(max(round(math.sqrt(share * height * width)), 1), height, width)


class _Search(NamedTuple):
    """State of the search for each image; every field is a tensor over images."""

    index_B: Tensor
    low_BCHW: Tensor
    high_BCHW: Tensor
    y_B: Tensor
    best_BCHW: Tensor
    margin_B: Tensor
    fooled_B: Tensor


def _search(
    model: nn.Module, x_BCHW: Tensor, y_B: Tensor, *, epsilon: float, queries: int, generator: torch.Generator | None
) -> Tensor:
    result, ball = x_BCHW.clone(), LinfBall.around(x_BCHW, epsilon=epsilon)
    index_B = torch.arange(len(y_B), device=y_B.device)
    state = _unfooled(_Search(index_B, ball.low, ball.high, y_B, x_BCHW, *_margins(model, x_BCHW, y_B)))
    state = _try(model, state, _stripes(state.best_BCHW, epsilon=epsilon, generator=generator))
    for query in range(queries):
        if query % _QUERIES_BETWEEN_LOOKS == 0:
            result[state.index_B] = state.best_BCHW
            state = _unfooled(state)
        if not len(state.index_B):
            break
        state = _try(model, state, _square(x_BCHW, query, epsilon=epsilon, generator=generator))
    result[state.index_B] = state.best_BCHW
    return result


def _unfooled(state: _Search) -> _Search:
    return _Search(*(field[~state.fooled_B] for field in state))


def _try(model: nn.Module, state: _Search, change_BCHW: Tensor) -> _Search:
    """Keep the change where it lowers the margin or fools; a lower margin never undoes a success."""
    candidate_BCHW = torch.clamp(state.best_BCHW + change_BCHW, state.low_BCHW, state.high_BCHW)
    margin_B, fooled_B = _margins(model, candidate_BCHW, state.y_B)
    better_B = (margin_B < state.margin_B) | fooled_B
    return state._replace(
        best_BCHW=torch.where(better_B[:, None, None, None], candidate_BCHW, state.best_BCHW),
        margin_B=torch.where(better_B, margin_B, state.margin_B),
        fooled_B=state.fooled_B | fooled_B,
    )


def _stripes(x_BCHW: Tensor, *, epsilon: float, generator: torch.Generator | None) -> Tensor:
    return epsilon * _signs(x_BCHW, (*x_BCHW.shape[:2], 1, x_BCHW.shape[3]), generator)


def _square(x_BCHW: Tensor, query: int, *, epsilon: float, generator: torch.Generator | None) -> Tensor:
    """Sample one square for all images, (1, C, H, W), by comparisons, so that its place never leaves the device."""
    channels, height, width = x_BCHW.shape[1:]
    side = square_side(query, height=height, width=width)
    rows_H = _stretch(x_BCHW, height, side, generator)
    columns_W = _stretch(x_BCHW, width, side, generator)
    signs = _signs(x_BCHW, (1, channels, 1, 1), generator)
    return 2 * epsilon * signs * (rows_H[:, None] & columns_W)


def _stretch(x_BCHW: Tensor, length: int, side: int, generator: torch.Generator | None) -> Tensor:
    first = torch.randint(length - side + 1, (1,), generator=generator, device=x_BCHW.device)
    places = torch.arange(length, device=x_BCHW.device)
    return (places >= first) & (places < first + side)


def _signs(x_BCHW: Tensor, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    return torch.randint(2, shape, generator=generator, device=x_BCHW.device).to(x_BCHW.dtype) * 2 - 1


def _margins(model: nn.Module, x_BCHW: Tensor, y_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return z_y - max_{i != y} z_i, and a flag for each misclassified image."""
    logits_BK = model(x_BCHW)
    return margin(logits_BK, y_B), logits_BK.argmax(1) != y_B


def _check(x_BCHW: Tensor, y_B: Tensor, *, epsilon: float, queries: int, norm: Norm) -> None:
    check_epsilon(epsilon, norm="linf")
    check_images(x_BCHW)
    check_labels(y_B, x=x_BCHW)
    check_steps(queries=queries)
    if norm != "linf":
        raise ValueError(f"norm: must be 'linf', got {short_repr(norm)}; for L2 use apgd")
    if x_BCHW.dim() != 4:
        raise ValueError(f"x: must be images (B, C, H, W), got shape {tuple(x_BCHW.shape)}; a square needs a plane")
