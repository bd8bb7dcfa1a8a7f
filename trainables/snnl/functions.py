"""Differentiable loss, with its gradient in closed form.

With S = G + G^T and G = dL/ds, the gradient by the features is c beta (S - diag(S 1)) (x - m), where c = 2 for squared
Euclidean distances and 1 for cosine ones: one matrix product with the batch, where autograd through the Gram matrix
takes two. Of unit rows the term of the diagonal is along the row, so the scaling to unit length drops it again; with
it, the sums are over differences of rows, and keep the digits of nearly parallel ones.

A backward pass that is itself to be differentiated (`create_graph=True`, as of a gradient penalty) takes autograd
through the definition instead, with several matrices of pairs: the closed form has no derivative of its own, and
PyTorch would drop that part in silence.

Shapes: B points, D features; I and J are blocks of points.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import Function

from trainables.snnl.closed_form import Kinds, Pull, kinds, log2_sum, losses_of, mean_of, pull_of, score_gradient
from trainables.snnl.composition import company
from trainables.snnl.distances import Points, block_distances, distances_of, full_precision, offsets
from trainables.snnl.neighbours import losses_of_distances

__all__ = ["BLOCK", "MATRIX_LIMIT", "BlockLoss", "MatrixLoss"]

# Up to this size, a few matrices of pairs are smaller than most batches.
MATRIX_LIMIT = 1024
BLOCK = 512


class MeasuredBatch(NamedTuple):
    """Batch with all its distances; without gradient."""

    points: Points
    labels_B: Tensor
    distances_BB: Tensor


class BlockedBatch(NamedTuple):
    """Batch whose distances are computed block by block; without gradient."""

    points: Points
    labels_B: Tensor
    block: int


class MatrixLoss(Function):
    """Loss from an existing distance matrix; keeps one matrix for the gradient."""

    @classmethod
    def of(cls, points: Points, labels_B: Tensor, beta: Tensor, *, distances_BB: Tensor) -> Tensor:
        """Return the loss, 0-d, differentiable in `points.x_BD` and `beta`."""
        loss: Tensor = cls.apply(points.x_BD, beta, MeasuredBatch(points.detached(), labels_B, distances_BB))  # type: ignore[no-untyped-call]  # torch's own
        return loss

    @staticmethod
    def forward(ctx: Any, x_BD: Tensor, beta: Tensor, batch: MeasuredBatch) -> Tensor:
        """Compute both sums of every anchor, and from them the loss and the matrix of its gradient."""
        points, labels_B, distances_BB = batch
        classes = company(labels_B)
        kind = kinds(labels_B, labels_B, itself=True, dtype=x_BD.dtype)
        own_B = log2_sum(distances_BB, kind.not_own_IJ, beta=beta, dim=1)
        other_B = log2_sum(distances_BB, kind.not_other_IJ, beta=beta, dim=1)
        losses_B, _ = losses_of(own_B, other_B, classes)
        if any(ctx.needs_input_grad):
            pull = pull_of(own_B, other_B, classes)
            gradient_BB = score_gradient(
                distances_BB, kind, own_I=pull.own_B[:, None], other_I=pull.other_B[:, None], beta=beta
            )
            by_beta = -(gradient_BB * distances_BB).sum() if ctx.needs_input_grad[1] else beta
            weights_BB = _symmetric_weights(gradient_BB, points, beta)
            ctx.save_for_backward(x_BD, beta, points.centre_D, weights_BB, by_beta)
            ctx.points, ctx.labels_B = points._replace(x_BD=points.centre_D), labels_B
        return mean_of(losses_B, classes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Compute one matrix product with the batch, chunk by chunk."""
        x_BD, beta, centre_D, weights_BB, by_beta = ctx.saved_tensors
        (gradient,) = gradients
        if torch.is_grad_enabled():
            return _by_definition(ctx, gradient, x_BD=x_BD, beta=beta)
        by_beta = gradient * by_beta if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, by_beta, None
        weights_BB, by_x_BD = weights_BB * gradient, torch.empty_like(x_BD)
        with full_precision(x_BD.device):
            for columns, x_BC in Points(x_BD, centre_D, ctx.points.distance).chunks():
                torch.mm(weights_BB, x_BC, out=by_x_BD[:, columns])
        return by_x_BD, by_beta, None


