"""Trials of a sweep at one epoch: their objective, the best, and those that cannot be told apart from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.analysis.claims.comparisons import best_candidates
from orchestrator.analysis.claims.intervals import student_interval
from orchestrator.analysis.comparison.epochs import comparable_epoch
from orchestrator.analysis.comparison.images import is_apart, num_images
from orchestrator.errors import SpecError
from orchestrator.planning.seeds import configurations_of, searched_state
from search_spaces import Problem
from trainables.evaluation.core.intervals import wilson

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_state import SweepState, Trial

MOST_NAMED = 8
"""Trials that a sentence names, at most."""


@dataclass(frozen=True)
class Comparison:
    """Trials at one epoch.

    ``values`` has the objective of every trial that measured it at ``epoch``, the best first, and those of equal value
    in the order of their ids. ``greyed`` are the ids of all others, which are not compared. ``images`` is the number of
    validation images behind the objective if that is an accuracy, and its log shows it. ``seeds`` has, in a sweep with
    several, what each seed of a configuration measured: then trials are configurations, and values are means.
    """

    metric: str
    mode: Literal["max", "min"]
    epoch: int
    values: dict[str, float]
    greyed: tuple[str, ...]
    baseline: str | None
    images: int | None
    no_images: str = ""
    """Reason why the number of images is unknown, if it is another than that the log does not show it."""
    seeds: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """Id of the best trial."""
        return next(iter(self.values))

    @property
    def equal_to_best(self) -> tuple[str, ...]:
        """Ids of the trials with exactly the value of the best one, which is among them."""
        return tuple(trial for trial, value in self.values.items() if value == self.values[self.best])

    @property
    def inseparable(self) -> tuple[str, ...]:
        """Ids of the trials that cannot be told apart from the best, the best first; see ``images.is_apart``.

        Without a number of images, these are the trials of equal value. Configurations with two seeds or more are
        compared by paired tests over seeds (Hsu 1984), and those with fewer seeds than the best are not among them.
        """
        if self.is_seeded:
            signed = {name: [self._signed(value) for value in self.seeds[name]] for name in self._complete}
            candidates = best_candidates(signed)
            return tuple(name for name in self._complete if name in candidates)
        if self.images is None:
            return self.equal_to_best
        hits = {trial: self._hits(value) for trial, value in self.values.items()}
        best, rivals = hits[self.best], len(hits) - 1
        return tuple(
            trial for trial, count in hits.items() if not is_apart(best, count, images=self.images, rivals=rivals)
        )

    @property
    def is_seeded(self) -> bool:
        """Return True if the best has two seeds or more at this epoch."""
        return len(self.seeds.get(self.best, ())) > 1

    @property
    def _complete(self) -> list[str]:
        """Configurations with as many seeds as the best, the best first."""
        return [name for name in self.values if len(self.seeds[name]) == len(self.seeds[self.best])]

    def _signed(self, value: float) -> float:
        return value if self.mode == "max" else -value

    def over_seeds(self, trial: str) -> tuple[float, float] | None:
        """Return Student's 95 % interval of a configuration's mean over its seeds; None with fewer than two."""
        values = self.seeds.get(trial, ())
        return student_interval(values) if len(values) > 1 else None

    def _hits(self, value: float) -> int:
        """Return the right answers of an accuracy, or the wrong ones if fewer are better."""
        hits = round(value * (self.images or 0))
        return hits if self.mode == "max" else (self.images or 0) - hits

    def interval(self, trial: str) -> tuple[float, float] | None:
        """Return Wilson's 95 % interval of a trial's accuracy, over the choice of images; None if it has none."""
        if self.images is None:
            return None
        return wilson(round(self.values[trial] * self.images), self.images)

    def name(self, trial: str) -> str:
        """Return the id of a trial, with a mark of the baseline."""
        return f"{trial} (baseline)" if trial == self.baseline else trial

    def named(self, trials: Iterable[str]) -> str:
        """Return the ids of trials as a list in words, cut after eight."""
        names = [self.name(trial) for trial in trials]
        more = [f"and {len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
        return ", ".join([*names[:MOST_NAMED], *more])

    def sentence(self) -> str:
        """Return the set of trials that cannot be told apart from the best, in one sentence."""
        count, total = len(self.inseparable), len(self.values)
        if self.is_seeded:
            seeds, of = len(self.seeds[self.best]), len(self._complete)
            place = f"over {seeds} seeds, epoch {self.epoch}"
            if of == 1:
                return f"{self.name(self.best)} is the only configuration with {seeds} seeds at epoch {self.epoch}"
            if count == 1:
                return f"1 of {of} configurations is better than the rest beyond chance {place}: {self.name(self.best)}"
            named = self.named(self.inseparable)
            return f"{count} of {of} configurations cannot be told apart from the best {place}: {named}"
        if self.images is None:
            have = "has" if count == 1 else "have"
            return (
                f"{count} of {total} trials {have} the best value at epoch {self.epoch}: {self.named(self.inseparable)}"
            )
        place = f"at {self.images} validation images, epoch {self.epoch}"
        if total == 1:
            return f"{self.name(self.best)} is the only trial with a value at epoch {self.epoch}"
        if count == 1:
            return f"1 of {total} trials is better than the rest beyond chance {place}: {self.name(self.best)}"
        return f"{count} of {total} trials cannot be told apart from the best {place}: {self.named(self.inseparable)}"

    def lines(self) -> list[str]:
        """Return the comparison in words: the set, the interval of the best, ties, and what was left out."""
        return [self.sentence(), *self.notes()]

    def notes(self) -> list[str]:
        """Return what the sentence rests on, a line each."""
        interval = self.interval(self.best)
        value = f"{self.name(self.best)} {self.values[self.best]:.4f} at epoch {self.epoch}"
        if interval is None:
            reason = self.no_images or f"the log does not show on how many images {self.metric} was measured"
            lines = [f"{value}; no interval: {reason}"]
        else:
            lines = [f"{value} (95 %: {interval[0]:.4f} to {interval[1]:.4f})"]
        if (over := self.over_seeds(self.best)) is not None:
            shown = ", ".join(f"{value:.4f}" for value in self.seeds[self.best])
            beside = "" if interval is None else "; the one above: over images"
            lines += [f"its seeds: {shown} (95 % over seeds: {over[0]:.4f} to {over[1]:.4f}{beside})"]
        tie = self.equal_to_best
        lines += [f"equal at the top: {self.named(tie)}"] if len(tie) > 1 and self.images is not None else []
        if self.greyed:
            lines += [f"not compared, without {self._lacks}: {len(self.greyed)} {self.unit}"]
        return lines

    @property
    def unit(self) -> str:
        """Name of what is compared, in the plural."""
        return "configurations" if self.seeds else "trials"

    @property
    def _lacks(self) -> str:
        """Value that trials need to be compared: with several seeds, the mean over those that the epoch needs."""
        count = len(self.seeds.get(self.best, ()))
        return f"a mean over {count} seeds at epoch {self.epoch}" if count > 1 else f"a value at epoch {self.epoch}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data for ``--json``; ``interval`` is that of the best trial."""
        return {
            "epoch": self.epoch,
            "metric": self.metric,
            "mode": self.mode,
            "images": self.images,
            "best": self.best,
            "baseline": self.baseline,
            "values": self.values,
            "inseparable": list(self.inseparable),
            "interval": _ends(self.interval(self.best)),
            **({"seeds": self.seeds, "over_seeds": _ends(self.over_seeds(self.best))} if self.seeds else {}),
            "not_compared": list(self.greyed),
        }


