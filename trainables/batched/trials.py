"""Trials that train together, as one program, and that come and go between epochs.

A member is the `EpochLoop` of a trial that could as well train alone: it has its own model, optimizer, data and random
streams. An epoch takes the state of all members, trains them as rows of one matrix, and gives each its state back. So
a member that leaves is a trial like any other, its checkpoint is that of a trial that trained alone, and one that was
restored from such a checkpoint can join.
"""

import time
from collections.abc import Mapping, Sequence
from typing import TypeAlias, final

from torch import Tensor

from trainables.batched.epoch import StackedEpoch
from trainables.batched.refusals import why_not_batched, why_not_together
from trainables.engine.epoch_loop import EpochLoop
from trainables.engine.epoch_report import EpochReport
from trainables.engine.guards import memory_guard
from trainables.errors import AttackOverfitted, ConfigError, Diverged, Problem
from trainables.tasks.classifier.run import ClassifierRun

__all__ = ["BatchedTrials", "Ended", "Outcome"]

Ended: TypeAlias = Diverged | AttackOverfitted | ConfigError
"""Error that ends one member, and no other one: a wrong configuration is noticed by its data, or its own metrics."""
Outcome: TypeAlias = EpochReport | Ended


@final
class BatchedTrials:
    """Members by name, in the order in which they joined; each may be in another epoch of its own."""

    def __init__(self) -> None:
        self._loops: dict[str, EpochLoop[ClassifierRun]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members."""
        return tuple(self._loops)

    def join(self, name: str, loop: EpochLoop[ClassifierRun]) -> None:
        """Add a member, new or restored from a checkpoint; it trains with the others from the next epoch on.

        Raises:
            ConfigError: it cannot be batched, or not with the members (see `why_not_batched`, `why_not_together`).
            ValueError: a member of this name, a trial without an epoch left, or one that several processes train.
        """
        if name in self._loops:
            raise ValueError(f"name: must be that of no member, got {name!r}")
        if loop.finished:
            raise ValueError(f"loop: must have an epoch left, got one with all {loop.config.epochs} complete")
        if not loop.run.placement.share.is_whole:
            raise ValueError("loop: must be trained by one process to be batched")
        config, others = loop.run.config, [other.run for other in self._loops.values()]
        reasons = why_not_batched(config) or (why_not_together(others[0].config, config) if others else None)
        if reasons:
            raise ConfigError(Problem(*line.split(": ", 1)) for line in reasons.splitlines())
        for other in others[:1]:  # one copy of the images for all
            loop.run.train_split, loop.run.val_split = other.train_split, other.val_split
        self._loops[name] = loop

    def leave(self, name: str) -> EpochLoop[ClassifierRun]:
        """Remove a member, and return it with its state: it can be saved, trained alone, or rejoin.

        Raises:
            KeyError: no such member.
        """
        return self._loops.pop(name)

    def loop(self, name: str) -> EpochLoop[ClassifierRun]:
        """Return a member, to save it; its state is that after its last epoch."""
        return self._loops[name]

    def run_epoch(self) -> Mapping[str, Outcome]:
        """Train and evaluate an epoch of each member; a member that ends, or has no epoch left, leaves.

        The times of a member's report are its share: of the training that all had in common an equal part, and its
        own evaluation. They sum to the time of the process.

        Raises:
            OutOfMemory: the members do not fit together. Their states are no longer those between two epochs: restore
                each from its checkpoint.
        """
        outcomes: dict[str, Outcome] = {}
        members, orders = list[tuple[str, EpochLoop[ClassifierRun]]](), list[Tensor]()
        for name, loop in self._loops.items():
            try:
                orders.append(loop.run.order())
                members.append((name, loop))
            except ConfigError as error:
                outcomes[name] = error
        if members:
            outcomes |= self._trained(members, orders)
        for name, outcome in outcomes.items():
            if not isinstance(outcome, EpochReport) or self._loops[name].finished:
                self.leave(name)
        return outcomes

    @staticmethod
    def _trained(
        members: Sequence[tuple[str, EpochLoop[ClassifierRun]]], orders: Sequence[Tensor]
    ) -> dict[str, Outcome]:
        runs, epochs = [loop.run for _, loop in members], [loop.epoch + 1 for _, loop in members]
        started = time.perf_counter()
        with memory_guard("training", len(runs) * runs[0].config.batch_size, device=runs[0].placement.device):
            stack = StackedEpoch(runs, epochs, orders)
            trained = stack.train()
            alive = [member for member, metrics in enumerate(trained) if not isinstance(metrics, Diverged)]
            for member in alive:
                stack.unload(member)
            robust = stack.pgd_accuracies(alive)
            logits = dict(zip(alive, stack.logits(alive), strict=True)) if alive else {}
        common_s = (time.perf_counter() - started) / len(members)
        outcomes: dict[str, Outcome] = {}
        for member, (name, loop) in enumerate(members):
            terms, started = trained[member], time.perf_counter()
            if isinstance(terms, Diverged):
                outcomes[name] = terms
                continue
            metrics = {f"train/{term}": value for term, value in terms.items()}
            images = loop.run.batches_per_epoch * min(loop.run.config.batch_size, len(loop.run.train_split))
            metrics["time/images_per_s"] = images / common_s
            try:
                if member in robust:
                    metrics |= loop.run.check_attack(robust[member], epoch=epochs[member])
                metrics |= loop.run.evaluate_logits(logits[member], epoch=epochs[member])
            except (Diverged, AttackOverfitted, ConfigError) as error:
                outcomes[name] = error
                continue
            outcomes[name] = loop.count(metrics, epoch_s=common_s + time.perf_counter() - started)
        return outcomes
