"""Registry of the suites, by name. A suite's module is imported on its first use."""

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
        "deformations": "deformations.deformed_accuracy",
        "entanglement": "representation.entangled_layers",
        "dknn": "uncertainty.dknn_suite",
        "ood": "uncertainty.detection",
        "units": "representation.units",
        "stability": "stability.stability_suite",
        "flattening": "representation.flattening",
    }
)
"""Suite name to the module of this package that defines its `suite`."""


def suite_of(name: str) -> Suite:
    """Return the suite of a name.

    Raises:
        ValueError: an unknown name; lists the known ones.

    >>> suite_of("colour")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: suite: must be one of ['clean', ...], got 'colour'
    """
    if name not in SUITES:
        raise ValueError(f"suite: must be one of {sorted(SUITES)}, got {name!r}")
    return cast("Suite", import_module(f"trainables.evaluation.{SUITES[name]}").suite)
