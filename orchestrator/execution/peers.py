"""Peers: the further workers of a trial that several processes train, each in its own bundle of Tune's reservation.

The trial's own actor is rank 0, which starts them, tells them what to do, and reports. They end with it: Ray ends an
actor whose owner is gone, and what was reserved for a trial is one placement group.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import get_current_placement_group, placement_group_table
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.execution.cluster.local_data import with_local_data
from trainables.engine import checkpoint as checkpoints
from trainables.engine import process_group
from trainables.engine.raised_errors import classified
from trainables.engine.share import Share
from trainables.engine.worker_process import prepare_process
from trainables.errors import Diverged, PeerLost, TrainableError, WorkerUnusable
from trainables.trial_training import open_trial

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainables.engine.epoch_loop import EpochLoop, TrialRun

LOOPBACK = "127.0.0.1"
CAUSE_S = 30.0
"""Wait for what the other workers say, when one is lost."""


class Peers:
    """Workers of ranks 1 to N - 1 of the trial that this actor trains.

    Args:
        bundles: what Tune reserved for each worker, rank 0 first.
    """

    def __init__(self, bundles: Sequence[Mapping[str, float]]) -> None:
        group = get_current_placement_group()
        self.world_size = len(bundles)
        self._actors = [
            ray.remote(Peer)
            .options(
                num_cpus=bundle.get("CPU", 0),
                num_gpus=bundle.get("GPU", 0),
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
            )
            .remote(rank, self.world_size, cpus=bundle.get("CPU", 1))
            for rank, bundle in enumerate(bundles)
            if rank
        ]

    def address(self) -> str:
        """Return the address at which the peers reach this process: the loopback if all are on its machine."""
        return LOOPBACK if len(set(nodes_of_reservation())) == 1 else address_seen_from(None)

    @contextmanager
    def working(self, method: str, *arguments: Any) -> Iterator[None]:
        """Have the peers run a method while the block does the part of rank 0; wait for all.

        Raises:
            TrainableError: that of the block; or of a peer, if the block only knows that one is lost.
            WorkerUnusable: a peer, or its machine, is gone.
        """
        parts = [getattr(actor, method).remote(*arguments) for actor in self._actors]
        try:
            yield
        except PeerLost as error:
            raise self._cause(parts) or error from None
        if (cause := self._cause(parts, timeout_s=None)) is not None:
            raise cause

    def end(self) -> None:
        """End the peers."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []

    def _cause(self, parts: Sequence[Any], *, timeout_s: float | None = CAUSE_S) -> Exception | None:
        """Return why a peer failed: the error of one that was not itself waiting for another."""
        ready, _ = ray.wait(list(parts), num_returns=len(parts), timeout=timeout_s)
        errors = [error for part in ready if (error := _error_of(part)) is not None]
        return next((error for error in errors if not isinstance(error, PeerLost)), next(iter(errors), None))


class Peer:
    """Further worker of a trial: it trains its share of each batch when rank 0 does, and reports nothing."""

    def __init__(self, rank: int, world_size: int, *, cpus: float) -> None:
        prepare_process(cpus=cpus)
        self._share = Share(rank, world_size)
        self._loop: EpochLoop[TrialRun] | None = None

    def prepare(self, config: dict[str, Any], checkpoint: bytes | None) -> None:
        """Build a trial as it is before its first epoch, or from the bytes of a checkpoint.

        Raises:
            TrialFailed, WorkerUnusable: as `TrialTrainable.step`.
        """
        process_group.leave()
        point = {name: value for name, value in config.items() if not name.startswith("ravel.")}
        with self._classifying(), tempfile.TemporaryDirectory(prefix="ravel-checkpoint-") as folder:
            point["data.root"] = with_local_data(config).get("data.root")
            if checkpoint is not None:
                Path(folder, checkpoints.FILE_NAME).write_bytes(checkpoint)
            self._loop = open_trial(point, None if checkpoint is None else folder, share=self._share)

    def join(self, address: str, port: int) -> None:
        """Join the process group of rank 0.

        Raises:
            PeerLost: rank 0, or another worker, does not answer.
        """
        with self._classifying():
            store = process_group.reach_store(address, port, world_size=self._share.world_size)
            device = self._prepared().run.placement.device
            process_group.join(store, *self._share.numbers, device=device, address=address_seen_from(address))

    def train(self) -> None:
        """Train this worker's share of an epoch; a trial that diverges does so in rank 0 too.

        Raises:
            TrialFailed, WorkerUnusable, PeerLost: as `TrialTrainable.step`; or another worker does not answer.
        """
        with self._classifying(), suppress(Diverged):
            self._prepared().run_epoch()

    def _prepared(self) -> EpochLoop[TrialRun]:
        if self._loop is None:
            raise RuntimeError("the worker was not prepared")
        return self._loop

    @contextmanager
    def _classifying(self) -> Iterator[None]:
        """Raise errors as whose fault they are; leave the process group first, so that no other worker waits."""
        try:
            yield
        except Exception as error:
            process_group.leave()
            if isinstance(error, PeerLost):
                raise
            raise classified(error, shares_gpu=False) from None


def nodes_of_reservation() -> list[str]:
    """Return Ray's id of the node of each worker of the trial that this actor trains, rank 0 first."""
    nodes = placement_group_table(get_current_placement_group())["bundles_to_node_id"]
    return [nodes[rank] for rank in sorted(nodes)]


def _error_of(part: Any) -> Exception | None:
    """Return the error that a peer raised, or that of its loss; None if it did its part."""
    try:
        ray.get(part)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, TrainableError):
            return cause
        return WorkerUnusable(f"{type(cause).__name__}: {cause}", str(error))
    except RayError as error:
        first = next(iter(str(error).splitlines()), "")
        return WorkerUnusable(f"another worker of this trial was lost ({type(error).__name__}: {first})", str(error))
    return None


def address_seen_from(other: str | None) -> str:
    """Return the address of this machine in the cluster, or the loopback if the other process is reached there."""
    return LOOPBACK if other == LOOPBACK else str(ray.util.get_node_ip_address())
