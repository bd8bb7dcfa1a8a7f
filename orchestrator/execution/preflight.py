"""Preflight checks: find every problem that depends on the machine before the sweep costs money.

The text of the spec was checked when it was loaded. Here the models are built (on torch's ``meta`` device: shapes, no
memory), the data sets are located, the tracking server is queried, and the storage is written to.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from orchestrator.decisions.retention import most_stored
from orchestrator.errors import OrchestratorError, PreflightError, TrialsRefused, quoted
from orchestrator.execution.cluster.addresses import HERE, kind_of
from orchestrator.execution.cluster.capacity import Capacity, Node
from orchestrator.execution.cluster.own_modules import deciding_modules, own_files, own_modules, size_problem
from orchestrator.execution.cores import cores_here
from orchestrator.execution.processes.limits import check_limits, check_unbatched
from orchestrator.execution.ray_cluster import check_unconnected
from orchestrator.execution.trial_checks import trial_problems
from orchestrator.formatting import shown_bytes
from orchestrator.planning.batch_choice import batch_of
from orchestrator.planning.plan import tracking_store
from orchestrator.planning.provenance import code_folder, find_own_code
from orchestrator.planning.validation import configured
from orchestrator.redaction import without_password
from orchestrator.scheduling.registry import pauses as promotes
from orchestrator.simulation.imagined_sweep import decider_problems
from orchestrator.state.sweep_lookup import try_out
from orchestrator.storage.locations import expanded, is_remote
from orchestrator.tracking.store import reachable
from trainables.config.trial import TrialConfig
from trainables.errors import TrainableError
from trainables.tasks.function.config import FunctionConfig
from trainables.tasks.lightning.config import LightningConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.spec.model import SweepSpec
    from trainables.config.optimizer import OptimizerConfig

logger = logging.getLogger(__name__)
UserLoop = FunctionConfig | LightningConfig
"""Configurations of trials whose loop, model and data are a user's own."""
MAX_NETWORKS = 32
MAX_SETS = 8
"""Of a user's own, of which each is built and run; a sweep may have as many as trials."""
MAX_LISTED = 200
MAX_SIZED = 8
"""Networks whose checkpoints are estimated before a launch."""
WITHOUT_BATCH_NORM = ("mlp", "cnn")


def check(spec: SweepSpec, storage: str, *, tracking_uri: str | None = None, launched_from: Path | None = None) -> None:
    """Check everything that the sweep will need.

    Args:
        spec: the checked spec.
        storage: a folder, or ``s3://bucket/prefix``, for sweeps.
        tracking_uri: the MLflow store that runs are sent to; not checked if None.
        launched_from: the folder that relative paths start from; by default the working directory.

    Raises:
        PreflightError: lists every problem, each with its remedy; a `TrialsRefused` if the spec has some of them.
    """
    problems = [
        *_storage_problems(storage),
        *_tracking_problems(tracking_uri or ""),
        *trial_problems(spec, launched_from or Path.cwd()),
        *decider_problems(spec),
    ]
    if problems:
        of_spec = any(not isinstance(problem, str) for problem in problems)
        raise (TrialsRefused if of_spec else PreflightError)(map(str, problems))


def check_here(spec: SweepSpec, *, address: str) -> None:
    """Run ``check`` for a sweep that is launched from the working directory."""
    if kind_of(address) == "processes":
        check_limits(spec.resources)
    else:
        check_unbatched(spec.resources, address)
        check_unconnected(address)
    files_to_send(spec, Path.cwd(), address=address)
    uri = tracking_store(spec, Path.cwd()) or os.environ.get("MLFLOW_TRACKING_URI")
    if kind_of(address) in HERE:  # the driver checks a cluster when it connects
        check_devices(spec, cpus=cores_here(), gpus=gpus_here())
    check(spec, spec.storage.uri, tracking_uri=uri)
    shortage = room_shortage(spec)
    if shortage is not None:
        logger.warning("%s", shortage)


