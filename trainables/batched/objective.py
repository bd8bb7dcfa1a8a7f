"""Loss of one training step of all members: the loss of `trainables.tasks.classifier.objective`, stacked.

Each member has its own images, labels, methods and draws; a pass is made for those members that need it. The passes
have the order of a trial that trains alone, because batch normalisation remembers it: the attack, the attacked images,
the clean ones (mixed where the member mixes), and the unmixed ones of members that mix and have a regularizer of hard
labels. The total is the sum over the members, so its gradient by a member's weights is that of the member's own loss.
Shapes: M members, B images of a batch, C channels, H by W pixels, K classes.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor
from torch.nn import functional

from trainables.batched.attack import Climb, attacked
from trainables.batched.layers import Values
from trainables.batched.mixing import StackedMix
from trainables.batched.network import StackedNetwork
from trainables.batched.terms import ReadTerm, with_terms
from trainables.batched.weights import StackedWeights, taken
from trainables.mixup import Mix, mixed_targets
from trainables.models import Activations
from trainables.models.tapped import LOGITS
from trainables.regularizers.protocol import Batch, Memory
from trainables.regularizers.resolved_methods import Draws, Methods
from trainables.regularizers.resolved_terms import WeightedTerm
from trainables.tasks.classifier.cross_entropy import classification_loss, smoothed

__all__ = ["StackedBatch", "StackedLoss", "stacked_loss"]


@dataclass(frozen=True, slots=True)
class StackedBatch:
    """Images (M, B, C, H, W) in [0, 1], labels (M, B), and each member's methods, draws and memory."""

    x_MBCHW: Tensor
    y_MB: Tensor
    methods: Sequence[Methods]
    draws: Sequence[Draws]
    memories: Sequence[Mapping[str, Memory]]
    num_classes: int


@dataclass(frozen=True, slots=True)
class StackedLoss:
    """Sum of the losses of all members, 0-d, and each member's terms and memory, as a `Loss` has them."""

    total: Tensor
    terms: tuple[Mapping[str, Tensor], ...]
    memories: tuple[Mapping[str, Memory], ...]


@dataclass(frozen=True, slots=True)
class _Pass:
    """Activations of some members: the logits (R, B, K), and of each member its logits and the taps that were read."""

    members: Sequence[int]
    logits_RBK: Tensor
    logits: Mapping[int, Tensor]
    taps: Mapping[str, Mapping[int, Tensor]]


def stacked_loss(
    network: StackedNetwork, weights: StackedWeights, batch: StackedBatch, *, autocast: torch.autocast
) -> StackedLoss:
    """Compute the loss of one batch of each member; the gradient flows to `weights.rows_MP`."""
    methods, everyone = batch.methods, range(len(batch.methods))
    attacking = [member for member in everyone if methods[member].attacking]
    mixes = [draws.clean_mix for draws in batch.draws]
    clean = [member for member in everyone if _needs_clean(methods[member], mixes[member])]
    unmixed = [member for member in everyone if mixes[member] is not None and _reads_unmixed(methods[member])]
    with autocast:
        values = weights.values(training=True)
    targets_MBK = functional.one_hot(batch.y_MB, batch.num_classes).to(batch.x_MBCHW.dtype)
    x_attacked = _attacked(network, weights, batch, attacking)

    def passed(
        members: list[int], x_RBCHW: Tensor, mixtures: Sequence[Mix | None], taps: Collection[str] = ()
    ) -> _Pass | None:
        if not members:
            return None
        own = taken(values, members)
        with autocast:
            activations = network.features(x_RBCHW, own, mixtures=mixtures, taps=taps)
        weights.put_back(members, own)
        return _by_member(activations, members)

    adversarial_mixes = [batch.draws[member].adversarial_mix for member in attacking]
    clean_mixes = [mixes[member] for member in clean]
    after_attack = passed(attacking, x_attacked, adversarial_mixes)
    of_clean = passed(clean, _rows(batch.x_MBCHW, clean), clean_mixes, _taps(batch, clean, mixed=True))
    of_unmixed = passed(unmixed, _rows(batch.x_MBCHW, unmixed), [], _taps(batch, unmixed, mixed=False))

    ce_M = _weighted(
        batch,
        _cross_entropies(batch, after_attack, adversarial_mixes, targets_MBK),
        _cross_entropies(batch, of_clean, clean_mixes, targets_MBK),
    )
    read = [
        ReadTerm(member, term, _read(network, batch, (member, term), (of_clean, of_unmixed), targets_MBK))
        for member in everyone
        for term in methods[member].terms
    ]
    total_M, terms, memories = with_terms(ce_M, read, batch.memories)
    return StackedLoss(total_M.sum(), terms, memories)


def _needs_clean(methods: Methods, mix: Mix | None) -> bool:
    """Return True if a member needs the pass of its clean images, mixed if it mixes."""
    reads = any(mix is None or term.on_mixed for term in methods.terms)
    return reads or not methods.attacking or methods.adversarial.clean_fraction > 0


def _reads_unmixed(methods: Methods) -> bool:
    return any(not term.on_mixed for term in methods.terms)


