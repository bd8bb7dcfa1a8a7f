"""Shortest steps onto a hyperplane inside the box [0, 1]: equation 4 of Croce and Hein (ICML 2020), exactly.

    minimise ||d||_p   subject to   w . d = -c   and   x + d in [0, 1]^n        c: the plane's value at x

Only a move against sign(c w) helps, by at most the room r_i to the box's wall. For Linf every pixel moves by
min(r_i, level), for L2 by |w_i| min(r_i / |w_i|, level). Either way sum_i a_i min(t_i, level) = |c| has one solution,
with a = |w|, t = r or a = w^2, t = r / |w|; it is found between two sorted t. Shapes: B images of n pixels.
"""

import torch
from torch import Tensor

from trainables.attacks.balls import Norm

__all__ = ["step_onto_plane"]


def step_onto_plane(x_Bn: Tensor, normal_Bn: Tensor, value_B: Tensor, *, norm: Norm) -> Tensor:
    """Return the shortest step (B, n) to where a linear function with this normal, and this value at x, is zero.

    Where no image in the box has the value zero, the step goes to the corner that comes nearest to it. Where the
    normal is zero, there is no step. A pixel that the function ignores does not move.

    >>> x, normal = torch.tensor([[0.5, 0.1]]), torch.tensor([[1.0, 1.0]])
    >>> step_onto_plane(x, normal, torch.tensor([0.3]), norm="linf")  # the second pixel stops at the wall
    tensor([[-0.2000, -0.1000]])
    """
    largest_B1 = normal_Bn.abs().amax(1, keepdim=True).clamp_min(torch.finfo(x_Bn.dtype).tiny)
    weight_Bn, distance_B = normal_Bn.abs() / largest_B1, value_B.abs() / largest_B1[:, 0]
    downhill_Bn = -normal_Bn.sign() * value_B.sign()[:, None]
    room_Bn = torch.where(downhill_Bn > 0, 1 - x_Bn, x_Bn)
    if norm == "linf":
        return downhill_Bn * room_Bn.minimum(_level(weight_Bn, room_Bn, distance_B)[:, None])
    square_Bn = weight_Bn.square()
    wall_Bn = torch.where(square_Bn > 0, room_Bn / weight_Bn, 0)
    return downhill_Bn * weight_Bn * wall_Bn.minimum(_level(square_Bn, wall_Bn, distance_B)[:, None])


def _level(share_Bn: Tensor, wall_Bn: Tensor, distance_B: Tensor) -> Tensor:
    """Return the level (B,) with sum_i share_i min(wall_i, level) = distance; infinite if the walls are too near."""
    wall_Bn, order_Bn = wall_Bn.sort(1)
    share_Bn = share_Bn.gather(1, order_Bn)
    filled_Bn = share_Bn * wall_Bn
    before_Bn = filled_Bn.cumsum(1) - filled_Bn
    # Summed from the end: a difference of two long sums would lose the few shares that are left.
    open_Bn = share_Bn.flip(1).cumsum(1).flip(1)
    reached_Bn = before_Bn + wall_Bn * open_Bn
    index_B1 = (reached_Bn < distance_B[:, None]).sum(1, keepdim=True)
    last_B1 = index_B1.clamp_max(wall_Bn.shape[1] - 1)
    level_B = ((distance_B[:, None] - before_Bn.gather(1, last_B1)) / open_Bn.gather(1, last_B1))[:, 0]
    return level_B.where(index_B1[:, 0] < wall_Bn.shape[1], torch.inf)
