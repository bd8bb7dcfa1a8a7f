"""Checks for authors of code that a sweep uses: networks, training functions, samplers, schedulers and more.

    from ravel.testing import check_sampler, check_task

They are those of `trainables.testing` and `orchestrator.testing`, imported on first use (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.testing import *  # noqa: F403
    from trainables.testing import *  # noqa: F403

_HOMES = ("orchestrator.testing", "trainables.testing")


def __getattr__(name: str) -> Any:
    if not name.startswith("_"):
        for home in map(import_module, _HOMES):
            if name in home.__all__:
                return getattr(home, name)
    raise AttributeError(f"module 'ravel.testing' has no attribute {name!r}; it exports {', '.join(__dir__())}")


def __dir__() -> list[str]:
    return sorted(name for home in map(import_module, _HOMES) for name in home.__all__)
