"""Limits of worker processes: what a spec may ask for that only Ray can do."""

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


def problems_of(resources: Resources) -> Iterator[str]:
    """Yield what a spec asks for that worker processes cannot do."""
    remedy = f"or leave out --address {ADDRESS}, so that Ray runs the workers"
    if resources.workers > 1:
        requirement = f"must be 1 with --address {ADDRESS}, where each trial has one process"
        yield f"resources.workers: {requirement}, got {resources.workers}; set it to 1, {remedy}"
    for name in sorted(resources.custom):
        requirement = f"must not be set with --address {ADDRESS}: only Ray counts resources of its nodes"
        yield f"resources.custom.{name}: {requirement}; remove it, {remedy}"