class BlockLoss(Function):
    """Loss from blocks of distances, each pair of points once; the gradient recomputes the distances."""

    @classmethod
    def of(cls, points: Points, labels_B: Tensor, beta: Tensor, *, block: int) -> Tensor:
        """Return the loss, 0-d, differentiable in `points.x_BD` and `beta`."""
        loss: Tensor = cls.apply(points.x_BD, beta, BlockedBatch(points.detached(), labels_B, block))  # type: ignore[no-untyped-call]  # torch's own
        return loss

    @staticmethod
    def forward(ctx: Any, x_BD: Tensor, beta: Tensor, batch: BlockedBatch) -> Tensor:
        """Compute both sums of every anchor, merged over blocks."""
        points, labels_B, block = batch
        offset_B, classes = offsets(points), company(labels_B)
        own_B, other_B = (torch.full_like(offset_B, -torch.inf) for _ in range(2))
        for rows, columns in _block_pairs(len(x_BD), block):
            distances_IJ = block_distances(points, offset_B, rows=rows, columns=columns)
            kind = kinds(labels_B[rows], labels_B[columns], itself=rows == columns, dtype=x_BD.dtype)
            for anchors, dim in ((rows, 1), (columns, 0))[: 1 if rows == columns else 2]:
                for sums_B, without_IJ in ((own_B, kind.not_own_IJ), (other_B, kind.not_other_IJ)):
                    merged = log2_sum(distances_IJ, without_IJ, beta=beta, dim=dim)
                    sums_B[anchors] = torch.logaddexp2(sums_B[anchors], merged)
        ctx.save_for_backward(x_BD, beta, offset_B, own_B, other_B)
        ctx.points, ctx.labels_B, ctx.block = points._replace(x_BD=points.centre_D), labels_B, block
        return mean_of(losses_of(own_B, other_B, classes)[0], classes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Multiply the batch twice by each block's S: once as it is, once transposed."""
        x_BD, beta, offset_B, own_B, other_B = ctx.saved_tensors
        points, labels_B, (gradient,) = ctx.points._replace(x_BD=x_BD), ctx.labels_B, gradients
        if torch.is_grad_enabled():
            return _by_definition(ctx, gradient, x_BD=x_BD, beta=beta)
        pull = pull_of(own_B, other_B, company(labels_B))
        by_x_BD, by_beta = torch.zeros_like(x_BD), torch.zeros_like(beta)
        for rows, columns in _block_pairs(len(x_BD), ctx.block):
            distances_IJ = block_distances(points, offset_B, rows=rows, columns=columns)
            kind = kinds(labels_B[rows], labels_B[columns], itself=rows == columns, dtype=x_BD.dtype)
            s_IJ = _symmetric_gradient(distances_IJ, kind, pull, rows=rows, columns=columns, beta=beta)
            if ctx.needs_input_grad[1]:
                by_beta -= (s_IJ * distances_IJ).sum() / (2 if rows == columns else 1)
            _add_products(by_x_BD, s_IJ, points, rows=rows, columns=columns)
        scale = gradient * beta * points.factor
        return by_x_BD.mul_(scale), gradient * by_beta, None


def _by_definition(ctx: Any, gradient: Tensor, *, x_BD: Tensor, beta: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients through autograd over matrices of pairs, so that they can be differentiated again."""
    wanted = [value for value, needed in zip((x_BD, beta), ctx.needs_input_grad, strict=False) if needed]
    losses_B, valid_B = losses_of_distances(distances_of(ctx.points._replace(x_BD=x_BD)), ctx.labels_B, beta)
    loss = losses_B.sum() / valid_B.sum().clamp_min(1)
    remaining = iter(torch.autograd.grad(loss, wanted, gradient, create_graph=True))
    return (*(next(remaining) if needed else None for needed in ctx.needs_input_grad[:2]), None)


def _block_pairs(size: int, block: int) -> Iterator[tuple[slice, slice]]:
    blocks = [slice(start, min(start + block, size)) for start in range(0, size, block)]
    return ((rows, columns) for i, rows in enumerate(blocks) for columns in blocks[: i + 1])


def _symmetric_weights(gradient_BB: Tensor, points: Points, beta: Tensor) -> Tensor:
    weights_BB = gradient_BB + gradient_BB.T
    weights_BB.diagonal().sub_(weights_BB.sum(1))
    return weights_BB.mul_(points.factor * beta)


def _symmetric_gradient(
    distances_IJ: Tensor, kind: Kinds, pull: Pull, *, rows: slice, columns: slice, beta: Tensor
) -> Tensor:
    """Return G + G^T of one block."""
    by_rows_IJ = score_gradient(
        distances_IJ, kind, own_I=pull.own_B[rows, None], other_I=pull.other_B[rows, None], beta=beta
    )
    by_columns_IJ = score_gradient(
        distances_IJ, kind, own_I=pull.own_B[None, columns], other_I=pull.other_B[None, columns], beta=beta
    )
    return by_rows_IJ.add_(by_columns_IJ)


def _add_products(by_x_BD: Tensor, s_IJ: Tensor, points: Points, *, rows: slice, columns: slice) -> None:
    """Add S x, minus the rows' sums times x, to the rows and to the columns."""
    x_ID, x_JD = points.x_BD[rows] - points.centre_D, points.x_BD[columns] - points.centre_D
    with full_precision(by_x_BD.device):
        by_x_BD[rows].addmm_(s_IJ, x_JD)
        by_x_BD[rows].addcmul_(s_IJ.sum(1)[:, None], x_ID, value=-1)
        if rows == columns:
            return
        by_x_BD[columns].addmm_(s_IJ.T, x_ID)
        by_x_BD[columns].addcmul_(s_IJ.sum(0)[:, None], x_JD, value=-1)
