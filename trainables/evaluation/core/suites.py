"""Registry of the suites, by name. A suite's module is imported on its first use."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from trainables.evaluation.core.own_suites import is_own, own_suite

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
    """Return the suite of a name, or a user's own of an import path or a registered name.

    Raises:
        ValueError: an unknown name; lists the known ones.
        ConfigError: a user's suite cannot be imported, or is none.

    >>> suite_of("colour")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: suite: must be one of ['clean', ...], got 'colour'
    """
    if name not in SUITES and is_own(name):
        return own_suite(name)
    if name not in SUITES:
        raise ValueError(f"suite: must be one of {sorted(SUITES)}, got {name!r}")
    return cast("Suite", import_module(f"trainables.evaluation.{SUITES[name]}").suite)
