"""Soft nearest neighbour loss of all members at once.

The formulas are those of `trainables.snnl`, mapped over the members and their layers by `torch.func.vmap`: the closed
form of the loss and of its gradient, and the choice of a temperature. Members whose modes, distances and layers agree
are computed together; each has its own temperature, and its own learned one.
Shapes: M members, B images, D features; S = M * layers, the layers of all members.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from trainables.regularizers.protocol import Batch, Memory, Term
from trainables.regularizers.terms.snnl import SoftNearestNeighbors
from trainables.snnl.closed_form import Kinds, log2_sum, losses_of, mean_of, pull_of, score_gradient
from trainables.snnl.composition import Company
from trainables.snnl.distances import full_precision, place
from trainables.snnl.functions import MATRIX_LIMIT
from trainables.snnl.sample import ROUNDINGS, Sample
from trainables.snnl.training import LearnedTemperature, choose_beta

__all__ = ["NeighbourTerm", "can_stack", "kind_of", "stacked_neighbours"]


class NeighbourTerm(NamedTuple):
    """Regularizer of one member, with the batch that it reads and what it remembers."""

    regularizer: SoftNearestNeighbors
    batch: Batch
    memory: Memory


class _Choice(NamedTuple):
    """1 / T of each layer of each member (S,), and the learned temperatures, None in another mode."""

    beta_S: Tensor
    log_beta_S: Tensor | None
    origin_S: Tensor | None


class _Placed(NamedTuple):
    """Features of one layer (M, B, D), differentiable, with the centred ones and distances, without gradient."""

    x_MBD: Tensor
    centred_MBD: Tensor
    distances_MBB: Tensor
    rounding_M: Tensor


def can_stack(batch: Batch) -> bool:
    """Return True if the loss has its matrix form for this batch: hard labels, and few enough images."""
    return not batch.mixed and len(batch.labels) <= MATRIX_LIMIT


def kind_of(term: NeighbourTerm) -> tuple[Any, ...]:
    """Return what must be equal in terms that are computed together."""
    regularizer = term.regularizer
    return regularizer.temperature_mode, regularizer.distance, tuple(term.batch.taps), not term.memory


def stacked_neighbours(terms: Sequence[NeighbourTerm]) -> list[Term]:
    """Return the term of each member, as its regularizer would; all must be of one kind."""
    (mode, distance, taps, is_first), labels_MB = kind_of(terms[0]), torch.stack([term.batch.labels for term in terms])
    placed = [_place(torch.stack([term.batch.taps[tap] for term in terms]), distance) for tap in taps]
    distances_SBB = torch.cat([layer.distances_MBB for layer in placed])
    labels_SB = labels_MB.repeat(len(taps), 1)
    temperature_S = distances_SBB.new_tensor([term.regularizer.temperature for term in terms]).repeat(len(taps))
    rounding_S = torch.cat([layer.rounding_M for layer in placed])
    learned = None if is_first or mode != "learned" else _learned(terms, taps)
    with torch.no_grad():
        choice = _choice(distances_SBB, labels_SB, rounding_S, temperature_S, mode=mode, learned=learned)
        factor = 2.0 if distance == "sqeuclidean" else 1.0
        losses_S, weights_SBB = _closed_form(distances_SBB, labels_SB, choice.beta_S, factor)
        company_M = _company(labels_MB)
        chance_M = _chance(company_M)
    parts = [
        _Loss.apply(layer.x_MBD, losses_M, weights_MBB, layer.centred_MBD)  # type: ignore[no-untyped-call]
        for layer, losses_M, weights_MBB in zip(
            placed, losses_S.chunk(len(taps)), weights_SBB.chunk(len(taps)), strict=True
        )
    ]
    if mode == "minimised":
        parts = [torch.minimum(part_M, chance_M.to(part_M.dtype)) for part_M in parts]
    values = torch.stack(parts).sum(0).unbind()
    chances = (len(taps) * chance_M.float()).unbind()
    alone = (~company_M.valid_B).sum(1).float().unbind()
    memories = _memories(choice, taps, len(terms))
    return [
        Term(value, metrics={"chance": chance, "singletons": singletons}, memory=memory)
        for value, chance, singletons, memory in zip(values, chances, alone, memories, strict=True)
    ]


def _place(features: Tensor, distance: Any) -> _Placed:
    members, size = features.shape[:2]
    points = place(features.flatten(0, 1), distance)  # its centre is that of all members, and not used
    x_MBD = torch.unflatten(points.x_BD, 0, (members, size))
    with torch.no_grad(), full_precision(features.device):
        centre_M1D = x_MBD.mean(1, keepdim=True)
        centred_MBD = x_MBD - centre_M1D
        products_MBB = torch.bmm(centred_MBD, centred_MBD.transpose(1, 2)).tril_()
        products_MBB = products_MBB + products_MBB.tril(-1).transpose(1, 2)
        offset_MB = products_MBB.diagonal(dim1=1, dim2=2).clone()
        if points.lift_B is not None:
            offset_MB = offset_MB / 2 + points.lift_B.view(members, size)
        distances_MBB = products_MBB.mul_(-points.factor).add_(offset_MB[:, :, None]).add_(offset_MB[:, None])
        eps = torch.finfo(x_MBD.dtype).eps
        rounding_M = ROUNDINGS * eps * (ROUNDINGS * eps * centre_M1D).square().sum((1, 2))
    return _Placed(x_MBD, centred_MBD, distances_MBB.clamp_min_(0), rounding_M)


def _choice(
    distances_SBB: Tensor,
    labels_SB: Tensor,
    rounding_S: Tensor,
    temperature_S: Tensor,
    *,
    mode: Any,
    learned: tuple[Tensor, Tensor] | None,
) -> _Choice:
    """Choose the temperature of each layer of each member, as `choose_beta` does."""
    if mode == "absolute":
        return _Choice(1 / temperature_S, None, None)
    anchors_B = torch.arange(labels_SB.shape[1], device=labels_SB.device)

    def choose(
        distances_BB: Tensor, labels_B: Tensor, rounding: Tensor, temperature: Any, *learned: Tensor
    ) -> tuple[Tensor, ...]:
        def own_of(anchors_A: Tensor) -> Tensor:
            return (labels_B[anchors_A, None] == labels_B).to(distances_BB.dtype)

        before = LearnedTemperature(*learned) if learned else None
        sample = Sample(anchors_B, distances_BB, rounding)
        beta, after = choose_beta(sample, own_of, mode=mode, temperature=temperature, learned=before)
        return (beta,) if after is None else (beta, after.log_beta, after.origin)

    beta_S, *after = torch.func.vmap(choose)(distances_SBB, labels_SB, rounding_S, temperature_S, *(learned or ()))
    return _Choice(beta_S, *(after or (None, None)))


def _closed_form(distances_SBB: Tensor, labels_SB: Tensor, beta_S: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return the loss of each layer (S,), and the matrix of its gradient by the centred features (S, B, B)."""
    same_SBB = (labels_SB[:, :, None] == labels_SB[:, None]).to(distances_SBB.dtype)
    not_own_SBB = 1 - same_SBB
    not_own_SBB.diagonal(dim1=1, dim2=2).fill_(1)
    pairs, classes = Kinds(not_own_SBB, same_SBB), _company(labels_SB)

    def sums(
        distances_BB: Tensor, not_own_BB: Tensor, not_other_BB: Tensor, beta: Tensor, *counts: Tensor
    ) -> tuple[Tensor, ...]:
        own_B = log2_sum(distances_BB, not_own_BB, beta=beta, dim=1)
        other_B = log2_sum(distances_BB, not_other_BB, beta=beta, dim=1)
        losses_B, _ = losses_of(own_B, other_B, Company(*counts))
        return mean_of(losses_B, Company(*counts)), *pull_of(own_B, other_B, Company(*counts))

    losses_S, own_SB, other_SB = torch.func.vmap(sums)(distances_SBB, *pairs, beta_S, *classes)
    beta_S11 = beta_S[:, None, None]
    slopes_SBB = score_gradient(
        distances_SBB, pairs, own_I=own_SB[:, :, None], other_I=other_SB[:, :, None], beta=beta_S11
    )
    slopes_SBB = slopes_SBB + slopes_SBB.transpose(1, 2)
    slopes_SBB.diagonal(dim1=1, dim2=2).sub_(slopes_SBB.sum(2))
    return losses_S, slopes_SBB.mul_(factor * beta_S11)


