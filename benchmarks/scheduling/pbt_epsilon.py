"""A schedule of the adversarial epsilon that population based training finds, against the best constant ones.

    python benchmarks/scheduling/pbt_epsilon.py --seeds 0 1 2

For each seed three searches train equally many epochs, with equally many gradient evaluations: population based
training of 8 members, 8 random constants (those that the population begins with), and 8 constants at equal distances.
Each selects by robust accuracy on the validation split. What it selects is trained again under seeds of its own and
measured on the test split. Finished parts are kept in OUT, a line each, so that a run that was stopped continues; run
it under ``nice``. Decisions are those of a sweep, made by the same functions; trials train in this process, one after
the other.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from orchestrator.analysis.lineage import schedule
from orchestrator.decisions.promotion import next_step
from orchestrator.decisions.propose import Proposer
from orchestrator.decisions.rung import decide
from orchestrator.decisions.seeds import step_event
from orchestrator.decisions.steps import Descendant
from orchestrator.decisions.trial_views import DecisionState
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.planning.trial_configs import trial_config
from orchestrator.state.events import (
    AttemptStarted,
    CheckpointSaved,
    EpochReported,
    RungDecided,
    SweepStarted,
    TrialCreated,
    TrialEnded,
)
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState, replaced_end
from trainables import TrialConfig
from trainables.data.loading import load_test
from trainables.errors import Diverged
from trainables.evaluation.core.evaluation_attack import robust_accuracy
from trainables.evaluation.core.prediction import logits
from trainables.tasks.classifier.run import inherit, restore, start

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.events import Event
    from orchestrator.state.sweep_state import Trial

EPOCHS = 27
MEMBERS = 8
ATTACK = 0.15
TEST_STEPS = 20
EPSILON = "adversarial.epsilon"
SPEC = f"""
name: pbt-epsilon
trial:
  epochs: {EPOCHS}
  data.name: digits
  model.name: mlp
  optimizer.lr: 0.1
  adversarial.attack: fgsm_rs
  device: cpu
  evaluation.robust_images: 360
