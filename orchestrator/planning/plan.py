"""What will run, fixed before anything does: ids, seeds, paths, code version, fingerprints.

``resume`` reads this and the event log, never the YAML again.
"""

from __future__ import annotations

import hashlib
import json
import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from orchestrator.errors import SweepNotFound
from orchestrator.planning.provenance import Provenance, collect, installed
from orchestrator.scheduling.budgeted import Ladder
from orchestrator.scheduling.protocol import Rule
from orchestrator.scheduling.registry import ladder_of, rule_of
from orchestrator.scheduling.registry import pauses as promotes
from orchestrator.spec.model import Point, SweepSpec
from orchestrator.state.migrations import plan_of_format_1
from orchestrator.storage import is_remote, publish, write_atomically
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.state.events import Origin
    from orchestrator.state.sweep_state import SweepHistory
    from orchestrator.storage import SweepFolder
    from search_spaces import SearchSpace
    from trainables.tasks.registry import Task

FOLDERS = ("data.root", "data.cache", "gan.classifier")


class SweepPlan(BaseModel):
    """A sweep that is decided: everything a driver needs beside the event log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = 2
    sweep: str
    created_at: float
    spec: Annotated[
        SweepSpec,
        BeforeValidator(lambda value: SweepSpec(**value) if isinstance(value, dict) else value),
        PlainSerializer(SweepSpec.document),
    ]
    fingerprint: str
    tracking_uri: str | None
    """Null: ``MLFLOW_TRACKING_URI`` decides anew at each start, so that its password never reaches this file."""
    working_directory: str
    max_epochs: int
    rungs: tuple[int, ...]
    """Where trials are compared, in units of ``scheduler.resource``; empty: after every epoch, or never."""
    ladder: Ladder | None = None
    """The rungs, places and budget of ``grace_period: auto``, so that a later version goes on by the same."""
    pauses: bool = False
    """Whether a rejected trial waits at its rung: ``kind: auto`` was decided by the slots of the first launch."""
    provenance: Provenance

    _rule: Rule = PrivateAttr()

    def model_post_init(self, _: object) -> None:
        """Build the rule once: it is asked at every decision."""
        self._rule = rule_of(self.spec, pauses=self.pauses, max_epochs=self.max_epochs, ladder=self.ladder)

    @property
    def rule(self) -> Rule:
        """Who is stopped, and when."""
        return self._rule

    @model_validator(mode="before")
    @classmethod
    def _in_todays_words(cls, document: Any) -> Any:
        is_old = isinstance(document, dict) and document.get("format") == 1
        return plan_of_format_1(document) if is_old else document

    @property
    def experiment(self) -> str:
        """The MLflow experiment: the family of sweeps that are compared with each other."""
        return self.spec.tracking.experiment or self.spec.name

    def save(self, folder: SweepFolder) -> None:
        """Write the plan, atomically, and the installed packages beside it.

        Raises:
            StorageError: the sweep is kept in S3, which refused or could not be reached.
        """
        write_atomically(folder.environment, installed())
        write_atomically(folder.plan, self.model_dump_json(indent=1) + "\n")
        publish(folder)

    @classmethod
    def load(cls, folder: SweepFolder) -> SweepPlan:
        """Read a plan back.

        Raises:
            SweepNotFound: there is none, or this version cannot read it.
        """
        try:
            return cls.model_validate_json(folder.plan.read_text(encoding="utf-8"))
        except OSError:
            raise SweepNotFound(f"{folder.path}: no plan.json here, so no sweep") from None
        except ValidationError as error:
            law = error.errors()[0]["msg"]
            raise SweepNotFound(f"{folder.plan}: not a plan of this version ({law})") from None


def make(spec: SweepSpec, folder: SweepFolder, *, slots: int, now: float, working_directory: Path) -> SweepPlan:
    """The plan of a new sweep on so many slots; pure but for reading the git commit and the environment."""
    max_epochs, pauses = max_epochs_of(spec), promotes(spec, slots=slots)
    return SweepPlan(
        sweep=folder.sweep,
        created_at=now,
        spec=spec,
        fingerprint=fingerprint(spec),
        tracking_uri=tracking_store(spec, working_directory),
        working_directory=str(working_directory),
        max_epochs=max_epochs,
        rungs=rule_of(spec, pauses=pauses, max_epochs=max_epochs).rungs or (),
        ladder=ladder_of(spec, max_epochs=max_epochs) if spec.scheduler.is_patient else None,
        pauses=pauses,
        provenance=collect(working_directory),
    )


def fingerprint(spec: SweepSpec) -> str:
    """SHA-256 of the spec's canonical JSON: equal specs, equal fingerprints, on every machine."""
    canonical = json.dumps(spec.document(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def first_points(spec: SweepSpec) -> list[tuple[Origin, Point]]:
    """The points that run before the search proposes any: the baseline, then those the spec gives."""
    space, task = spec.space, task_of(spec.trial)
    off = {name: 0.0 for name in task.strengths if name not in spec.trial}  # what every trial shares stays
    baseline: Point = {**complete(space, {name: 0.0 for name in off if name in space.names}, task=task), **off}
    given: list[tuple[Origin, Point]] = [("point", complete(space, point, task=task)) for point in spec.search.points]
    return [("baseline", baseline), *given]


def grid_points(spec: SweepSpec) -> list[Point]:
    """The first ``num_trials`` points of ``sampler: grid``: ``search.resolution`` values of each range, each choice."""
    return list(islice(spec.space.grid(spec.search.resolution), spec.search.num_trials))


def complete(space: SearchSpace, given: Mapping[str, Any], *, task: Task) -> Point:
    """A whole point from a partial one: what is not given takes the trial's default, or the middle of its domain."""
    return space.complete(given, task.defaults)


def is_spent(plan: SweepPlan, history: SweepHistory, *, now: float) -> bool:
    """Whether the budget is used up, so that no further trial is started (those that run go on to their end)."""
    budget = plan.spec.budget
    return (
        _is_reached(budget.wall_clock_s, lambda: 0.0 if history.started_at is None else now - history.started_at)
        or _is_reached(budget.gpu_s, lambda: history.total("cost/gpu_s"))
        or (budget.target is not None and _is_on_target(plan, history, budget.target))
    )


def _is_reached(limit: float | None, used: Callable[[], float]) -> bool:
    return limit is not None and used() >= limit


def _is_on_target(plan: SweepPlan, history: SweepHistory, target: float) -> bool:
    """Whether any trial's last value of the objective is as good as the target."""
    objective = plan.spec.objective
    scores = (trial.score(objective) for trial in history.trials.values())
    return any(score is not None and not objective.is_better(target, score) for score in scores)


def unstarted(plan: SweepPlan, history: SweepHistory, *, now: float) -> int:
    """How many new trials may yet be started."""
    return 0 if is_spent(plan, history, now=now) else max(0, plan.spec.search.num_trials - len(history.trials))


def trial_id(index: int) -> str:
    """The id of the ``index``-th trial of a sweep, 0 being the baseline.

    >>> trial_id(7)
    't007'
    """
    return f"t{index:03d}"


def derive_seed(seed: int, *path: str) -> int:
    """A 31-bit seed for one purpose, independent of all others and of the order of asking.

    >>> derive_seed(0, "trial", "t001") == derive_seed(0, "trial", "t001") != derive_seed(0, "trial", "t002")
    True
    """
    digest = hashlib.sha256("/".join((str(seed), *path)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def trial_config(plan: SweepPlan, trial: str, point: Mapping[str, Any]) -> Point:
    """The whole flat configuration of a trial: fixed parameters, its point, its seed, and when it is measured."""
    spec, task = plan.spec, task_of(plan.spec.trial)
    config: Point = {
        "seed": derive_seed(spec.search.seed, "trial", trial),
        **attack_of(spec),
        **spec.trial,
        **dict.fromkeys(task.strengths, 0.0),
        **{name: spec.trial[name] for name in task.strengths if name in spec.trial},
        **point,
    }
    config.setdefault("epochs", plan.max_epochs)
    if "evaluation.epochs" in task.parameter_names:  # else everything is measured after each
        measured = judged_epochs(plan, config["epochs"])
        config["evaluation.epochs"] = sorted({*measured, *(config.get("evaluation.epochs") or ())})
    return located(config, Path(plan.working_directory))


def attack_of(spec: SweepSpec) -> Point:
    """The strength of the attack that every trial is measured under, where its task knows of attacks."""
    name = "evaluation.robust_epsilon"
    return {name: spec.evaluation.robust_epsilon} if name in task_of(spec.trial).parameter_names else {}


def judged_epochs(plan: SweepPlan, epochs: int) -> tuple[int, ...]:
    """The epochs after which a trial may be judged, and so must have measured its objectives."""
    if plan.spec.scheduler.resource == "epochs" and plan.rule.rungs is not None:
        return plan.rungs
    return tuple(range(1, epochs + 1))


def located(config: Mapping[str, Any], working_directory: Path) -> Point:
    """The configuration with every folder of it absolute, as seen from where the sweep was launched.

    >>> located({"data.root": "data", "epochs": 9}, Path("/home/ada"))
    {'data.root': '/home/ada/data', 'epochs': 9}
    """
    folders = {name: config[name] for name in FOLDERS if config.get(name) is not None and not is_remote(config[name])}
    return {
        **config,
        **{name: str((working_directory / Path(path).expanduser()).resolve()) for name, path in folders.items()},
    }


def max_epochs_of(spec: SweepSpec) -> int:
    """The epochs of a full run: the most that any trial may have."""
    if "epochs" in spec.space.names:
        domain = spec.space.parameters["epochs"]
        return max(int(str(value)) for value in (*getattr(domain, "options", ()), domain.from_unit(1.0)))
    return int(spec.trial.get("epochs", task_of(spec.trial).defaults["epochs"]))


def tracking_store(spec: SweepSpec, working_directory: Path) -> str | None:
    """Where a sweep launched from this folder is tracked; null where ``MLFLOW_TRACKING_URI`` decides."""
    uri = spec.tracking.uri
    if uri is not None:
        relative = uri.startswith("sqlite:///") and not uri.startswith("sqlite:////")
        return f"sqlite:///{working_directory / uri.removeprefix('sqlite:///')}" if relative else uri
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    return f"sqlite:///{working_directory / 'mlflow.db'}"