class _Loss(Function):
    """Losses that are computed already, with their gradient by the features: one product of matrices."""

    @staticmethod
    def forward(ctx: Any, _x_MBD: Tensor, losses_M: Tensor, weights_MBB: Tensor, centred_MBD: Tensor) -> Tensor:
        ctx.save_for_backward(weights_MBB, centred_MBD)
        return losses_M.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        weights_MBB, centred_MBD = ctx.saved_tensors
        with full_precision(centred_MBD.device):
            return torch.bmm(weights_MBB * slopes[0][:, None, None], centred_MBD), None, None, None


def _company(labels_SB: Tensor) -> Company:
    """Return the class counts of each anchor, (S, B)."""
    others_SB = (labels_SB[:, :, None] == labels_SB[:, None]).sum(2) - 1
    valid_SB = others_SB > 0
    return Company(others_SB, valid_SB, valid_SB & (others_SB < labels_SB.shape[1] - 1))


def _chance(classes: Company) -> Tensor:
    """Return the loss at infinite temperature, (S,), in float64."""
    surprise_SB = ((classes.others_B.shape[1] - 1) / classes.others_B.clamp_min(1).double()).log()
    return surprise_SB.where(classes.valid_B, 0).sum(1) / classes.valid_B.sum(1).clamp_min(1)


def _learned(terms: Sequence[NeighbourTerm], taps: Sequence[str]) -> tuple[Tensor, Tensor]:
    log_beta, origin = (
        torch.stack([term.memory[f"{tap}/{name}"] for tap in taps for term in terms]) for name in ("log_beta", "origin")
    )
    return log_beta, origin


def _memories(choice: _Choice, taps: Sequence[str], members: int) -> list[dict[str, Tensor]]:
    if choice.log_beta_S is None or choice.origin_S is None:
        return [{} for _ in range(members)]
    log_betas, origins = choice.log_beta_S.unbind(), choice.origin_S.unbind()
    return [
        {
            name: value
            for place, tap in enumerate(taps)
            for name, value in (
                (f"{tap}/log_beta", log_betas[place * members + member]),
                (f"{tap}/origin", origins[place * members + member]),
            )
        }
        for member in range(members)
    ]
