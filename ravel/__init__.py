"""Ravel from Python and from notebooks: one import for sweeps, search spaces and trials.

Importing this package imports neither torch nor Ray; a name is fetched on first use (PEP 562). The packages behind it,
`orchestrator`, `search_spaces` and `trainables`, can be imported too.

Example:
    >>> import ravel
    >>> spec = ravel.SweepSpec(name="digits", trial={"epochs": 9}, search={"num_trials": 4})
    >>> spec.objective.metric
    'val/accuracy'
    >>> sweep = ravel.launch(spec, background=True)  # doctest: +SKIP
    >>> sweep.best().score  # doctest: +SKIP
    0.9889
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.analysis.result import SweepResult, TrialResult
    from orchestrator.changing import OrderAnswer
    from orchestrator.errors import OrchestratorError, PreflightError, RefusedOrder, SpecError
    from orchestrator.launching import resume
    from orchestrator.planning.loading import load_spec
    from orchestrator.spec.model import SweepSpec
    from ravel.launching import launch
    from ravel.sweep import RunningSweep, Sweep, open  # noqa: A004  ravel.open, as gzip.open
    from search_spaces import SearchSpace
    from trainables.config.trial import TrialConfig
    from trainables.tasks.classifier.training import train

__all__ = [
    "OrchestratorError",
    "OrderAnswer",
    "PreflightError",
    "RefusedOrder",
    "RunningSweep",
    "SearchSpace",
    "SpecError",
    "Sweep",
    "SweepResult",
    "SweepSpec",
    "TrialConfig",
    "TrialResult",
    "launch",
    "load_spec",
    "open",
    "resume",
    "train",
]

_HOME = {
    "OrchestratorError": "orchestrator.errors",
    "OrderAnswer": "orchestrator.changing",
    "PreflightError": "orchestrator.errors",
    "RefusedOrder": "orchestrator.errors",
    "RunningSweep": "ravel.sweep",
    "SearchSpace": "search_spaces",
    "SpecError": "orchestrator.errors",
    "Sweep": "ravel.sweep",
    "SweepResult": "orchestrator.analysis.result",
    "SweepSpec": "orchestrator.spec.model",
    "TrialConfig": "trainables.config.trial",
    "TrialResult": "orchestrator.analysis.result",
    "launch": "ravel.launching",
    "load_spec": "orchestrator.planning.loading",
    "open": "ravel.sweep",
    "resume": "orchestrator.launching",
    "train": "trainables.tasks.classifier.training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ravel' has no attribute {name!r}; it exports {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
