"""The fast forms of the loss equal the plain one, in value and in gradient."""

import pytest
import torch

from trainables.snnl import per_anchor_losses, soft_nearest_neighbor_loss
from trainables.snnl.distances import differentiable_distances, full_precision, pairwise_distances, place
from trainables.snnl.functions import BlockLoss, MatrixLoss

DISTANCES = ["sqeuclidean", "cosine"]


def batch(*, size=23, dimensions=5, classes=3, dtype=torch.float64):
    stream = torch.Generator().manual_seed(1)
    labels = torch.randint(classes, (size,), generator=stream)
    labels[0] = 99  # a singleton
    return torch.randn(size, dimensions, generator=stream, dtype=dtype), labels


def matrix(x, y, beta, distance):
    points = place(x, distance)
    return MatrixLoss.of(points, y, beta, distances_BB=pairwise_distances(points))


def blocks(of):
    return lambda x, y, beta, distance: BlockLoss.of(place(x, distance), y, beta, block=of)


FORMS = [
    pytest.param(matrix, id="matrix"),
    *(pytest.param(blocks(size), id=f"blocks of {size}") for size in (1, 4, 7, 23, 64)),
]


def value_and_gradients(loss_of, x, beta):
    x, beta = x.clone().requires_grad_(), torch.tensor(beta, dtype=torch.float64, requires_grad=True)
    loss = loss_of(x, beta)
    return loss, *torch.autograd.grad(loss, (x, beta))


@pytest.mark.parametrize("beta", [1e-3, 1.0, 40.0])
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("form", FORMS)
def test_form_equals_autograd_through_the_definition(form, distance, beta):
    x, y = batch()

    def plain(x, beta):
        losses, valid = per_anchor_losses(x, y, 1 / beta, distance=distance)
        return losses.sum() / valid.sum()

    actual = value_and_gradients(lambda x, beta: form(x, y, beta, distance), x, beta)
    for one, other in zip(actual, value_and_gradients(plain, x, beta), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("form", [pytest.param(matrix, id="matrix"), pytest.param(blocks(4), id="blocks of 4")])
def test_form_passes_gradcheck(form, distance):
    x, y = batch(size=9, dimensions=3)
    beta = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, beta: form(x, y, beta, distance), (x.requires_grad_(), beta))


@pytest.mark.parametrize("distance", DISTANCES)
def test_large_batch_in_blocks_equals_the_definition(distance):
    x, y = batch(size=1100, classes=10)
    losses, valid = per_anchor_losses(x.requires_grad_(), y, 2.0, distance=distance)
    (expected,) = torch.autograd.grad(losses.sum() / valid.sum(), x)
    (actual,) = torch.autograd.grad(soft_nearest_neighbor_loss(x, y, 2.0, distance), x)
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("form", [pytest.param(matrix, id="matrix"), pytest.param(blocks(8), id="blocks of 8")])
def test_underflowing_distances_leave_the_gradient_finite_and_alive(form):
    x, y = batch(dtype=torch.float32)
    x = (100 * x).requires_grad_()
    loss = form(x, y, torch.tensor(1e4 / 3e4), "sqeuclidean")
    (gradient,) = torch.autograd.grad(loss, x)
    exact, _ = per_anchor_losses(x.detach().double(), y, 3.0)
    assert loss.item() == pytest.approx(exact.sum().item() / 22, rel=1e-5)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0.1


@pytest.mark.parametrize("form", [pytest.param(matrix, id="matrix"), pytest.param(blocks(8), id="blocks of 8")])
def test_offset_features_keep_their_gradient_in_float32(form):
    x, y = batch(dimensions=64)
    expected = torch.autograd.grad(form(x.requires_grad_(), y, torch.tensor(0.02).double(), "sqeuclidean"), x)[0]
    offset = (x.detach().float() + 500).requires_grad_()
    actual = torch.autograd.grad(form(offset, y, torch.tensor(0.02), "sqeuclidean"), offset)[0]
    assert (actual - expected).abs().max() < 1e-3 * expected.abs().max()


@pytest.mark.parametrize("distance", DISTANCES)
def test_wide_features_in_chunks_have_the_distances_of_the_plain_form(distance):
    x, _ = batch(size=150, dimensions=9000)
    torch.testing.assert_close(
        pairwise_distances(place(x, distance)), differentiable_distances(x, distance), rtol=1e-9, atol=1e-9
    )


def test_gradient_taken_inside_autocast_is_that_of_float32():
    x, y = batch(dimensions=64, dtype=torch.float32)
    x.requires_grad_()
    (plain,) = torch.autograd.grad(soft_nearest_neighbor_loss(x, y, 9.0), x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (inside,) = torch.autograd.grad(soft_nearest_neighbor_loss(x, y, 9.0), x)
    torch.testing.assert_close(inside, plain, rtol=0, atol=0)


def test_full_precision_gives_the_process_its_own_setting_back():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with full_precision(torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
