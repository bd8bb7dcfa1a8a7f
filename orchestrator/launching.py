"""Launch and resume sweeps from Python: spec -> plan -> driver -> result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.analysis.result import SweepResult
from orchestrator.execution import driver

if TYPE_CHECKING:
    from orchestrator.execution.progress import ProgressCallback
    from orchestrator.spec.model import SweepSpec
    from orchestrator.state.sweep_folder import SweepFolder


def launch(spec: SweepSpec, *, address: str = "local", watch: ProgressCallback | None = None) -> SweepResult:
    """Run a new sweep to its end.

    Args:
        spec: from ``load_spec``, or made in Python.
        address: ``local`` (a Ray of our own), ``auto`` or ``host:port`` (a running cluster).
        watch: sees the sweep while it runs; none by default.

    Raises:
        SpecError: the spec cannot run; nothing was started.
        PreflightError: the machine cannot do what the spec asks; nothing was started.
        Interrupted: Ctrl-C or SIGTERM; ``resume`` goes on.

    Example:
        >>> from orchestrator import load_spec
        >>> launch(load_spec("examples/digits.yaml")).best().score  # doctest: +SKIP
        0.9916
    """
    return SweepResult(*driver.run_new(spec, address=address, watch=watch))


def resume(folder: SweepFolder, *, address: str = "local", watch: ProgressCallback | None = None) -> SweepResult:
    """Go on with an interrupted or killed sweep: no trial is lost, none is run twice.

    Raises:
        SweepLocked: its driver still runs.
        PreflightError: the machine cannot do what the spec asks.
        Interrupted: Ctrl-C or SIGTERM, again.
    """
    return SweepResult(*driver.run_remaining(folder, address=address, watch=watch))
