"""Regularizers of all members: those of one kind together, any other by itself, and the sum of a member's loss.

Shapes: M members, T terms of all members.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.batched.neighbours import NeighbourTerm, can_stack, kind_of, stacked_neighbours
from trainables.regularizers.protocol import Batch, Memory, Term
from trainables.regularizers.resolved_terms import WeightedTerm
from trainables.regularizers.terms.snnl import SoftNearestNeighbors

__all__ = ["ReadTerm", "with_terms"]


@dataclass(frozen=True, slots=True)
class ReadTerm:
    """Regularizer of a member, and what it reads."""

    member: int
    term: WeightedTerm
    batch: Batch


def with_terms(
    ce_M: Tensor, read: Sequence[ReadTerm], memories: Sequence[Mapping[str, Memory]]
) -> tuple[Tensor, tuple[Mapping[str, Tensor], ...], tuple[Mapping[str, Memory], ...]]:
    """Return each member's loss (M,), its terms by name in the order of a trial that trains alone, and its memory."""
    measured = _measured(read, memories)
    terms: list[dict[str, Tensor]] = [{"ce": ce} for ce in ce_M.unbind()]
    remembered: list[dict[str, Memory]] = [{} for _ in terms]
    total_M = ce_M
    if read:
        values_T = torch.stack([term.value.to(ce_M.dtype) for term in measured])
        weights_T = ce_M.new_tensor([one.term.weight for one in read])
        members_T = torch.tensor([one.member for one in read], device=ce_M.device)
        total_M = total_M.index_add(0, members_T, weights_T * values_T)
    for one, term in zip(read, measured, strict=True):
        terms[one.member] |= one.term.named(term)
        if term.memory:
            remembered[one.member][one.term.place] = term.memory
    for own, total in zip(terms, total_M.unbind(), strict=True):
        own["loss"] = total
    return total_M, tuple(terms), tuple(remembered)


def _measured(read: Sequence[ReadTerm], memories: Sequence[Mapping[str, Memory]]) -> list[Term]:
    """Return the term of each regularizer, before its weight."""
    results: dict[int, Term] = {}
    neighbours: dict[int, NeighbourTerm] = {}
    for place, one in enumerate(read):
        memory = memories[one.member].get(one.term.place, {})
        if isinstance(one.term.regularizer, SoftNearestNeighbors) and can_stack(one.batch):
            neighbours[place] = NeighbourTerm(one.term.regularizer, one.batch, memory)
        else:
            results[place] = one.term.measure(one.batch, memory)
    for kind in dict.fromkeys(map(kind_of, neighbours.values())):
        group = {place: term for place, term in neighbours.items() if kind_of(term) == kind}
        results |= zip(group, stacked_neighbours(list(group.values())), strict=True)
    return [results[place] for place in range(len(read))]
