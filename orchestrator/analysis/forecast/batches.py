"""Forecast of batches: what a batch of trials gains on this machine, measured with sampled trials of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.execution.processes.limits import problems_of
from orchestrator.planning.batching import SIZES, Alikeness, chosen, largest, measure, none_batched, sampled
from orchestrator.planning.folders import located
from orchestrator.planning.validation import configured
from trainables.config.trial import TrialConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.planning.batching import Measured
    from orchestrator.spec.model import SweepSpec


@dataclass(frozen=True, slots=True)
class BatchForecast:
    """Trials of a worker, why so many, and how many times as long an epoch of one takes as by itself."""

    size: int
    reason: str
    slowdown: float


def batch_forecast(spec: SweepSpec, *, workers: int) -> BatchForecast | None:
    """Measure batches in this process, for so many workers; None where the spec asks for none.

    Raises:
        TrainableError: a sampled trial cannot be trained.
    """
    asked = spec.resources.batch
    if asked == 1:
        return None
    if asked == "auto" and (problem := next(problems_of(spec.resources), None)) is not None:
        return BatchForecast(1, f"auto: 1, as Ray has one trial for each worker, and only Ray can: {problem}", 1.0)
    configs = [config for _, config in configured(spec)]
    if (nothing := none_batched(configs)) is not None:
        return BatchForecast(nothing.size, nothing.reason, 1.0)
    if asked == "auto":
        sizes = [size for size in SIZES if size <= largest(spec, workers)]
        choice = chosen(measured := _measured(spec, sizes))
        gain = next((one.gain for one in measured if one.size == choice.size), 1.0)
        return BatchForecast(choice.size, choice.reason, choice.size / gain)
    (most,) = _measured(spec, [min(asked, SIZES[-1])])
    return BatchForecast(asked, f"{asked}; {most}; {Alikeness.of(configs)}", asked / most.gain)


def _measured(spec: SweepSpec, sizes: Sequence[int]) -> list[Measured]:
    """Measure batches of some sizes, with the threads of a worker."""
    import torch  # noqa: PLC0415  slow to import

    from trainables.batched.measurement import epoch_s  # noqa: PLC0415

    configs = [TrialConfig.from_point(located(point, Path.cwd())) for point in sampled(spec)]
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(spec.resources.cpus)))
    try:
        return measure(lambda numbers: epoch_s([configs[number] for number in numbers]), sizes)
    finally:
        torch.set_num_threads(threads)
