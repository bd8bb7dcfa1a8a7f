"""Sweep orchestrator: sweep files, Ray Tune, Optuna and MLflow, of which importing it imports none.

Example:
    >>> from orchestrator import SweepSpec
    >>> SweepSpec(name="digits").search.num_trials
    32
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.analysis.result import SweepResult
    from orchestrator.launching import launch, resume
    from orchestrator.planning.loading import load_spec
    from orchestrator.spec.model import SweepSpec

__all__ = ["SweepResult", "SweepSpec", "launch", "load_spec", "resume"]

_HOME = {
    "SweepResult": "orchestrator.analysis.result",
    "SweepSpec": "orchestrator.spec.model",
    "launch": "orchestrator.launching",
    "load_spec": "orchestrator.planning.loading",
    "resume": "orchestrator.launching",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'orchestrator' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
