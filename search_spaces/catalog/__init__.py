"""Named, reviewed fragments of a search space; merge them with `|`.

>>> space = optimizer() | snnl() | mixup() | adversarial()
>>> sorted(space.active({"optimizer.name": "adamw", "snnl.weight": 0.0, "mixup.alpha": 0.0}))[:2]
['adversarial.epsilon', 'mixup.alpha']
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from search_spaces.catalog._adversarial import adversarial, awp, fgsm_rs, mart, n_fgsm, pgd, trades
from search_spaces.catalog._augmentation import rand_augment
from search_spaces.catalog._dropout import dropout
from search_spaces.catalog._gan import gan
from search_spaces.catalog._mixup import input_mixup, manifold_mixup, mixup
from search_spaces.catalog._optimizer import adamw, optimizer, sam, sgd
from search_spaces.catalog._snnl import disentangle, entangle, snnl
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "FRAGMENTS",
    "adamw",
    "adversarial",
    "awp",
    "disentangle",
    "dropout",
    "entangle",
    "fgsm_rs",
    "gan",
    "input_mixup",
    "manifold_mixup",
    "mart",
    "mixup",
    "n_fgsm",
    "optimizer",
    "pgd",
    "rand_augment",
    "regularizers",
    "sam",
    "sgd",
    "snnl",
    "trades",
]


def regularizers() -> SearchSpace:
    """Return all three families, each with its own switch: `snnl`, `mixup` and `adversarial` together.

    >>> sorted(regularizers().active({"snnl.weight": 0.0, "mixup.alpha": 0.0, "adversarial.epsilon": 0.0}))
    ['adversarial.epsilon', 'mixup.alpha', 'snnl.weight']
    """
    return SearchSpace.from_dict({"use": ["regularizers"]})


# The names that `use:` in a space document may hold.
FRAGMENTS: Mapping[str, Callable[[], SearchSpace]] = MappingProxyType(
    {
        "optimizer": optimizer,
        "sgd": sgd,
        "adamw": adamw,
        "snnl": snnl,
        "entangle": entangle,
        "disentangle": disentangle,
        "mixup": mixup,
        "input_mixup": input_mixup,
        "manifold_mixup": manifold_mixup,
        "adversarial": adversarial,
        "fgsm_rs": fgsm_rs,
        "pgd": pgd,
        "trades": trades,
        "n_fgsm": n_fgsm,
        "mart": mart,
        "awp": awp,
        "sam": sam,
        "regularizers": regularizers,
        "gan": gan,
        "dropout": dropout,
        "rand_augment": rand_augment,
    }
)
