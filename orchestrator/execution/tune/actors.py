"""Changes to what Tune does with actors and their resources, for the length of a sweep."""

from __future__ import annotations

import functools
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ray.air.execution._internal import actor_manager
from ray.air.execution.resources import request
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayActorError, WorkerCrashedError
from ray.tune.execution import tune_controller

from orchestrator.execution.tune.cluster import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ray.tune.experiment import Trial as TuneTrial


@contextmanager
def lost_workers() -> Iterator[None]:
    """Have Tune treat every worker that Ray ended as lost.

    Tune 2.60 knows the death of an actor alone. A worker killed by Ray's memory monitor, or a result lost with its
    node, ends the whole sweep there with "Caught unexpected exception".
    """
    kinds = (RayActorError, OutOfMemoryError, WorkerCrashedError, NodeDiedError, ObjectLostError)
    modules: tuple[Any, ...] = (actor_manager, tune_controller)
    for module in modules:
        module.RayActorError = kinds
    try:
        yield
    finally:
        for module in modules:
            module.RayActorError = RayActorError


@contextmanager
def released_from(is_leaving: Callable[[TuneTrial], bool]) -> Iterator[None]:
    """Have Tune end the actor of a trial that leaves a node, rather than keep it there for the next trial."""
    controller: Any = tune_controller.TuneController
    original = controller._maybe_cache_trial_actor  # noqa: SLF001  Tune has no setting for it

    def cache(self: Any, trial: TuneTrial) -> bool:
        return not is_leaving(trial) and bool(original(self, trial))

    controller._maybe_cache_trial_actor = cache  # noqa: SLF001
    try:
        yield
    finally:
        controller._maybe_cache_trial_actor = original  # noqa: SLF001


@contextmanager
def starting_workers_kept() -> Iterator[None]:
    """Have Tune give an idle worker to a trial without one, before a trial whose own worker starts.

    Tune 2.60 gives it to any waiting trial, and ends the worker that was starting for that one. Where trials end sooner
    than a worker starts, a new slot or node would never come to train.
    """
    controller: Any = tune_controller.TuneController
    original = controller._maybe_reuse_cached_actor  # noqa: SLF001  Tune has no setting for it

    def reuse(self: Any, trial: TuneTrial) -> bool:
        own = self._trial_to_actor.get(trial)
        is_starting = own is not None and self._actor_manager.is_actor_started(own)
        waiting = self._resources_to_pending_trials[trial.placement_group_factory]
        if (
            is_starting
            and trial not in self._resetting_trials
            and any(other not in self._trial_to_actor for other in waiting)
        ):
            return False
        return bool(original(self, trial))

    controller._maybe_reuse_cached_actor = reuse  # noqa: SLF001
    try:
        yield
    finally:
        controller._maybe_reuse_cached_actor = original  # noqa: SLF001


@contextmanager
def named_reservations(sweep: str) -> Iterator[None]:
    """Have Tune name what it reserves in Ray after the sweep, so that a look at the cluster tells whose it is.

    No setting of Tune's does: a name is given once, and Tune keeps an actor only for trials that ask for the same.
    """
    module: Any = request
    original = module.placement_group

    @functools.wraps(original)
    def named(*args: Any, **settings: Any) -> Any:
        return original(*args, **settings, name=NAME.format(sweep=sweep, unique=uuid.uuid4().hex))

    module.placement_group = named
    try:
        yield
    finally:
        module.placement_group = original
