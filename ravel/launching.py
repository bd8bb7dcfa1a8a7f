"""Launch of a sweep from Python, in this process or in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from orchestrator.planning.validation import check_spec
from ravel.background import DriverProcess
from ravel.sweep import CALLBACK_ELSEWHERE, RunningSweep

if TYPE_CHECKING:
    from orchestrator.analysis.result import SweepResult
    from orchestrator.execution.progress import ProgressCallback
    from orchestrator.spec.model import SweepSpec


@overload
def launch(
    spec: SweepSpec,
    *,
    address: str | None = None,
    callback: ProgressCallback | None = None,
    background: Literal[False] = False,
) -> SweepResult: ...


@overload
def launch(
    spec: SweepSpec, *, address: str | None = None, callback: None = None, background: Literal[True]
) -> RunningSweep: ...


def launch(
    spec: SweepSpec, *, address: str | None = None, callback: ProgressCallback | None = None, background: bool = False
) -> SweepResult | RunningSweep:
    """Run a new sweep to its end, or start it in the background.

    Args:
        spec: from ``load_spec``, or made in Python.
        address: ``local`` (start a private Ray), ``processes`` (worker processes of this machine, without Ray),
            ``auto`` or ``host:port`` (join a running cluster); by default that of ``RAY_ADDRESS``, else ``local``.
        callback: notified of each event while the sweep runs in this process.
        background: run the driver as a process of its own, and return as soon as the sweep has begun.

    Raises:
        SpecError: the spec cannot run; nothing was started.
        PreflightError: this machine lacks something that the spec requires; nothing was started.
        Interrupted: Ctrl-C or SIGTERM; continue with ``resume``.

    Example:
        >>> launch(load_spec("examples/digits.yaml"), background=True)  # doctest: +SKIP
        <Sweep digits-20261129-101500-ab12: 0% · 0/32 trials · 2 running · 0/263 planned epochs · 0:00:00>
    """
    if not background:
        from orchestrator import launching  # noqa: PLC0415  imports what a run needs

        return launching.launch(spec, address=address, callback=callback)
    if callback is not None:
        raise ValueError(CALLBACK_ELSEWHERE)
    check_spec(spec)
    return RunningSweep(DriverProcess.start(spec, address=address))
