"""Image classifiers with three representation regularisers: soft nearest neighbour loss, mixup, adversarial training.

Plain PyTorch: `train(TrialConfig(epochs=1))` works in a notebook, with no cluster and no tracking server.
Importing this package imports no torch; `TrialConfig` and `train` are fetched on first use (PEP 562).

>>> from trainables import TrialConfig
>>> TrialConfig().data.name
'digits'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainables.config.trial import TrialConfig
    from trainables.tasks.classifier.training import train

__all__ = ["TrialConfig", "train"]

_HOME = {"TrialConfig": "trainables.config.trial", "train": "trainables.tasks.classifier.training"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'trainables' has no attribute {name!r}; it exports {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
