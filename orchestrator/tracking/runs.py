"""Content of a sweep's runs in MLflow, as plain values: tags, parameters, metrics, counts. Imports no MLflow."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from orchestrator.planning.seeds import configuration_of, seed_index_of
from orchestrator.storage.locations import is_remote
from trainables.config.own_metrics import is_own, labels_among
from trainables.metrics import SYSTEM_METRICS
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.spec.objective import Objective
    from orchestrator.state.events import EpochReported
    from orchestrator.state.sweep_state import SweepState, Trial

MAX_PARAMETERS = 40
MAX_METRICS = 25
MAX_TAPS = 6
MAX_VALUE = 6000
"""Characters of a value; MLflow cuts longer ones off silently."""
MAX_REASON = 1000
"""Characters that are kept of a reason that is too long for a tag."""
MAX_DIGEST = 36
"""Characters of a data set's digest that MLflow takes."""

STATUS = {
    "completed": "FINISHED",
    "stopped": "FINISHED",
    "paused": "SCHEDULED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}


def milliseconds(seconds: float) -> int:
    """Return a time of the log as MLflow counts it."""
    return round(seconds * 1000)


def summary_tags(plan: SweepPlan) -> dict[str, str]:
    """Return the tags of the summary run, which represents the whole sweep."""
    return {
        **_common_tags(plan),
        "ravel.kind": "sweep",
        "mlflow.runName": plan.sweep,
        "ravel.spec_fingerprint": plan.fingerprint,
        **_declared(plan),
        **({} if plan.parent is None else {"ravel.parent": plan.parent.sweep}),
    }


def _declared(plan: SweepPlan) -> dict[str, str]:
    """Return the tag with the units and directions that a user's own code declares, as many as a tag holds."""
    declared = {name: metric.model_dump(exclude_defaults=True) for name, metric in plan.metrics.items()}
    while len(text := json.dumps(declared)) > MAX_VALUE:
        declared.popitem()
    return {"ravel.metrics": text} if declared else {}


def trial_tags(plan: SweepPlan, trial: Trial) -> dict[str, str]:
    """Return the tags that identify the run of a trial."""
    return {
        **_common_tags(plan),
        "ravel.kind": "trial",
        "mlflow.runName": trial.id,
        "ravel.trial": f"{plan.sweep}/{trial.id}",
        "ravel.origin": trial.origin,
        **_seed_tags(plan, trial),
        **_descent_tags(plan, trial),
    }


def _descent_tags(plan: SweepPlan, trial: Trial) -> dict[str, str]:
    """Return the trial and the epoch that a trial continues, of one that population based training made."""
    if trial.descent is None:
        return {}
    parent = f"{plan.sweep}/{trial.descent.parent}"
    return {"ravel.parent_trial": parent, "ravel.parent_epoch": str(trial.descent.epoch)}


def _seed_tags(plan: SweepPlan, trial: Trial) -> dict[str, str]:
    """Return the configuration of a trial and the number of its seed, in a sweep with several seeds."""
    if plan.spec.search.seeds == 1:
        return {}
    configuration = f"{plan.sweep}/{configuration_of(trial.id)}"
    return {"ravel.configuration": configuration, "ravel.seed_index": str(seed_index_of(trial.id))}


def run_name(sweep: str, tags: dict[str, str]) -> str | None:
    """Return the trial of a run, or the sweep if it is the summary run; None if the run is not ours.

    >>> run_name("digits-1", {"ravel.kind": "trial", "ravel.trial": "digits-1/t003"})
    't003'
    """
    if tags.get("ravel.kind") == "sweep":
        return sweep
    return tags.get("ravel.trial", "").rpartition("/")[2] or None


def former_name(sweep: str, trial: str) -> str:
    """Return the name that earlier versions gave the run of a trial.

    >>> former_name("digits-1", "t003")
    't003 digits-1'
    """
    return f"{trial} {sweep}"


def state_tags(status: str, *, reason: str | None = None) -> dict[str, str]:
    """Return the tags of a run's state. They are always complete, so that nothing is left from before a resume.

    >>> state_tags("running")
    {'ravel.status': 'running', 'ravel.reason': ''}
    """
    return {"ravel.status": status, "ravel.reason": _short_reason(reason or "")}


def trial_state_tags(status: str, *, rung: int | None = None, reason: str | None = None) -> dict[str, str]:
    """Return the tags of a trial's state, with the rung that stopped it."""
    return {**state_tags(status, reason=reason), "ravel.rung": "" if rung is None else str(rung)}


def parameters(config: dict[str, Any], *, first: Iterable[str] = ()) -> dict[str, str]:
    """Return a flat configuration as MLflow keeps it: text as it is, and JSON for any other value.

    At most ``MAX_PARAMETERS`` are kept, those named ``first`` before the rest. A value that MLflow would cut off is
    replaced by its length and digest; ``whole_configuration`` then returns the content of an artifact.

    >>> parameters({"epochs": 27, "model.name": "cnn"})
    {'epochs': '27', 'model.name': 'cnn'}
    """
    names = list(dict.fromkeys([*(name for name in first if name in config), *config]))[:MAX_PARAMETERS]
    return {name: _short(_text(config[name])) for name in names}


def whole_configuration(config: dict[str, Any]) -> str | None:
    """Return the content of ``config.json``; None if the parameters are complete."""
    complete = len(config) <= MAX_PARAMETERS and all(len(_text(value)) <= MAX_VALUE for value in config.values())
    return None if complete else json.dumps(config, indent=1)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _short(text: str) -> str:
    if len(text) <= MAX_VALUE:
        return text
    return f"{len(text)} characters, SHA-256 {hashlib.sha256(text.encode()).hexdigest()}: see config.json"


def _short_reason(text: str) -> str:
    """Shorten a reason to the length of a tag: keep its beginning, and name the command that prints it all.

    >>> _short_reason("x" * 7000)[-50:]
    'xxx ... (7000 characters in all: ravel logs SWEEP)'
    """
    if len(text) <= MAX_VALUE:
        return text
    return f"{text[:MAX_REASON]} ... ({len(text)} characters in all: ravel logs SWEEP)"


def data_source(config: dict[str, Any]) -> tuple[str, str]:
    """Return the source of a trial's data set: MLflow's type of source, and the source as JSON.

    >>> data_source({"data.name": "mnist", "data.root": "s3://bucket/data"})
    ('s3', '{"root": "s3://bucket/data"}')
    >>> data_source({"data.name": "mnist", "data.root": "/data"}), data_source({"data.name": "digits"})
    (('local', '{"root": "/data"}'), ('code', '{"name": "digits"}'))
    """
    root = config.get("data.root")
    if not root:
        return "code", json.dumps({"name": str(config.get("data.name", ""))})
    return "s3" if is_remote(str(root)) else "local", json.dumps({"root": root})


def shown_metrics(plan: SweepPlan, taps: Sequence[str], *, reported: Iterable[str] = ()) -> frozenset[str]:
    """Return the metrics of a trial that MLflow shows, ``MAX_METRICS`` at most; the event log has all.

    These are every metric of the whole model, the entanglement of six taps (``tracking.taps``, or else spread over the
    model), and up to the limit the temperatures of these taps, then minor metrics.

    Args:
        plan: Plan of the sweep.
        taps: Taps of the trial's model, in its order.
        reported: Metrics that no list has: those of a training function's first epoch, or a user's own.
    """
    tracking = plan.spec.tracking
    chosen = tracking.taps if tracking.taps is not None else _spread(list(taps), MAX_TAPS)
    of_model = [metric for metric in task_of(plan.spec.trial).metrics if "<" not in metric.name]
    names = [
        *plan.spec.objective.metrics,
        *(metric.name for metric in of_model if not metric.minor),
        *reported,
        *(SYSTEM_METRICS if tracking.system_metrics else ()),
        *(f"entanglement/{tap}" for tap in chosen),
        *(f"temperature/{tap}" for tap in chosen),
        *(metric.name for metric in of_model if metric.minor),
    ]
    return frozenset(list(dict.fromkeys(names))[:MAX_METRICS])


class ShownMetrics:
    """Metrics of each trial that MLflow shows, decided by the first epoch that measured any tap.

    Args:
        plan: Plan of the sweep.
    """

    def __init__(self, plan: SweepPlan) -> None:
        self._plan = plan
        self._of_trial: dict[str, frozenset[str]] = {}

    def of(self, event: EpochReported) -> frozenset[str]:
        """Return the metrics that MLflow shows of the trial of an epoch."""
        if event.trial not in self._of_trial:
            if task_of(self._plan.spec.trial).any_metric:
                self._of_trial[event.trial] = shown_metrics(self._plan, (), reported=event.metrics)
                return self._of_trial[event.trial]
            names = (metric.partition("/") for metric in event.metrics)
            taps = [tap for family, _, tap in names if family == "entanglement"]
            own = [metric for metric in event.metrics if is_own(metric, labels_among(self._plan.spec.trial))]
            shown = shown_metrics(self._plan, taps, reported=own)
            if not taps:
                return shown
            self._of_trial[event.trial] = shown
        return self._of_trial[event.trial]


def _spread(items: Sequence[str], count: int) -> list[str]:
    """Return so many of the items at even distances, including the first and the last.

    >>> _spread(["a", "b", "c", "d", "e"], 3)
    ['a', 'c', 'e']
    """
    if len(items) <= count:
        return list(items)
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]


