"""Limits of worker processes and of Ray: what a spec may ask for that only the other one can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import PreflightError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.spec.resources import Resources

ADDRESS = "processes"


def check_limits(resources: Resources) -> None:
    """Return if worker processes can run the trials of a spec.

    Raises:
        PreflightError: lists what they cannot do, each with its remedy.
    """
    problems = tuple(problems_of(resources))
    if problems:
        raise PreflightError(problems)


def check_unbatched(resources: Resources, address: str) -> None:
    """Return if Ray can run the trials of a spec: it has one for each worker.

    Raises:
        PreflightError: the spec asks for batches of trials.
    """
    if resources.batch not in {1, "auto"}:
        requirement = f"must be 1 or auto on Ray (--address {address}), where each trial has a worker of its own"
        remedy = f"set it to 1, or run the sweep with --address {ADDRESS}"
        raise PreflightError([f"resources.batch: {requirement}, got {resources.batch}; {remedy}"])


def problems_of(resources: Resources) -> Iterator[str]:
    """Yield what a spec asks for that worker processes cannot do."""
    remedy = f"or leave out --address {ADDRESS}, so that Ray runs the workers"
    if resources.workers > 1:
        requirement = f"must be 1 with --address {ADDRESS}, where each trial has one process"
        yield f"resources.workers: {requirement}, got {resources.workers}; set it to 1, {remedy}"
    for name in sorted(resources.custom):
        requirement = f"must not be set with --address {ADDRESS}: only Ray counts resources of its nodes"
        yield f"resources.custom.{name}: {requirement}; remove it, {remedy}"
