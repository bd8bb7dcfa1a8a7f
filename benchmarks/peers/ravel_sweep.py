"""The work under Ravel: the spec of its sweep, and the reports in its log."""

from pathlib import Path
from typing import Any

import yaml
from results import Report
from settings import Settings

from orchestrator.state.event_log import read_events
from orchestrator.state.events import EpochReported
from orchestrator.state.sweep_lookup import find_sweep

FIXED = {
    "data.name": "mnist",
    "model.name": "cnn",
    "optimizer.name": "sgd",
    "device": "cpu",
    "evaluation.robust_epsilon": 0.0,
}
REGULARIZED = {
    "snnl.layers": "conv1+conv2+penultimate",
    "snnl.temperature_mode": "absolute",
    "snnl.temperature": 100.0,
    "mixup.layers": "all",
    "adversarial.attack": "pgd",
    "adversarial.steps": 3,
    "adversarial.clean_fraction": 0.0,
}
"""The methods as in losses.py."""
STRENGTHS = ("snnl.weight", "mixup.alpha", "adversarial.epsilon")


def spec_of(settings: Settings) -> dict[str, Any]:
    """Return the spec: its baseline is the first point, and everything that is not said is at its default."""
    baseline, *points = settings.points
    return {
        "name": "peers",
        "trial": {
            **FIXED,
            **(REGULARIZED if settings.work == "regularized" else {}),
            "data.root": settings.data_root,
            "data.cache": str(Path(settings.folder, "cache")),
            "epochs": settings.epochs,
            "batch_size": settings.batch_size,
            "seed": settings.seed,
        },
        "space": {"parameters": {name: _domain(**domain) for name, domain in settings.space.items()}},
        "search": {
            "num_trials": len(settings.points),
            "baseline": {name: value for name, value in baseline.items() if name not in STRENGTHS},
            "points": [dict(point) for point in points],
        },
        "scheduler": {"name": "asha", "grace_period": settings.rungs[0], "reduction_factor": settings.factor},
        "resources": {"gpus": 0, "max_concurrent": settings.slots},
        "tracking": {"uri": settings.tracking_uri},
    }


def _domain(*, low: float, high: float, log: bool = False) -> dict[str, Any]:
    return {"float": [low, high], **({"log": True} if log else {})}


def write_spec(settings: Settings) -> Path:
    """Write the spec into the folder of the run."""
    path = Path(settings.folder, "sweep.yaml")
    path.write_text(yaml.safe_dump(spec_of(settings), sort_keys=False), encoding="utf-8")
    return path


def reports_of(settings: Settings) -> list[Report]:
    """Return the reports in the log of the sweep."""
    sweep = find_sweep(Path(settings.folder, "results"))
    epochs = [event for event, _ in read_events(sweep.events) if isinstance(event, EpochReported)]
    return [Report(event.time, event.trial, event.epoch, event.metrics["val/accuracy"] or 0.0) for event in epochs]