def compare(plan: SweepPlan, state: SweepState, *, epoch: int | None = None, metric: str | None = None) -> Comparison:
    """Compare the trials of a sweep at one epoch; a function of the plan and the log.

    Args:
        plan: Plan in force.
        state: Sweep state.
        epoch: Epoch at which trials are compared; by default that of ``comparable_epoch``.
        metric: One of the sweep's objectives; by default the first.

    Raises:
        SpecError: no trial measured the objective at that epoch.
    """
    target = next(item for item in plan.spec.objective.all if metric in {None, item.metric})
    chosen = comparable_epoch(plan, state) if epoch is None else epoch
    configurations = configurations_of(plan, state)
    searched = searched_state(plan, state)
    curves = {trial.id: trial.values(target.metric) for trial in searched.trials.values()}
    if configurations:  # a dropped configuration has no mean
        curves = {name: {at: curves[name][at] for at in one.means} for name, one in configurations.items()}
    at_epoch = {trial: curve[chosen] for trial, curve in curves.items() if chosen in curve}
    if not at_epoch:
        measured = sorted({epoch for curve in curves.values() for epoch in curve})
        have = f"1 to {measured[-1]}" if measured else "none"
        if configurations and measured:  # means are at rungs and at the end alone
            have = f"means over seeds at {', '.join(map(str, measured))}"
        problem = f"must be one that a trial measured {target.metric} at, got {chosen}; this sweep has {have}"
        raise SpecError([Problem("epoch", problem)])
    sign = -1.0 if target.mode == "max" else 1.0
    order = sorted(at_epoch, key=lambda trial: (sign * at_epoch[trial], trial))
    return Comparison(
        metric=target.metric,
        mode=target.mode,
        epoch=chosen,
        values={trial: at_epoch[trial] for trial in order},
        greyed=tuple(trial for trial in curves if trial not in at_epoch),
        baseline=baseline_of(state),
        images=images_of(target.metric, state.trials.values()),
        seeds={
            name: tuple(sign * -value[0] for value in configurations[name].values(chosen).values())
            for name in order
            if name in configurations
        },
    )


def _ends(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)


def baseline_of(state: SweepState) -> str | None:
    """Return the id of the trial with every searched method off, or None if the sweep has none."""
    return next((trial.id for trial in state.trials.values() if trial.origin == "baseline"), None)


def images_of(metric: str, trials: Iterable[Trial]) -> int | None:
    """Return the number of images behind a metric, None if it is no accuracy or its values do not show it."""
    if "accuracy" not in metric.rpartition("/")[2]:
        return None
    return num_images(value for trial in trials for value in trial.values(metric).values())