def _taps(batch: StackedBatch, members: Sequence[int], *, mixed: bool) -> set[str]:
    """Return the taps that members' terms read of the clean pass, or of the unmixed one."""
    return {
        tap
        for member in members
        for term in batch.methods[member].terms
        if (batch.draws[member].clean_mix is None or term.on_mixed) == mixed
        for tap in term.taps
    }


def _rows(x: Tensor, members: Sequence[int]) -> Tensor:
    return x if len(members) == len(x) else x[list(members)]


def _by_member(activations: Activations, members: Sequence[int]) -> _Pass:
    # One `unbind` for all: the gradient of single selections would fill a whole tensor for each of them.
    logits = dict(zip(members, activations.logits.unbind(), strict=True))
    taps = {tap: dict(zip(members, values.unbind(), strict=True)) for tap, values in activations.taps.items()}
    return _Pass(members, activations.logits, logits, taps)


def _attacked(network: StackedNetwork, weights: StackedWeights, batch: StackedBatch, members: Sequence[int]) -> Tensor:
    """Return the attacked images of the members that attack."""
    if not members:
        return batch.x_MBCHW[:0]
    rows = weights.rows_MP.detach()
    values = Values(len(rows), weights.layout.split(rows), weights.buffers)
    return attacked(
        network,
        taken(values, members),
        _rows(batch.x_MBCHW, members),
        _rows(batch.y_MB, members),
        climbs=[Climb.of_training(batch.methods[member].adversarial) for member in members],
        noise=[batch.draws[member].noise_BCHW for member in members],
    )


def _cross_entropies(
    batch: StackedBatch, of: _Pass | None, mixtures: Sequence[Mix | None], targets_MBK: Tensor
) -> tuple[Sequence[int], Tensor] | None:
    """Return the members of a pass, and the classification loss of each of them (R,); None without a pass."""
    if of is None:
        return None
    size, device = targets_MBK.shape[1], targets_MBK.device
    targets_RBK = _rows(targets_MBK, of.members)
    if any(mix is not None for mix in mixtures):
        targets_RBK = StackedMix.of(mixtures, batch_size=size, device=device).targets(targets_RBK)
    losses = [batch.methods[member].loss for member in of.members]
    if any(loss.name != "cross_entropy" for loss in losses):
        parts = zip(of.logits.values(), targets_RBK, losses, strict=True)
        return of.members, torch.stack([classification_loss(x_BK, y_BK, settings=loss) for x_BK, y_BK, loss in parts])
    if any(loss.label_smoothing for loss in losses):
        rows = zip(targets_RBK, losses, strict=True)
        targets_RBK = torch.stack([smoothed(y_BK, loss.label_smoothing) for y_BK, loss in rows])
    logits_NK = of.logits_RBK.flatten(0, 1).to(targets_RBK.dtype)
    losses_N = functional.cross_entropy(logits_NK, targets_RBK.flatten(0, 1), reduction="none")
    return of.members, losses_N.view(len(of.members), size).mean(1)


def _weighted(
    batch: StackedBatch,
    adversarial: tuple[Sequence[int], Tensor] | None,
    clean: tuple[Sequence[int], Tensor] | None,
) -> Tensor:
    """Return the cross-entropy of each member (M,): of attacked and clean images, as its fraction weighs them."""
    count, x = len(batch.methods), batch.x_MBCHW

    def placed(part: tuple[Sequence[int], Tensor] | None) -> Tensor:
        if part is None:
            return x.new_zeros(count)
        return x.new_zeros(count).index_copy(0, torch.tensor(part[0], device=x.device), part[1])

    if adversarial is None:
        return placed(clean)
    fractions = [methods.adversarial.clean_fraction if methods.attacking else 1.0 for methods in batch.methods]
    return torch.lerp(placed(adversarial), placed(clean), x.new_tensor(fractions))


def _read(
    network: StackedNetwork,
    batch: StackedBatch,
    of: tuple[int, WeightedTerm],
    passes: tuple[_Pass | None, _Pass | None],
    targets_MBK: Tensor,
) -> Batch:
    """Return what a regularizer of one member reads of the clean or the unmixed pass."""
    member, term = of
    mix = batch.draws[member].clean_mix if term.on_mixed else None
    source = passes[batch.draws[member].clean_mix is not None and mix is None]
    if source is None:
        raise ValueError("passes: that which a regularizer reads must be made")
    targets_BK, names = targets_MBK[member], (*term.taps, LOGITS)
    follow = () if mix is None else [name for name in names if network.model.follows(name, mix.boundary)]
    return Batch(
        taps={tap: source.taps[tap][member] for tap in term.taps},
        logits=source.logits[member],
        labels=batch.y_MB[member],
        targets={name: mixed_targets(targets_BK, mix) if name in follow else targets_BK for name in names},
        mixed=mix is not None,
        images=batch.x_MBCHW[member],
        forward=_no_further_pass,
        purpose=term.place,
    )


def _no_further_pass(_: Tensor) -> NoReturn:
    raise TypeError("regularizers: one that makes a further pass cannot be batched")
