"""Migrations of plans and event logs from older formats.

Format 1, of plans and of events alike, had one convolutional network, named ``cnn``, and one attack of a single step
from a random start, named ``fgsm``. Today these are ``cnn_bn`` and ``fgsm_rs``, and the old names have other meanings.
Format 1 trained in float32; today's default is the best precision of the device.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

RENAMED: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"model.name": {"cnn": "cnn_bn"}, "adversarial.attack": {"fgsm": "fgsm_rs"}}
)
"""New names of values since format 1, by parameter."""

OLDER_SCHEDULER: Mapping[str, str] = MappingProxyType({"name": "asha", "resource": "epochs"})
"""Defaults of a scheduler before ``auto``."""

PRECISION = {"precision": "float32"}


def plan_of_format_1(document: Mapping[str, Any]) -> dict[str, Any]:
    """Migrate a plan's document; its fingerprint stays that of the spec as launched.

    Raises:
        ValueError: it is not the document of a plan of format 1.
    """
    try:
        spec = document["spec"]
        search = {**spec["search"], "points": [point_of_format_1(point) for point in spec["search"]["points"]]}
        space = {**spec["space"], "parameters": _parameters(spec["space"]["parameters"])}
        trial = {**PRECISION, **point_of_format_1(spec["trial"])}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"spec: must be that of a plan of format 1, {type(error).__name__}: {error}") from None
    return {**document, "format": 2, "spec": {**spec, "trial": trial, "search": search, "space": space}}


def with_older_defaults(document: Any) -> Any:
    """Return a plan's document with the older defaults of what its spec left out.

    >>> with_older_defaults({"spec": {"scheduler": {"grace_period": 3}}})["spec"]["scheduler"]
    {'name': 'asha', 'resource': 'epochs', 'grace_period': 3}
    """
    spec = document.get("spec") if isinstance(document, dict) else None
    if not isinstance(spec, dict) or not isinstance(spec.get("scheduler", {}), dict):
        return document
    return {**document, "spec": {**spec, "scheduler": {**OLDER_SCHEDULER, **spec.get("scheduler", {})}}}


def event_of_format_1(document: Mapping[str, Any]) -> dict[str, Any]:
    """Migrate an event's document; a malformed one is returned unchanged, for validation to refuse."""
    point, config = document.get("point"), document.get("config")
    if not (isinstance(point, dict) and isinstance(config, dict)):
        return dict(document)
    return {**document, "point": point_of_format_1(point), "config": config_of_format_1(config)}


def config_of_format_1(config: Mapping[str, Any]) -> dict[str, Any]:
    """Migrate the whole flat configuration of a trial.

    >>> config_of_format_1({"model.name": "cnn", "epochs": 9})
    {'precision': 'float32', 'model.name': 'cnn_bn', 'epochs': 9}
    """
    return {**PRECISION, **point_of_format_1(config)}


def point_of_format_1(point: Mapping[str, Any]) -> dict[str, Any]:
    """Migrate a point, or a part of one.

    >>> point_of_format_1({"adversarial.attack": "fgsm", "adversarial.epsilon": 0.1})
    {'adversarial.attack': 'fgsm_rs', 'adversarial.epsilon': 0.1}
    """
    return {name: _renamed(value, RENAMED.get(name, {})) for name, value in point.items()}


def _parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Migrate the parameters of a space document: domains, and conditions on other parameters."""
    return {
        name: {
            field: point_of_format_1(value) if field == "when" else _renamed(value, RENAMED.get(name, {}))
            for field, value in entry.items()
        }
        for name, entry in parameters.items()
    }


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Rename a value, the options of a domain, or the values in a condition."""
    match value:
        case str():
            return names.get(value, value)
        case list():
            return [_renamed(item, names) for item in value]
        case dict():
            return {key: _renamed(item, names) for key, item in value.items()}
        case _:
            return value