def room_shortage(spec: SweepSpec, *, free: int | None = None) -> str | None:
    """Return a warning if the disk has less room than the checkpoints of a sweep take at least, else None.

    Each trial is counted with one checkpoint of its network, optimizer and averaged weights. Nothing is said of a sweep
    in S3, nor of trials whose network is a user's own.

    Args:
        spec: Checked spec.
        free: Free bytes; by default, those of the disk of ``storage.uri``.
    """
    size = None if is_remote(spec.storage.uri) else checkpoint_bytes(spec)
    if size is None:
        return None
    workers = max(1, int(cores_here() // spec.resources.cpus))
    live = spec.resources.max_concurrent or workers * batch_of(spec.resources, None)
    keep_best, num_trials = spec.storage.keep_best, spec.search.num_trials * spec.search.seeds
    stored = most_stored(num_trials, keep_best=keep_best, pauses=promotes(spec, slots=live), live=live)
    if free is None:
        free = shutil.disk_usage(expanded(spec.storage.uri)).free
    if stored * size <= free:
        return None
    remedy = "storage.keep_best keeps those of the best trials alone" if keep_best is None else "or launch fewer trials"
    return (
        f"storage.uri: {stored} trials with checkpoints of about {shown_bytes(size)} take {shown_bytes(stored * size)} "
        f"or more, and {spec.storage.uri} has {shown_bytes(free)} free; choose another disk: {remedy}"
    )


def checkpoint_bytes(spec: SweepSpec) -> float | None:
    """Estimate the size of a checkpoint: the mean over the first networks of a sweep; None if none is known."""
    from trainables.data import shape_of  # noqa: PLC0415  imports torch
    from trainables.models import build  # noqa: PLC0415

    configs = {
        (config.data.name, config.data.root, config.model, config.optimizer.name): config
        for _, config in configured(spec)
        if isinstance(config, TrialConfig) and not (config.model.is_own or config.data.is_own)
    }
    sizes = []
    for config in list(configs.values())[:MAX_SIZED]:
        try:
            image_shape, num_classes = shape_of(config.data)
            model = build(config.model, image_shape=image_shape, num_classes=num_classes, device="meta")
        except TrainableError:  # reported by the checks; a data set in S3 is not staged twice
            continue
        weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
        trained = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
        averaged = weights if config.optimizer.ema_decay else 0
        sizes.append(weights + averaged + trained * _moments(config.optimizer))
    return fmean(sizes) if sizes else None


def _moments(optimizer: OptimizerConfig) -> int:
    """Return how many numbers the optimizer keeps for each weight; a user's own is taken to keep none."""
    return {"adamw": 2, "sgd": int(optimizer.momentum > 0)}.get(optimizer.name, 0)


def files_to_send(spec: SweepSpec, folder: Path, *, address: str) -> dict[str, Path]:
    """Return the files of users' own modules that a cluster is sent, by import path.

    Where all workers run on this machine, they are sent none. A cluster that runs the driver is sent those of the
    sampler and the scheduler too.

    Raises:
        PreflightError: they are too large.
    """
    if kind_of(address) in HERE or not find_own_code(spec, folder):
        return {}
    deciding = deciding_modules(spec).values() if kind_of(address) == "dashboard" else ()
    files = own_files([*own_modules(spec), *deciding], code_folder(folder))
    problem = size_problem(files)
    if problem is not None:
        raise PreflightError([f"--address {address}: {problem}"])
    return files


def unequal_networks(spec: SweepSpec) -> tuple[str, ...]:
    """Return the networks that several workers train otherwise than one, by name.

    They are those with batch normalisation that is not synchronised, and those of a user, as they may have it.
    """
    if spec.resources.workers == 1:
        return ()
    models = [config.model for _, config in configured(spec) if isinstance(config, TrialConfig)]
    names = dict.fromkeys(model.name for model in models if not model.sync_batch_norm)
    return tuple(name for name in names if name not in WITHOUT_BATCH_NORM)


def check_devices(spec: SweepSpec, *, cpus: int, gpus: int) -> None:
    """Refuse a sweep whose trials need more than one machine of so many CPUs and GPUs has.

    Raises:
        PreflightError: no trial fits, or the field that names or counts a GPU.
    """
    machine = Capacity((Node(cpus=cpus, gpus=gpus),))
    per_trial = machine.gpus_per_trial(spec.resources)
    machine.slots(spec.resources.model_copy(update={"custom": {}}), per_trial)  # Ray knows the custom ones
    check_gpu_seconds(spec, gpus=per_trial)
    names = dict.fromkeys(config.device for _, config in configured(spec))
    absent = [name for name in names if name.startswith("cuda") and int(name.partition(":")[2] or 0) >= gpus]
    place = "trial.device" if "device" in spec.trial else "space.parameters.device"
    requirement = f"must be one of the {gpus} GPUs that torch finds on this machine"
    if absent:
        raise PreflightError([f"{place}: {requirement}, got {quoted(name)}; use auto or cpu" for name in absent])


def gpus_here() -> int:
    """Return the number of GPUs that torch sees on this machine."""
    import torch  # noqa: PLC0415

    return torch.cuda.device_count()


def check_gpu_seconds(spec: SweepSpec, *, gpus: float) -> None:
    """Refuse a sweep that counts GPU seconds if trials have no GPU.

    Raises:
        PreflightError: names the fields that count them.
    """
    counted = {
        "scheduler.resource": spec.scheduler.rung_unit == "gpu_seconds",
        "budget.gpu_s": spec.budget.gpu_s is not None,
    }
    problem = "counts GPU seconds, and trials here have no GPU; use another unit, or request GPUs in resources.gpus"
    if not gpus and any(counted.values()):
        raise PreflightError([f"{place}: {problem}" for place, counts in counted.items() if counts])


def _storage_problems(storage: str) -> Iterator[str]:
    try:
        try_out(storage)
    except OrchestratorError as error:  # errors of S3 name the place and the remedy
        yield f"storage.uri: {error}"
    except OSError as error:
        yield f"storage.uri: {storage} cannot be written ({os.strerror(error.errno or 0)}); choose another folder"


def _tracking_problems(uri: str) -> Iterator[str]:
    problem = reachable.problem_of(uri)
    if problem is not None:
        remedy = "fix it, or unset tracking.uri and MLFLOW_TRACKING_URI to track in a file of the working directory"
        yield f"tracking.uri: {without_password(uri)}: {problem}; {remedy}"
