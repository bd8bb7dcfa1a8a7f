"""The suites by name. Each module is imported when its suite is asked for."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trainables.evaluation.core.results import Suite

__all__ = ["SUITES", "suite_of"]

SUITES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "clean": "uncertainty.calibration",
        "robust": "robustness.attack_suite",
        "deformations": "deformations",
        "entanglement": "representation.entangled_layers",
        "dknn": "uncertainty.dknn_suite",
        "ood": "uncertainty.detection",
        "units": "representation.units",
        "stability": "stability.stability_suite",
        "flattening": "representation.flattening",
    }
)
"""Name to the module of this package that has its `suite`."""


def suite_of(name: str) -> Suite:
    """The suite of a name.

    Raises:
        ValueError: there is none; names those that there are.

    >>> suite_of("colour")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: suite: must be one of ['clean', ...], got 'colour'
    """
    if name not in SUITES:
        raise ValueError(f"suite: must be one of {sorted(SUITES)}, got {name!r}")
    return cast("Suite", import_module(f"trainables.evaluation.{SUITES[name]}").suite)
