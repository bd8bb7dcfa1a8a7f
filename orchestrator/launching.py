"""Launch and resume sweeps from Python: spec -> plan -> driver -> result."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from orchestrator.analysis.report.attaching import attach
from orchestrator.analysis.result import SweepResult
from orchestrator.errors import Interrupted, SpecError
from orchestrator.execution import driver
from orchestrator.execution.cluster.addresses import OPTION, chosen_address, kind_of
from search_spaces import Problem

if TYPE_CHECKING:
    from orchestrator.execution.progress import ProgressCallback
    from orchestrator.planning.plan import Parent
    from orchestrator.spec.model import SweepSpec
    from orchestrator.state.sweep_folder import SweepFolder


def launch(
    spec: SweepSpec,
    *,
    address: str | None = None,
    callback: ProgressCallback | None = None,
    sweep: str | None = None,
    parent: Parent | None = None,
) -> SweepResult:
    """Run a new sweep to its end: in any thread, in a notebook too; one at a time in each process.

    Args:
        spec: from ``load_spec``, or made in Python.
        address: ``local`` (start a private Ray), ``processes`` (worker processes of this machine, without Ray),
            ``auto`` or ``host:port`` (join a running cluster); by default that of ``RAY_ADDRESS``, else ``local``.
        callback: notified of each event while the sweep runs, from the thread that runs the trials.
        sweep: id of the sweep, if it must be known before the sweep begins; by default a new one.
        parent: lineage, of a fork.

    Raises:
        SpecError: the spec cannot run; nothing was started.
        PreflightError: this machine lacks something that the spec requires, or this process runs a sweep already;
            nothing was started.
        Interrupted: Ctrl-C, SIGTERM or SIGHUP; continue with ``resume``.
        RayLost: Ray died; continue with ``resume``.
        SweepLocked: another driver took the sweep over, as this one sent no heartbeat for too long.

    Example:
        >>> from orchestrator import load_spec
        >>> launch(load_spec("examples/digits.yaml")).best().score  # doctest: +SKIP
        0.9916
    """
    address = _joinable(address)
    return _reported(SweepResult(*driver.run_new(spec, address=address, callback=callback, sweep=sweep, parent=parent)))


def resume(folder: SweepFolder, *, address: str | None = None, callback: ProgressCallback | None = None) -> SweepResult:
    """Continue an interrupted or killed sweep: no trial is lost, none runs twice.

    Raises:
        SweepLocked: its driver still runs.
        SweepCopied: the folder is a copy of the sweep's.
        PreflightError: this machine lacks something that the spec requires, or this process runs a sweep already.
        Interrupted: Ctrl-C, SIGTERM or SIGHUP, once more.
        RayLost: Ray died.
    """
    return _reported(SweepResult(*driver.run_remaining(folder, address=_joinable(address), callback=callback)))


def _reported(result: SweepResult) -> SweepResult:
    """Attach the report of a sweep that ended to its run in MLflow, and return the result."""
    attach(result)
    return result


def _joinable(address: str | None) -> str:
    """Return the chosen address, unless it is one of a dashboard, which runs a driver of its own."""
    address = chosen_address(address)
    if kind_of(address) == "dashboard":
        requirement = f"must be local, processes, auto or HOST:PORT from Python, got {address}"
        message = f"{requirement}; `ravel launch` submits to a dashboard"
        raise SpecError([Problem(OPTION, message)])
    return address


def answer_orders(folder: SweepFolder) -> None:
    """Answer the orders of a sweep without a driver and record what follows; run no trial, start no Ray.

    Raises:
        SweepLocked: its driver runs, and answers them itself.
        SweepCopied: the folder is a copy of the sweep's.
    """
    with suppress(Interrupted):  # work is left, for ``resume``
        driver.run_remaining(folder, address="local", callback=None, only_orders=True)
