"""Second derivatives of the loss, as a gradient penalty takes them."""

import ast
from pathlib import Path

import pytest
import torch

import trainables
from trainables.batched.neighbours import _Loss
from trainables.snnl import soft_nearest_neighbor_loss, training_term
from trainables.snnl.distances import pairwise_distances, place
from trainables.snnl.functions import BlockLoss, MatrixLoss

DISTANCES = ["sqeuclidean", "cosine"]


def matrix(x, y, beta, distance):
    points = place(x, distance)
    return MatrixLoss.of(points, y, beta, distances_BB=pairwise_distances(points))


def blocks(x, y, beta, distance):
    return BlockLoss.of(place(x, distance), y, beta, block=4)


FORMS = {"MatrixLoss": matrix, "BlockLoss": blocks}
OF_SHARES = {"_Whole", "_Rows"}
"""Each is the other's derivative; test_data_parallel takes a gradient penalty through them."""
ONCE = {"_Loss"}
"""Of batched trials, none of which may have a gradient penalty."""


def batch(*, size=9, dimensions=3):
    stream = torch.Generator().manual_seed(1)
    labels = torch.arange(size) % 3
    labels[0] = 7  # a singleton
    return torch.randn(size, dimensions, generator=stream, dtype=torch.float64), labels


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("form", FORMS)
def test_form_passes_gradgradcheck_in_features_and_temperature(form, distance):
    x, y = batch()
    beta = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(
        lambda x, beta: FORMS[form](x, y, beta, distance), (x.requires_grad_(), beta), atol=1e-6
    )


def test_every_differentiable_function_of_the_package_is_checked():
    names = {
        node.name
        for path in Path(trainables.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).split(".")[-1] == "Function" for base in node.bases)
    }
    assert names == {*FORMS, *OF_SHARES, *ONCE}


def test_the_loss_of_batched_trials_refuses_a_second_derivative():
    x = torch.randn(2, 3, 4, requires_grad=True)
    loss = _Loss.apply(x, torch.ones(2), torch.ones(2, 3, 3), torch.ones(2, 3, 4)).square().sum()
    (slope,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@pytest.mark.parametrize("size", [9, 1030])
@pytest.mark.parametrize("distance", DISTANCES)
def test_gradient_penalty_has_the_derivative_of_finite_differences(distance, size):
    x, y = batch(size=size)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def penalty(x):
        loss = soft_nearest_neighbor_loss(x, y, 0.8, distance)
        return torch.autograd.grad(loss, x, create_graph=True)[0].square().sum()

    (slope,) = torch.autograd.grad(penalty(x.requires_grad_()), x)
    step = 1e-5 * direction
    there, back = (penalty((x.detach() + sign * step).requires_grad_()) for sign in (1, -1))
    assert float((slope * direction).sum()) == pytest.approx(float((there - back).detach()) / 2e-5, rel=1e-5)


@pytest.mark.parametrize("mode", ["minimised", "learned", "relative", "absolute"])
def test_gradient_of_a_term_is_the_same_with_and_without_a_graph(mode):
    x, y = batch(size=30)
    loss = training_term(x.requires_grad_(), y, mode=mode).loss
    (with_graph,) = torch.autograd.grad(loss, x, create_graph=True)
    (plain,) = torch.autograd.grad(loss, x)
    assert with_graph.requires_grad
    torch.testing.assert_close(with_graph.detach(), plain, rtol=1e-9, atol=1e-12)