space: {{parameters: {{{EPSILON}: {{float: [0.02, 0.5]}}}}}}
objective: val/robust_accuracy max
evaluation: {{robust_epsilon: {ATTACK}}}
search: {{num_trials: {MEMBERS + 1}, sampler: random}}
scheduler: {{name: none}}
"""
METHODS: dict[str, tuple[str, ...]] = {
    "pbt": ("scheduler.name=pbt", "scheduler.interval=3"),
    "random constants": (),
    "spaced constants": ("search.sampler=grid", f"search.resolution={MEMBERS}"),
}


class LocalSweep:
    """A sweep whose trials train in this process, one after the other, decided as any other sweep is."""

    def __init__(self, plan: SweepPlan, folder: Path) -> None:
        self.state, self._plan, self._folder, self._now = SweepState(), plan, folder, 0.0
        self._decisions = DecisionState(plan, self.state)
        self._proposer = Proposer(plan.spec, self.state)
        self.events: list[Event] = []

    def run(self) -> SweepState:
        """Train every trial to its end, or to where it was replaced."""
        self._log(SweepStarted(time=0.0, generation=1, host="local", pid=0))
        while (name := self._next()) is not None:
            self._train(self.state.trials[name])
        return self.state

    def _log(self, event: Event) -> None:
        self.events.append(event)
        self.state.apply(event)
        self._decisions.apply(event)

    def _next(self) -> str | None:
        self._now += 1.0
        step = next_step(self._decisions, now=self._now)
        if step is not None:
            event = step_event(self._decisions, step, now=self._now)
            self._log(event)
            if isinstance(step, Descendant):
                trials = self.state.trials
                self._log(replaced_end(trials[step.descent.replaces], trials[step.trial], now=self._now))
            return event.trial
        if not self._decisions.budget.unstarted(now=self._now):
            return None
        (origin, point), name = self._proposer.propose(), self._proposer.next_id()
        config = trial_config(self._plan, name, point)
        self._log(TrialCreated(time=self._now, trial=name, origin=origin, point=point, config=config))
        return name

    def _train(self, trial: Trial) -> None:
        """Train a trial to its next rung or its end."""
        if trial.origin == "baseline":  # no method competes with it
            self._log(TrialEnded(time=self._now, trial=trial.id, status="stopped"))
            return
        config = TrialConfig.from_point(trial.config)
        if trial.checkpoints:
            loop = restore(self._folder / trial.checkpoints[-1].path, config=config)
        elif trial.descent is not None:
            place = self._folder / trial.descent.parent / str(trial.descent.epoch)
            loop = inherit(place, config=config, changed=[EPSILON])
        else:
            loop = start(config)
        self._log(AttemptStarted(time=self._now, trial=trial.id, attempt=trial.attempts + 1))
        try:
            while not loop.finished and trial.rejected_at is None:
                report = loop.run_epoch()
                finite = {name: value if math.isfinite(value) else None for name, value in report.metrics.items()}
                head = {"trial": trial.id, "attempt": trial.attempts, "since_restore": report.epoch}
                self._log(EpochReported(time=self._now, epoch=report.epoch, metrics=finite, **head))
                if report.epoch in (self._plan.rungs or ()):
                    fields = decide(self._decisions, trial.id, report.epoch)
                    if fields is not None:
                        self._log(RungDecided(time=self._now, **fields))
        except Diverged as error:
            self._log(TrialEnded(time=self._now, trial=trial.id, status="diverged", reason=str(error)))
            return
        path = f"{trial.id}/{loop.epoch}"
        loop.save(self._folder / path)
        self._log(CheckpointSaved(time=self._now, trial=trial.id, epoch=loop.epoch, path=path))
        status = "completed" if loop.finished else "paused"
        self._log(TrialEnded(time=self._now, trial=trial.id, status=status, rung=trial.rejected_at))


def search(method: str, seed: int) -> dict[str, Any]:
    """Search, and return the schedule that was selected, as (epsilon, last epoch) pairs, and what was spent."""
    spec = parse_spec(SPEC, [*METHODS[method], f"search.seed={seed}"])
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(spec, SweepFolder(Path(folder)), slots=1, now=0.0, working_directory=Path(folder))
        state = LocalSweep(plan, Path(folder)).run()
    members = [trial for trial in state.with_status("completed") if trial.origin != "baseline"]
    best = max(members, key=lambda trial: (trial.score(spec.objective) or 0.0, trial.id))
    segments = schedule(state, best.id)
    ends = [segment.epoch for segment in segments[1:]] + [EPOCHS]
    return {
        "selected": best.id,
        "val": best.score(spec.objective),
        "schedule": [(part.point[EPSILON], end) for part, end in zip(segments, ends, strict=True)],
        "epochs": sum(len(trial.epochs) for trial in state.trials.values() if trial.origin != "baseline"),
        "members": {trial.id: (trial.point[EPSILON], trial.score(spec.objective)) for trial in members},
    }


def confirm(segments: Iterable[Sequence[float]], seed: int) -> dict[str, float]:
    """Train a schedule under another seed and measure it on the test split."""
    loop, spec = None, parse_spec(SPEC)
    with tempfile.TemporaryDirectory() as folder:
        for number, (epsilon, end) in enumerate(segments):
            own = {EPSILON: epsilon, "seed": 1000 * (seed + 1) + number, "epochs": EPOCHS}
            config = TrialConfig.from_point({**spec.trial, **own, "evaluation.robust_epsilon": ATTACK})
            if loop is None:
                loop = start(config)
            else:
                loop.save(folder)
                loop = inherit(folder, config=config, changed=[EPSILON])
            while loop.epoch < end:
                loop.run_epoch()
    assert loop is not None, "a schedule has a segment"  # noqa: S101
    model, test = loop.run.evaluated_model, load_test(config.data)
    return {
        "robust": robust_accuracy(model, test, epsilon=ATTACK, steps=TEST_STEPS),
        "accuracy": float((logits(model, test).argmax(dim=1) == test.labels_N).float().mean()),
    }


def main() -> None:
    """Run what is missing in OUT, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the searches")
    parser.add_argument("--train-seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the confirmation")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "pbt_epsilon.jsonl")
    options = parser.parse_args()
    torch.set_num_threads(1)
    done = _read(options.out)
    jobs = [("search", method, seed) for seed in options.seeds for method in METHODS]
    for job in jobs:
        if job not in done:
            done[job] = _keep(options.out, job, search(*job[1:]))
    for train_seed in options.train_seeds:
        for seed in options.seeds:
            for method in METHODS:
                job = ("confirm", method, seed, train_seed)
                if job not in done:
                    segments = done["search", method, seed]["schedule"]
                    done[job] = _keep(options.out, job, confirm(segments, train_seed))
    for line in table(done, options.seeds, options.train_seeds):
        print(line)


def table(done: dict[tuple[Any, ...], dict[str, Any]], seeds: Sequence[int], train_seeds: Sequence[int]) -> list[str]:
    """Return the lines of the table: a row for each method, then the differences to it, paired by seed."""
    lines = [
        "| search | selected by val | test, robust | test, plain | epochs | schedules |",
        "|---|---|---|---|---|---|",
    ]
    means = dict[str, list[float]]()
    for method in METHODS:
        found = [done["search", method, seed] for seed in seeds]
        again = [[done["confirm", method, seed, train] for train in train_seeds] for seed in seeds]
        means[method] = [statistics.fmean(each["robust"] for each in runs) for runs in again]
        plain = statistics.fmean(each["accuracy"] for runs in again for each in runs)
        words = "; ".join(_words(each["schedule"]) for each in found)
        val = statistics.fmean(each["val"] for each in found)
        spent = statistics.fmean(each["epochs"] for each in found)
        robust = statistics.fmean(means[method])
        lines.append(f"| {method} | {val:.3f} | {robust:.3f} | {plain:.3f} | {spent:.0f} | {words} |")
    for method in list(METHODS)[1:]:
        differences = [pbt - other for pbt, other in zip(means["pbt"], means[method], strict=True)]
        each = ", ".join(f"{100 * value:+.1f}" for value in differences)
        lines.append(f"pbt - {method}, points: {each}; mean {100 * statistics.fmean(differences):+.1f}")
    return lines


def _words(segments: Iterable[Sequence[float]]) -> str:
    return " > ".join(f"{epsilon:.2f} to {end}" for epsilon, end in segments)


def _read(path: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {tuple(line["job"]): line["result"] for line in lines}


def _keep(path: Path, job: Sequence[Any], result: dict[str, Any]) -> dict[str, Any]:
    with path.open("a") as file:
        file.write(json.dumps({"job": job, "result": result}) + "\n")
    print(*job, {name: value for name, value in result.items() if name != "members"}, flush=True)
    return result


if __name__ == "__main__":
    main()
