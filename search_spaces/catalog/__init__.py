"""Named, reviewed fragments of a search space; merge them with `|`.

>>> space = optimizer() | snnl() | mixup() | adversarial()
>>> sorted(space.active({"optimizer.name": "adamw", "snnl.weight": 0.0, "mixup.alpha": 0.0}))[:2]
['adversarial.epsilon', 'mixup.alpha']
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from search_spaces.catalog._adversarial import adversarial
from search_spaces.catalog._mixup import mixup
from search_spaces.catalog._optimizer import optimizer
from search_spaces.catalog._snnl import snnl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from search_spaces.space import SearchSpace

__all__ = ["FRAGMENTS", "adversarial", "mixup", "optimizer", "snnl"]

# What `use:` in a space document may name.
FRAGMENTS: Mapping[str, Callable[[], SearchSpace]] = MappingProxyType(
    {
        "optimizer": optimizer,
        "snnl": snnl,
        "mixup": mixup,
        "adversarial": adversarial,
    }
)
