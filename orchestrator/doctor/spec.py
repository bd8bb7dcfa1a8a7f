"""Check what a spec asks of this machine: own modules, data, models and devices. It imports torch and users' code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.doctor.finding import Finding, fail, ok, split, warn
from orchestrator.doctor.machine import nearest
from orchestrator.errors import OrchestratorError, PreflightError, SpecError
from orchestrator.execution.cluster.addresses import kind_of
from orchestrator.planning.batching import Alikeness
from orchestrator.planning.validation import configured
from orchestrator.storage.locations import expanded, is_remote
from search_spaces.errors import MissingExtraError
from trainables.errors import ConfigError, TrainableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.spec.model import SweepSpec


def probe(spec: str, overrides: Sequence[str], address: str) -> Iterator[Finding]:
    """Yield the findings on a spec, with the checks of a launch (``orchestrator.execution.preflight``)."""
    from orchestrator.execution import preflight, trial_checks  # noqa: PLC0415  imports torch when it builds models
    from orchestrator.execution.cores import cores_here  # noqa: PLC0415
    from orchestrator.planning.loading import load_spec  # noqa: PLC0415

    loaded = load_spec(spec, overrides)
    try:
        trial_checks.check_own_code(loaded)
        yield ok("own modules", "import, with the arguments of the spec")
        problems = [str(problem) for problem in trial_checks.trial_problems(loaded, Path.cwd())]
        yield from (fail("trials", *split(problem)) for problem in problems)
        if not problems:
            yield ok("trials", "data can be read, models can be built, and have the layers that are named")
        if address == "local":
            preflight.check_devices(loaded, cpus=cores_here(), gpus=preflight.gpus_here())
            yield ok("resources", "a trial fits on this machine")
        yield from _batch_findings(loaded, address)
        shortage = preflight.room_shortage(loaded, free=_free(loaded.storage.uri))
        yield ok("checkpoints", "the disk has room") if shortage is None else warn("checkpoints", *split(shortage))
    except (SpecError, PreflightError) as error:
        yield from (fail("trials", *split(str(problem))) for problem in error.problems)
    except (OrchestratorError, ConfigError, TrainableError) as error:
        yield fail("trials", *split(str(error)))
    except (MissingExtraError, ModuleNotFoundError) as error:
        yield fail("trials", str(error), "install what it imports")


def _batch_findings(spec: SweepSpec, address: str) -> Iterator[Finding]:
    """Yield how the trials of a worker are batched, if the spec asks for it; an error of a launch at this address.

    Raises:
        PreflightError: the workers at this address have one trial each.
    """
    from orchestrator.execution.processes.limits import check_unbatched  # noqa: PLC0415

    size = spec.resources.batch
    if size == 1:
        return
    if kind_of(address) != "processes":
        check_unbatched(spec.resources, address)
        yield ok("batch", "auto: 1 on Ray; --address processes measures if trials train faster as one program")
        return
    alike = Alikeness.of(config for _, config in configured(spec))
    how = "as many as a launch measures to be faster" if size == "auto" else f"up to {size} trials of a worker"
    yield ok("batch", f"{how}, as one program; of those that were sampled, {alike}")


def _free(storage: str) -> int | None:
    """Return the free bytes of the disk of a folder that may be still to come; None for S3."""
    return None if is_remote(storage) else shutil.disk_usage(nearest(expanded(storage).absolute())).free
