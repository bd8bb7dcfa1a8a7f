"""Batches of trials: what of a spec cannot be batched, how alike its trials are, and how ``auto`` chooses a size."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from orchestrator.planning.batch_choice import BatchChoice
from orchestrator.planning.seeds import derive_seed
from search_spaces import Problem
from trainables.batched.refusals import program_key, why_not_batched
from trainables.config.trial import TrialConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from orchestrator.spec.model import Point, SweepSpec
    from trainables.tasks.registry import AnyConfig

SIZES = (2, 4, 8)
"""Sizes of batches that are measured, one after another."""
LEAST_GAIN = 1.2
"""Trials in the same time, as a multiple of those by themselves, from which on ``auto`` batches."""
LEAST_GROWTH = 1.1
"""Growth of that multiple from one size to the next with which ``auto`` measures a further one, if epochs are slow."""
QUICK_S = 0.5
"""Seconds of an epoch of a trial, below which it is quick: all sizes take half a minute at most."""


@dataclass(frozen=True)
class Alikeness:
    """Measure of how alike the trials of a sweep are, by sampled ones.

    Args:
        num_trials: Sampled trials.
        num_batched: Those that can be batched at all.
        num_programs: Different programs of these.
        together: Share of pairs of sampled trials that can be in one batch.
    """

    num_trials: int
    num_batched: int
    num_programs: int
    together: float

    @classmethod
    def of(cls, configs: Iterable[AnyConfig]) -> Alikeness:
        """Return how alike the trials with these configurations are.

        >>> plain, other = TrialConfig(), TrialConfig(batch_size=64)
        >>> Alikeness.of([plain, plain, other, other])
        Alikeness(num_trials=4, num_batched=4, num_programs=2, together=0.5)
        """
        keys = [program_key(config) if isinstance(config, TrialConfig) else None for config in configs]
        programs = Counter(key for key in keys if key is not None)
        together = sum(count * count for count in programs.values()) / len(keys) ** 2 if keys else 0.0
        return cls(len(keys), programs.total(), len(programs), together)

    def __str__(self) -> str:
        """Return it in words.

        >>> str(Alikeness(256, 256, 1, 1.0)), str(Alikeness(256, 128, 4, 0.06))
        ('all trials are of one program', '50% of the trials can be batched, in 4 programs')
        """
        if (self.num_batched, self.num_programs) == (self.num_trials, 1):
            return "all trials are of one program"
        programs = "one program" if self.num_programs == 1 else f"{self.num_programs} programs"
        return f"{self.num_batched / max(1, self.num_trials):.0%} of the trials can be batched, in {programs}"


def batch_problems(spec: SweepSpec, configs: Sequence[AnyConfig]) -> list[Problem]:
    """Return why the trials of a spec with these configurations cannot be batched, if it asks for batches."""
    size, workers, place = spec.resources.batch, spec.resources.workers, "resources.batch"
    if size in {1, "auto"} or not configs:
        return []
    if workers > 1:
        requirement = f"must be 1 where several workers train a trial (resources.workers: {workers}), got {size}"
        return [Problem(place, f"{requirement}; set one of the two to 1")]
    if any(program_key(config) for config in configs if isinstance(config, TrialConfig)):
        return []
    return [Problem(place, f"must be 1, as no trial of the sweep can be batched, got {size}: {why_not(configs[0])}")]


def why_not(config: AnyConfig) -> str | None:
    """Return why a trial cannot be batched, in one line; None if it can.

    >>> why_not(TrialConfig(compile=True))
    'compile: must be false to be batched, as the compiled stages are those of one trial, got true'
    """
    if not isinstance(config, TrialConfig):
        return "task: must be the classifier to be batched"
    reasons = (why_not_batched(config) or "").splitlines()
    return "; ".join(reason.removesuffix("; train it by itself") for reason in reasons) or None


def none_batched(configs: Iterable[AnyConfig]) -> BatchChoice | None:
    """Return the choice of ``auto`` where no trial with these configurations can be batched; None if some can.

    >>> none_batched([TrialConfig(compile=True), TrialConfig()]) is None
    True
    """
    reasons = [why_not(config) for config in configs]
    if None in reasons:
        return None
    return BatchChoice(size=1, reason=f"auto: 1, as no trial of the sweep can be batched: {reasons[0]}")


def largest(spec: SweepSpec, workers: int) -> int:
    """Return the largest batch that ``auto`` may choose: with it, half of the trials at most are trained at once.

    Schedulers and samplers decide by what earlier trials measured, and all of a sweep at once has no earlier ones.
    Where ``max_concurrent`` leaves a worker fewer trials, it is these.

    >>> from orchestrator.spec.model import SweepSpec
    >>> largest(SweepSpec(name="a", search={"num_trials": 48}), 2), largest(SweepSpec(name="a"), 64)
    (12, 1)
    >>> largest(SweepSpec(name="a", resources={"max_concurrent": 6}), 2)
    3
    """
    half = spec.search.num_trials * spec.search.seeds // 2
    return max(1, min(half, spec.resources.max_concurrent or half) // workers)


def sampled(spec: SweepSpec) -> list[Point]:
    """Return trials of a sweep to measure: as many seeded samples of its space as the largest size has.

    The baseline is none of them: methods are off in it, and a step with methods is another program's step.
    """
    points = spec.space.sample_many(SIZES[-1], seed=derive_seed(spec.search.seed, "batch"))
    return [{**point, **spec.trial, "seed": number} for number, point in enumerate(points)]


@dataclass(frozen=True)
class Measured:
    """Seconds of an epoch of so many sampled trials in one process: one after another, and batched."""

    size: int
    alone_s: float
    together_s: float

    @property
    def gain(self) -> float:
        """Trials in the same time, as a multiple of those by themselves."""
        return self.alone_s / self.together_s

    def __str__(self) -> str:
        """Return it in words.

        >>> str(Measured(8, 0.51, 0.21))
        'an epoch of 8 sampled trials takes 0.51 s one after another and 0.21 s batched, 2.4 times the trials'
        """
        times = f"{self.alone_s:.2g} s one after another and {self.together_s:.2g} s batched"
        return f"an epoch of {self.size} sampled trials takes {times}, {self.gain:.2g} times the trials"


def measure(epoch_s: Callable[[Sequence[int]], float | None], sizes: Iterable[int]) -> list[Measured]:
    """Measure batches of sampled trials of these sizes, one after another.

    ``epoch_s`` returns the seconds of an epoch of the trials with these numbers, batched if they are several; None ends
    the measurement. Where epochs are quick, all sizes are measured: two trials may gain little, and four much. Where
    they are not, larger ones are measured as long as the gain grows.

    >>> [one.gain for one in measure(lambda numbers: 0.125 if len(numbers) == 1 else 0.25, (2, 4, 8))]
    [1.0, 2.0, 4.0]
    >>> [one.size for one in measure(lambda numbers: float(len(numbers)), (2, 4, 8))]
    [2]
    """
    alone, measured = list[float](), list[Measured]()
    for size in sizes:
        for number in range(len(alone), size):
            if (seconds := epoch_s([number])) is None:
                return measured
            alone.append(seconds)
        if (seconds := epoch_s(range(size))) is None:
            return measured
        before = measured[-1].gain if measured else 1.0
        measured.append(Measured(size, sum(alone), seconds))
        if fmean(alone) > QUICK_S and measured[-1].gain < LEAST_GROWTH * before:
            return measured
    return measured


def chosen(measured: Sequence[Measured]) -> BatchChoice:
    """Choose the size of batches with the largest gain, if that is large enough.

    >>> chosen([Measured(2, 0.2, 0.15), Measured(4, 0.4, 0.2)]).reason.partition(", as")[0]
    'auto: 4'
    >>> chosen([Measured(2, 4.0, 3.8)]).reason.partition(", as")[0], chosen([]).reason
    ('auto: 1', 'auto: 1, as no batch was measured: the sweep has few trials at a time, or none that can be measured')
    """
    if not measured:
        reason = "no batch was measured: the sweep has few trials at a time, or none that can be measured"
        return BatchChoice(size=1, reason=f"auto: 1, as {reason}")
    best = max(measured, key=lambda one: one.gain)
    size = best.size if best.gain >= LEAST_GAIN else 1
    return BatchChoice(size=size, reason=f"auto: {size}, as {best}")