def settings(plan: SweepPlan) -> dict[str, Any]:
    """Return the settings of the search: the parameters of the summary run."""
    spec = plan.spec
    sections = {"objective": spec.objective, "search": spec.search, "scheduler": spec.scheduler}
    flat = {
        f"{name}.{key}": value
        for name, section in sections.items()
        for key, value in section.model_dump(mode="json", exclude={"points", "others"}).items()
    }
    others = {"objective.others": [f"{objective.metric} {objective.mode}" for objective in spec.objective.others]}
    return {
        **flat,
        **(others if spec.objective.others else {}),
        "pauses": plan.pauses,
        "rungs": list(plan.rungs),
        "epochs": plan.max_epochs,
    }


def spec_yaml(plan: SweepPlan) -> str:
    """Return the spec as a file that launches the same sweep."""
    import yaml  # noqa: PLC0415

    return str(yaml.safe_dump(plan.spec.document(), sort_keys=False))


def counts(state: SweepState, objective: Objective, *, best: Trial | None) -> dict[str, float]:
    """Return the metrics of the summary run at the end of a driver; ``best`` is its best trial or configuration."""
    measured = {f"trials/{status}": float(len(state.with_status(status))) for status in STATUS}  # type: ignore[arg-type]
    score = None if best is None else best.score(objective)
    return {
        **measured,
        "epochs_run": float(state.epochs_run),
        **({} if score is None else {f"best/{objective.metric}": score}),
    }


def _common_tags(plan: SweepPlan) -> dict[str, str]:
    source = plan.provenance
    tags = {"ravel.sweep": plan.sweep, "mlflow.source.name": "ravel"}
    if source.git_commit:
        tags |= {"mlflow.source.git.commit": source.git_commit, "ravel.git_dirty": str(source.git_dirty).lower()}
    if source.git_diff:
        tags["ravel.git_diff"] = source.git_diff
    return tags
