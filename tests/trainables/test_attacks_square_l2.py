"""Square in the L2 ball: its bumps, its length, and that it finds what a linear model allows."""

import math

import pytest
import torch
from torch import nn

from trainables.attacks import square
from trainables.attacks.square_candidates import Bumps, bump


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def published_bump(side):
    """The authors' loops: nested squares that grow from the middle of each half."""

    def half(height, width):
        values = torch.zeros(height, width)
        rows, columns = height // 2 + 1, width // 2 + 1
        top, left = rows - 1, columns - 1
        for count in range(max(rows, columns)):
            values[max(top, 0) : min(top + 2 * count + 1, height), max(left, 0) : min(left + 2 * count + 1, width)] += (
                1 / (count + 1) ** 2
            )
            top, left = top - 1, left - 1
        return values / values.norm()

    both = torch.cat([half(side // 2, side), -half(side - side // 2, side)])
    return both / both.norm()


@pytest.mark.parametrize("side", [2, 3, 5, 6, 11, 25])
def test_a_bump_equals_the_published_one(side):
    torch.testing.assert_close(bump(side, like=torch.zeros(1)), published_bump(side))


@pytest.mark.parametrize("size", [(1, 4, 4), (3, 9, 7), (1, 28, 28), (3, 32, 32)])
def test_every_candidate_has_the_full_length_where_the_box_is_far(size):
    x, candidates = torch.full((2, *size), 0.5), Bumps(0.3, stream())
    best = candidates.first(x)
    for query in (0, 11, 300, 5000):
        lengths = torch.linalg.vector_norm((best - x).flatten(1), dim=1)
        torch.testing.assert_close(lengths, torch.full_like(lengths, 0.3), rtol=1e-4, atol=0)
        best = candidates.next(x, best, query)


def test_a_candidate_changes_two_squares_alone():
    x, candidates = torch.full((1, 1, 28, 28), 0.5), Bumps(0.3, stream())
    best = candidates.first(x)
    changed = candidates.next(x, best, 3000) - best
    kept = (changed.abs() < 1e-3 * best.sub(x).abs().max()).double().mean()
    assert kept > 0.9


def test_it_fools_a_linear_model_within_reach_and_no_other():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    x = 0.4 + 0.2 * torch.rand(40, 1, 8, 8, generator=stream(), dtype=torch.float64)
    logits = model(x).detach()
    y = logits.argmax(1)
    slope = model[1].weight.detach()[None] - model[1].weight.detach()[y][:, None]
    distance = (logits.gather(1, y[:, None]) - logits) / slope.norm(dim=2)
    distance = distance.scatter(1, y[:, None], math.inf).amin(1)
    epsilon = float(distance.median())
    attacked = square(model, x, y, epsilon=epsilon, norm="l2", queries=300, generator=stream())
    fooled = model(attacked).argmax(1) != y
    assert not fooled[distance > epsilon].any()
    near = distance < 0.5 * epsilon
    assert near.sum() > 5
    assert fooled[near].double().mean() > 0.7
