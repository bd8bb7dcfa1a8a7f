"""Square attack: random search that uses the logits of the model alone (Andriushchenko et al., ECCV 2020).

It needs no gradient, so it also attacks a model that only masks its gradients.
Shapes: B images, C channels, H by W pixels, K classes.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from trainables.attacks.balls import Norm, at_least_float32, ball_around
from trainables.attacks.checks import check_epsilon, check_finite, check_images, check_labels, check_steps
from trainables.attacks.margins import margin
from trainables.attacks.modes import evaluating
from trainables.attacks.square_candidates import Bumps, Candidates, Squares

__all__ = ["square"]

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
    """Search with squares: +-2 epsilon after vertical stripes of +-epsilon (Linf), or bumps after a grid of them (L2).

    A candidate is kept where it lowers the margin z_y - max_{i != y} z_i, or fools the model. The place of a square
    is sampled once for all images, its sign once for each channel. In L2 the length of a perturbation is epsilon, and
    a bump takes the length of the two squares that it replaces. An image that is already misclassified is returned
    unchanged.

    Raises:
        ValueError: epsilon negative or not finite; queries < 1; an unknown norm; x not (B, C, H, W), outside
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
    candidates = _CANDIDATES[norm](epsilon, generator)
    with evaluating(model), torch.no_grad(), torch.autocast(x_BCHW.device.type, enabled=False):
        return check_finite(_search(model, x_BCHW, y_B, candidates, queries=queries))


class _Search(NamedTuple):
    """State of the search for each image; every field is a tensor over images."""

    index_B: Tensor
    x_BCHW: Tensor
    y_B: Tensor
    best_BCHW: Tensor
    margin_B: Tensor
    fooled_B: Tensor


def _search(model: nn.Module, x_BCHW: Tensor, y_B: Tensor, candidates: Candidates, *, queries: int) -> Tensor:
    result, index_B = x_BCHW.clone(), torch.arange(len(y_B), device=y_B.device)
    state = _unfooled(_Search(index_B, x_BCHW, y_B, x_BCHW, *_margins(model, x_BCHW, y_B)))
    state = _try(model, state, candidates.first(state.x_BCHW))
    for query in range(queries):
        if query % _QUERIES_BETWEEN_LOOKS == 0:
            result[state.index_B] = state.best_BCHW
            state = _unfooled(state)
        if not len(state.index_B):
            break
        state = _try(model, state, candidates.next(state.x_BCHW, state.best_BCHW, query))
    result[state.index_B] = state.best_BCHW
    return result


def _unfooled(state: _Search) -> _Search:
    return _Search(*(field[~state.fooled_B] for field in state))


def _try(model: nn.Module, state: _Search, candidate_BCHW: Tensor) -> _Search:
    """Keep the candidate where it lowers the margin or fools; a lower margin never undoes a success."""
    margin_B, fooled_B = _margins(model, candidate_BCHW, state.y_B)
    better_B = (margin_B < state.margin_B) | fooled_B
    return state._replace(
        best_BCHW=torch.where(better_B[:, None, None, None], candidate_BCHW, state.best_BCHW),
        margin_B=torch.where(better_B, margin_B, state.margin_B),
        fooled_B=state.fooled_B | fooled_B,
    )


def _margins(model: nn.Module, x_BCHW: Tensor, y_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return z_y - max_{i != y} z_i, and a flag for each misclassified image."""
    logits_BK = model(x_BCHW)
    return margin(logits_BK, y_B), logits_BK.argmax(1) != y_B


def _check(x_BCHW: Tensor, y_B: Tensor, *, epsilon: float, queries: int, norm: Norm) -> None:
    check_epsilon(epsilon, norm=norm)
    check_images(x_BCHW)
    check_labels(y_B, x=x_BCHW)
    check_steps(queries=queries)
    ball_around(x_BCHW, epsilon=epsilon, norm=norm)  # rejects an unknown norm
    if x_BCHW.dim() != 4:
        raise ValueError(f"x: must be images (B, C, H, W), got shape {tuple(x_BCHW.shape)}; a square needs a plane")


_CANDIDATES: Final[Mapping[str, Callable[..., Candidates]]] = {"linf": Squares, "l2": Bumps}
