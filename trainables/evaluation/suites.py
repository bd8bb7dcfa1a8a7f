"""The suites by name. Each module is imported when its suite is asked for."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trainables.evaluation.results import Suite

__all__ = ["SUITES", "suite_of"]

SUITES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "clean": "calibration",
        "robust": "ladder",
        "deformations": "deformations",
        "entanglement": "entangled_layers",
        "dknn": "dknn_suite",
        "ood": "detection",
        "units": "units",
        "stability": "stability",
        "flattening": "flattening",
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
